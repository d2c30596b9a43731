"""The running average of the adapter: what it is, what shows it, and that a resume goes on with it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from engine.average import Average, AverageSettings
from tests.test_resume import resume_here
from tests.training import small_preset, train_here


class Adapter:
    """As much of an adapter as an average sees."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.vectors = {"unet": nn.Parameter(torch.zeros(4, dtype=dtype))}
        self.times_changed = 0

    def changed(self) -> None:
        self.times_changed += 1


def trained(settings: AverageSettings, steps: int, dtype: torch.dtype = torch.float32) -> tuple[Adapter, Average]:
    """An adapter whose weights are the step's number, and its average."""
    adapter = Adapter(dtype)
    average = Average(adapter, settings)  # pyright: ignore[reportArgumentType]
    for step in range(1, steps + 1):
        adapter.vectors["unet"].data.fill_(step)
        average.update(step)
    return adapter, average


@pytest.mark.parametrize("on_cpu", [False, True])
def test_each_step_is_weighted_by_the_powers_of_the_decay(on_cpu):
    _, average = trained(AverageSettings(0.5, warmup=False, on_cpu=on_cpu), 3)
    assert average.vectors["unet"].tolist() == [((0 * 0.5 + 1 * 0.5) * 0.5 + 2 * 0.5) * 0.5 + 3 * 0.5] * 4


def test_the_warm_up_lets_decay_rise_to_its_value():
    settings = AverageSettings(0.9)
    assert [settings.decay_at(step) for step in (1, 2, 71, 1000)] == [2 / 11, 3 / 12, 72 / 81, 0.9]


def test_before_its_start_it_is_the_weights_themselves():
    settings = AverageSettings(0.9, warmup=False, start_step=3)
    assert trained(settings, 3)[1].vectors["unet"].tolist() == [3.0] * 4
    assert trained(settings, 4)[1].vectors["unet"].tolist() == pytest.approx([3.1] * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_shown_inside_a_block_only_even_when_that_fails(dtype):
    adapter, average = trained(AverageSettings(0.5, warmup=False), 3, dtype)
    with pytest.raises(KeyError), average.shown():
        assert adapter.vectors["unet"].tolist() == [2.125] * 4
        raise KeyError
    assert adapter.vectors["unet"].tolist() == [3.0] * 4
    assert adapter.times_changed == 2  # what layers have cast already is of no use


def test_without_decay_nothing_is_kept_or_shown():
    adapter, average = trained(AverageSettings(), 3)
    with average.shown():
        assert adapter.vectors["unet"].tolist() == [3.0] * 4
    assert average.tensors() == {} and adapter.times_changed == 0


@pytest.mark.slow
def test_checkpoints_hold_the_average_and_a_resume_goes_on_with_it(tmp_path):
    changes = {"run__steps": 4, "run__save_precision": "fp32"}
    plain = train_here(small_preset(tmp_path, run__save_every_steps=1, **changes), tmp_path / "plain")
    changes |= {"run__ema_decay": 0.3, "run__ema_device": "cpu", "run__save_every_steps": 2}
    made = train_here(small_preset(tmp_path, **changes), tmp_path / "made")
    averaged = load_file(made.checkpoints / "tiny.safetensors")
    ups = [name for name in averaged if name.endswith("lora_up.weight")]
    wanted = {name: torch.zeros_like(averaged[name]) for name in ups}
    for step, file in enumerate(["tiny-000001", "tiny-000002", "tiny-000003", "tiny"], start=1):
        weights = load_file(plain.checkpoints / f"{file}.safetensors")
        share = 1 - min(0.3, (1 + step) / (10 + step))
        wanted = {name: average.lerp(weights[name], share) for name, average in wanted.items()}
    for name in ups:
        torch.testing.assert_close(averaged[name], wanted[name])
    raw = load_file(made.state / "step-00000004.safetensors")
    assert all(torch.equal(raw[f"adapter.{name}"], weights[name]) for name in ups)
    (made.state / "step-00000004.safetensors").unlink()
    (made.checkpoints / "tiny.safetensors").unlink()
    resume_here(made)
    again = load_file(made.checkpoints / "tiny.safetensors")
    assert all(torch.equal(again[name], averaged[name]) for name in averaged)
