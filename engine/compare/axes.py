"""What can change along an axis, and how its values are written. A new kind is a line in AXES. Torch-free."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.compare.number_lists import MOST_VALUES, lines_of, numbers_of, shown, words_of
from engine.compare.of_run import Checkpoint, checkpoints_of, files_in
from engine.compare.settings import Axis
from engine.drawing.settings import BY_PATH, SPREAD_SAMPLERS
from engine.errors import Problem, UserError
from engine.preset import resolve

NUM = "NUM"
"""What stands for a number in the path of checkpoints."""
_SIZE = re.compile(r"(\d+)\s*[x×*]\s*(\d+)")


@dataclass(frozen=True)
class Value:
    """One place on an axis: what it is called, and what it changes.

    `checkpoint`: the file whose LoRA is compared, or "" for none at all; None leaves that to others. `replaced`: words
    of the prompts, and what stands there instead.
    """

    label: str
    changes: tuple[tuple[str, Any], ...] = ()
    checkpoint: str | None = None
    strength: float | None = None
    replaced: tuple[str, str] | None = None
    step: int | None = None

    @property
    def folder(self) -> str:
        """The name of the folder that the value's file lies in, or ""."""
        file = self.checkpoint or dict(self.changes).get("model.base")
        return resolve(str(file)).parent.name if file else ""


Read = Callable[[str], tuple[list[Value], list[str]]]
"""Values of a text, and a sentence for each fault in it."""


@dataclass(frozen=True)
class AxisKind:
    """title: as the legends call it. `many`: whether it may stand on several axes."""

    title: str
    read: Read
    many: bool = False


def read_axis(axis: Axis, where: str, problems: list[Problem]) -> tuple[Value, ...]:
    """The values of an axis; its faults are added to `problems`, at `where`.values."""
    kind, place = AXES[axis.kind], f"{where}.values"
    if axis.kind == "none":
        if axis.values.strip():
            problems.append(Problem(f"{where}.kind", "is none, but there are values. Choose what changes."))
        return (Value(""),)
    values, faults = kind.read(axis.values)
    if not values and not faults:
        faults = ["is empty. Write what stands on this axis, with commas or one a line."]
    if len(values) > MOST_VALUES:
        faults.append(f"has {len(values):,} values; {MOST_VALUES} are the most. Leave some out.")
    problems += [Problem(place, fault) for fault in faults]
    return told_apart(values)


def told_apart(values: Sequence[Value]) -> tuple[Value, ...]:
    """Values of the same name get what tells them apart: the folder of their file, else a number."""
    names = _apart([value.label for value in values], [value.folder for value in values])
    return tuple(replace(value, label=name) for value, name in zip(values, names, strict=True))


def _apart(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    several = {name for name, count in Counter(names).items() if count > 1}
    if any(folder for name, folder in zip(names, folders, strict=True) if name in several):
        placed = [
            f"{folder}/{name}" if folder and name in several else name
            for name, folder in zip(names, folders, strict=True)
        ]
        return _apart(placed, [""] * len(placed))
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if name in several else name)
    return found


# ---------------------------------------------------------------- checkpoints


def read_checkpoints(text: str) -> tuple[list[Value], list[str]]:
    """One a line: `none`, a run's folder, any folder, a file, or a path with NUM and the numbers after a colon."""
    values: list[Value] = []
    faults: list[str] = []
    for line in lines_of(text):
        try:
            values += [Value("no LoRA", checkpoint="")] if line.lower() == "none" else _checkpoints(line)
        except UserError as error:
            faults += [str(problem) for problem in error.problems]
    files = {value.checkpoint: value for value in values}
    return list(files.values()), faults + colon_faults(file for file in files if file)


def colon_faults(paths: Iterable[str]) -> list[str]:
    """A sentence for each path that a line of LoRAs, where colons part the strengths, cannot hold."""
    return [
        f"a colon in a file's name cannot be written here (got {path}). Rename it." for path in paths if ":" in path[2:]
    ]


def _checkpoints(line: str) -> list[Value]:
    if NUM in line:
        return [_value_of(one) for one in _numbered(line)]
    path = resolve(line)
    if (path / "preset.json").is_file():
        return [_value_of(one) for one in checkpoints_of(path)]
    if path.is_dir():
        if not (found := files_in(path)):
            raise UserError("there is no .safetensors file in this folder. Give a run's folder or a file.", line)
        return [_value_of(one) for one in found]
    if not path.is_file():
        raise UserError("there is no such file or folder. Give a run's folder, or a LoRA file.", line)
    return [Value(path.stem, checkpoint=str(path))]


def _numbered(line: str) -> list[Checkpoint]:
    """`folder/name-NUM.safetensors: 000001-000005, 10`; without numbers all that are there."""
    pattern, numbers = line, ""
    head, mark, tail = line.rpartition(":")
    if mark and NUM in head:
        pattern, numbers = head.strip(), tail
    path = resolve(pattern)
    if not numbers.strip():
        return _all_that_fit(path, line)
    digits = re.search(r"\d+", numbers)
    width = len(digits[0]) if digits else 1
    found, faults = numbers_of(numbers)
    if faults or any(number < 0 or number != int(number) for number in found):
        raise UserError(f"{NUM} takes whole numbers like 000001-000005 (got {numbers.strip()!r}).", pattern)
    named = [f"{int(number):0{width}d}" for number in found]
    files = [(Path(str(path).replace(NUM, name)), name) for name in named]
    missing = [name for file, name in files if not file.is_file()]
    if missing:
        told = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise UserError(f"there is no file for {told}. Check the numbers, or leave them out to take all.", pattern)
    return [Checkpoint(file, name, int(name)) for file, name in files]


def _all_that_fit(path: Path, line: str) -> list[Checkpoint]:
    if NUM in str(path.parent):
        raise UserError(f"{NUM} in a folder's name needs numbers. Write them after a colon, like 1-5.", line)
    shape = re.compile(re.escape(path.name).replace(NUM, r"(\d+)", 1).replace(NUM, r"\1"))
    files = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    fits = [(file, match[1]) for file in files if (match := shape.fullmatch(file.name))]
    if not fits:
        raise UserError(f"no file fits with a number in the place of {NUM}. Check the path.", line)
    return [Checkpoint(file, name, int(name)) for file, name in sorted(fits, key=lambda each: int(each[1]))]


def _value_of(one: Checkpoint) -> Value:
    return Value(one.label, checkpoint=str(one.path), step=one.step)


# ---------------------------------------------------------------- the other kinds


def _read_strengths(text: str) -> tuple[list[Value], list[str]]:
    found, faults = numbers_of(text)
    faults += [f"a strength must be from -10 to 10 (got {shown(one)})." for one in found if abs(one) > 10]
    return [Value(f"strength {shown(one)}", strength=float(one)) for one in found if abs(one) <= 10], faults


def _read_prompts(text: str) -> tuple[list[Value], list[str]]:
    """The first words are looked for in prompt and negative prompt, and stay in the first place of the axis."""
    words = lines_of(text) if "\n" in text.strip() else words_of(text)
    if len(words) < 2:
        return [], ["needs the words to replace and, after them, what for. Write one a line."] if words else []
    return [Value(word, replaced=(words[0], word)) for word in dict.fromkeys(words)], []


def _numbers_for(path: str, title: str, least: int = -(2**63)) -> Read:
    def read(text: str) -> tuple[list[Value], list[str]]:
        found, faults = numbers_of(text)
        faults += [f"{title} must be {least} at least (got {shown(one)})." for one in found if one < least]
        return [Value(f"{title} {shown(one)}", ((path, shown(one)),)) for one in found if one >= least], faults

    return read


def _read_samplers(text: str) -> tuple[list[Value], list[str]]:
    """A sampler, with the noise levels after it where they are to change too: `dpmpp_2m karras`."""
    values: list[Value] = []
    faults: list[str] = []
    for words in dict.fromkeys(words_of(text)):
        sampler, _, sigmas = words.partition(" ")
        changes: list[tuple[str, Any]] = [("sampling.sampler", sampler)]
        if sigmas:
            changes.append(("sampling.sigmas", sigmas.strip()))
        elif sampler not in SPREAD_SAMPLERS:  # it has no others
            changes.append(("sampling.sigmas", "normal"))
        values.append(Value(words, tuple(changes)))
    return values, faults


def _read_sizes(text: str) -> tuple[list[Value], list[str]]:
    words = dict.fromkeys(words_of(text))
    found = {word: _SIZE.fullmatch(word) for word in words}
    faults = [f"a size is written like 1024x1024 (got {word!r})." for word, match in found.items() if not match]
    values = [
        Value(f"{match[1]}×{match[2]}", (("picture.width_px", match[1]), ("picture.height_px", match[2])))
        for match in found.values()
        if match
    ]
    return values, faults


def _read_models(text: str) -> tuple[list[Value], list[str]]:
    paths = list(dict.fromkeys(lines_of(text)))
    missing = [path for path in paths if not resolve(path).exists()]
    faults = [f"there is no {path}. Choose an SDXL checkpoint or folder." for path in missing]
    return [Value(Path(path).stem, (("model.base", path),)) for path in paths], faults


def _read_setting(text: str) -> tuple[list[Value], list[str]]:
    """`sampling.cfg_rescale = 0, 0.4-0.8:0.2`; for texts and files one value a line."""
    path, mark, written = text.partition("=")
    path = path.strip()
    if not mark or path not in BY_PATH:
        near = f" There is no setting {path!r}." if mark else ""
        return [], [f"is written like sampling.cfg_rescale = 0, 0.5, 0.7.{near} See docs/sampling.md for all names."]
    if path in ("picture.count", "picture.batch_size", "picture.folder") or path.startswith("preview."):
        return [], [f"{path} changes no picture, so there is nothing to compare. Choose another setting."]
    item = BY_PATH[path]
    name = item.label.lower()
    if item.type in (int, float):
        return _numbers_for(path, name)(written)
    words = lines_of(written) if item.type is str and not item.choices else words_of(written)
    return [Value(f"{name} {word}", ((path, word),)) for word in dict.fromkeys(words)], []


AXES: dict[str, AxisKind] = {
    "none": AxisKind("", lambda text: ([], [])),
    "checkpoint": AxisKind("checkpoint", read_checkpoints),
    "strength": AxisKind("strength", _read_strengths),
    "prompt": AxisKind("prompt", _read_prompts, many=True),
    "seed": AxisKind("seed", _numbers_for("picture.seed", "seed", 0)),
    "cfg_scale": AxisKind("CFG scale", _numbers_for("sampling.cfg_scale", "CFG")),
    "steps": AxisKind("steps", _numbers_for("sampling.steps", "steps")),
    "sampler": AxisKind("sampler", _read_samplers),
    "size": AxisKind("size", _read_sizes),
    "base_model": AxisKind("base model", _read_models),
    "setting": AxisKind("setting", _read_setting, many=True),
}


def repeated(axes: dict[str, Axis], values: dict[str, tuple[Value, ...]]) -> list[Problem]:
    """What stands on two axes and would be changed twice."""
    found: list[Problem] = []
    for (first, one), (second, other) in itertools.combinations(axes.items(), 2):
        same_kind = one.kind == other.kind != "none" and not AXES[one.kind].many
        paths = [{path for value in values[name] for path, _ in value.changes} for name in (first, second)]
        both = sorted(paths[0] & paths[1])
        if same_kind or both:
            what = both[0] if both else AXES[one.kind].title
            found.append(Problem(f"{second}.kind", f"{what} stands on the axis {first}, too. Choose something else."))
    return found
