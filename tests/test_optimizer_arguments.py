"""Free arguments of optimizers: read, checked without torch, and handed on beside the settings."""

from __future__ import annotations

import pytest

from engine.errors import UserError
from engine.optimizer_arguments import ARGUMENTS, argument_problems, arguments_of, places, read_extra, ruled_by_preset
from engine.optimizer_kinds import OPTIMIZERS
from engine.sections.optimizer import Optimizer


def settings(name: str, **values: object) -> Optimizer:
    return Optimizer.model_validate({"name": name, **values})


@pytest.mark.parametrize("text", [
    "d0=1e-5, betas=0.9,0.99, bias_correction=True", "d0 = 1e-5; betas=(0.9, 0.99)\nbias_correction=true",
    "d0=1e-5 betas=[0.9,0.99] bias_correction=True",
])  # fmt: skip
def test_pairs_are_read_however_they_are_separated(text):
    found = arguments_of(settings("prodigy", extra=text))
    assert {key: found[key] for key in ("d0", "betas", "bias_correction")} == {
        "d0": 1e-5, "betas": (0.9, 0.99), "bias_correction": True,
    }  # fmt: skip
    assert read_extra("") == []


FAULTS = {
    "unknown, with the nearest": ("prodigy", "d_coeff=2", r"does not know d_coeff. Do you mean d_coef\?"),
    "unknown, with all": ("sgd_nesterov", "zzz=1", "It knows momentum"),
    "wrong type": ("prodigy", "d0=small", r"d0 must be a number \(got small\)"),
    "number for a switch": ("prodigy", "bias_correction=1", r"must be True or False \(got 1\)"),
    "fraction for a count": ("muon", "ns_steps=2.5", "a whole number"),
    "too few": ("adan", "betas=0.9,0.99", "3 numbers with commas"),
    "nothing": ("prodigy", "d0=", "got nothing"),
    "rate": ("adamw", "lr=1e-3", "the learning rates of the parts"),
    "decay": ("adamw", "weight_decay=0.1", "optimizer.weight_decay"),
    "not for choice": ("sgd_nesterov", "nesterov=False", "not for choice"),
    "twice": ("prodigy", "d0=1e-5, d0=1e-4", "more than once"),
    "no pair": ("prodigy", "much", "name=value"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_a_sentence(case):
    name, extra, message = FAULTS[case]
    with pytest.raises(UserError, match=message) as caught:
        arguments_of(settings(name, extra=extra))
    assert caught.value.problems[0].where == "optimizer.extra"
    assert str(caught.value).endswith((".", "?"))


def test_zero_leaves_the_optimizer_its_own_numbers():
    assert set(arguments_of(settings("lion"))) == {"weight_decay"}
    assert arguments_of(settings("lion", beta2=0.95))["betas"] == (0.9, 0.95)
    assert arguments_of(settings("adan", beta1=0.5))["betas"] == (0.5, 0.92, 0.99)
    assert arguments_of(settings("sgd_nesterov", beta1=0.5))["momentum"] == 0.5


@pytest.mark.parametrize(
    ("name", "setting"), [("muon", "beta2"), ("came", "epsilon"), ("lion", "epsilon"), ("adafactor", "beta2")]
)
def test_a_number_that_an_optimizer_does_not_have_is_refused(name, setting):
    (problem,) = argument_problems(settings(name, **{setting: 0.5}))
    assert problem.where == f"optimizer.{setting}" and name in problem.message


def test_a_number_is_given_in_one_place():
    (problem,) = argument_problems(settings("prodigy", beta1=0.8, extra="betas=0.9,0.99"))
    assert "betas is given here and in optimizer.beta1" in problem.message


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_own_and_fixed_arguments_are_known_and_defaults_are_sound(name):
    kind = OPTIMIZERS[name]
    assert set(kind.own) <= set(ARGUMENTS[name])
    assert not set(kind.fixed) & set(ARGUMENTS[name])
    assert not list(argument_problems(settings(name)))
    assert all(argument in ARGUMENTS[name] for argument, _ in places(name).values())


def test_what_the_preset_rules_follows_it_after_a_resume():
    assert ruled_by_preset(settings("prodigy", extra="d_coef=2")) == ("weight_decay", "betas", "eps", "d_coef")
