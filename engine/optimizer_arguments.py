"""The arguments of optimizers: from settings and free text to what their classes take, checked. Torch-free.

What each class takes is frozen in optimizer_arguments.json, {optimizer: {argument: [type, default]}}, so that a preset
can be checked without torch; `python -m engine.optimizers` writes it anew, and a test compares it with the packages.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import Problem, UserError
from engine.optimizer_kinds import OPTIMIZERS
from engine.sections.optimizer import Optimizer

WHERE = "optimizer.extra"
TABLE = Path(__file__).with_name("optimizer_arguments.json")
ARGUMENTS: dict[str, dict[str, tuple[str, Any]]] = {
    name: {argument: (about[0], about[1]) for argument, about in found.items()}
    for name, found in json.loads(TABLE.read_text(encoding="utf-8")).items()
}
_KINDS = {"float": "a number", "int": "a whole number", "bool": "True or False", "text": "a word"}
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None, "inf": float("inf")}
_NAME = re.compile(r"(?:^|[\s,;])([A-Za-z_]\w*)\s*=(?!=)")


def arguments_of(settings: Optimizer) -> dict[str, Any]:
    """Keyword arguments for the optimizer's class, without parameters and learning rate. Raises UserError."""
    for problem in argument_problems(settings):
        raise UserError(problem.message, problem.where)
    kind, known = OPTIMIZERS[settings.name], ARGUMENTS[settings.name]
    found: dict[str, Any] = {"weight_decay": settings.weight_decay, **kind.own}
    for name, text in read_extra(settings.extra):
        found[name] = _value(text, known[name][0])
    return {**found, **_of_settings(settings), **kind.fixed}


def read_extra(text: str) -> list[tuple[str, str]]:
    """The pairs of "name=value, name=value": commas, semicolons, blanks and lines separate; brackets are not needed."""
    matches = list(_NAME.finditer(text))
    starts = [match.start() for match in matches] + [len(text)]
    values = [text[match.end() : end] for match, end in zip(matches, starts[1:], strict=True)]
    return [(match[1], value.strip(" \t\r\n,;")) for match, value in zip(matches, values, strict=True)]


def argument_problems(settings: Optimizer) -> Iterator[Problem]:
    """What is wrong with `extra`, and which of beta1, beta2 and epsilon this optimizer does not have."""
    pairs = read_extra(settings.extra)
    if settings.extra.strip() and not _NAME.match(settings.extra.strip()):
        yield Problem(WHERE, f"is not of the form name=value, name=value (got {settings.extra.strip()}).")
    names = [name for name, _ in pairs]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem(WHERE, f"{name} is given more than once. Leave one.")
    for name, text in pairs:
        what = _fault(settings.name, name, text)
        if what:
            yield Problem(WHERE, what)
    found = places(settings.name)
    for setting, value in _numbers(settings).items():
        if value and setting in found and found[setting][0] in names:
            yield Problem(WHERE, f"{found[setting][0]} is given here and in optimizer.{setting}. Leave one.")
        elif value and setting not in found:
            what = f"{settings.name} has no such number (got {value:g}). Set it to 0."
            yield Problem(f"optimizer.{setting}", what)


def _numbers(settings: Optimizer) -> dict[str, float]:
    return {"beta1": settings.beta1, "beta2": settings.beta2, "epsilon": settings.epsilon}


def places(optimizer: str) -> dict[str, tuple[str, int | None]]:
    """Where the settings beta1, beta2 and epsilon go in this optimizer's arguments: (argument, place in it)."""
    known = ARGUMENTS[optimizer]
    found: dict[str, tuple[str, int | None]] = {}
    if "betas" in known:
        found |= {"beta1": ("betas", 0), "beta2": ("betas", 1)}
    elif "momentum" in known or "beta1" in known:
        found["beta1"] = ("momentum" if "momentum" in known else "beta1", None)
    if known.get("eps", ("",))[0] in ("float", "float or none"):
        found["epsilon"] = ("eps", None)
    return found


def ruled_by_preset(settings: Optimizer) -> tuple[str, ...]:
    """The arguments that a preset decides: after a resume they are as the preset says, not as they were."""
    named = [name for name, _ in read_extra(settings.extra)]
    return ("weight_decay", *dict.fromkeys([argument for argument, _ in places(settings.name).values()] + named))


def _of_settings(settings: Optimizer) -> dict[str, Any]:
    """beta1, beta2 and epsilon under the optimizer's names; those that are 0 are left to it."""
    found: dict[str, Any] = {}
    for setting, (argument, place) in places(settings.name).items():
        value = _numbers(settings)[setting]
        if value and place is None:
            found[argument] = value
        elif value:
            before = found.get(argument) or tuple(ARGUMENTS[settings.name][argument][1])
            found[argument] = tuple(value if number == place else old for number, old in enumerate(before))
    return found


def _fault(optimizer: str, name: str, text: str) -> str:
    """What is wrong with one pair, or ""."""
    known = ARGUMENTS[optimizer]
    if name == "lr":
        return "lr has settings of its own: the learning rates of the parts. Remove it here."
    if name == "weight_decay":
        return "weight_decay has a setting of its own, optimizer.weight_decay. Remove it here."
    if name in OPTIMIZERS[optimizer].fixed:
        return f"{name} is not for choice with {optimizer}. Remove it."
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        remedy = f"Do you mean {nearest[0]}?" if nearest else f"It knows {', '.join(known) or 'none'}."
        return f"{optimizer} does not know {name}. {remedy}"
    try:
        _value(text, known[name][0])
    except ValueError as error:
        return f"{name} must be {error} (got {text or 'nothing'})."
    return ""


def _value(text: str, kind: str) -> Any:
    """The value of a text. Raises ValueError with what was expected."""
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = _WORDS.get(text.lower(), text)
    base, _, rest = kind.partition(" ")
    if base == "floats":
        count = int(rest)
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        if len(numbers) != count or not all(_is_number(part) or part is None for part in numbers):
            raise ValueError(f"{count} numbers with commas between")
        return tuple(numbers)
    wanted = _KINDS[base] + (" or None" if rest == "or none" else "")
    if value is None and rest == "or none":
        return None
    if base == "float" and isinstance(value, int | float) and _is_number(value):
        return float(value)
    right = {
        "int": _is_number(value) and isinstance(value, int),
        "bool": isinstance(value, bool),
        "text": isinstance(value, str),
    }
    if not right.get(base, False):
        raise ValueError(wanted)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
