"""The cells of a comparison: what each draws, in an order that loads as little as possible. Torch-free."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.compare.axes import AXES, Value, read_axis, repeated
from engine.compare.settings import CompareSettings, DrawingGroups
from engine.data.digests import file_digest
from engine.drawing.lora_lines import LoraChoice, read_lora_lines
from engine.drawing.plan import DrawingPlan, plan_drawing
from engine.drawing.settings import DrawingPreset
from engine.errors import PresetError, Problem, UserError
from engine.preset import resolve
from engine.tools.tool import Row

MOST_CELLS = 5000
Place = tuple[int, int, int]
# What changes no picture; and what is told by the content of files instead
_WITHOUT_EFFECT = ("picture.count", "picture.batch_size", "picture.folder", "model.threads")
_TOLD_OTHERWISE = (
    *("picture.prompt", "picture.negative", "picture.wildcards_folder", "loras.files", "loras.folder"),
    *("model.base", "model.vae", "refiner.model", "image.init", "image.mask", "picture.seed"),
)


@dataclass(frozen=True)
class Cell:
    """One place of the plot (x, y, z from 0), what it is called, and the preset of its picture."""

    place: Place
    label: str
    preset: DrawingPreset

    @property
    def identity(self) -> str:
        """Cells of the same identity show the same picture, as far as settings tell."""
        values = {path: value for path, value in self.preset.values().items() if _has_effect(path)}
        return json.dumps(values, sort_keys=True)

    def row(self, picture: str = "") -> Row:
        """The cell in the job's table. No two cells of a comparison have the same label."""
        return Row(self.label, "draw", picture)


@dataclass(frozen=True)
class Plot:
    """Axis values by x, y, z, and all cells in the order of drawing."""

    values: tuple[tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]
    titles: tuple[str, str, str]
    cells: tuple[Cell, ...]


def plot_of(settings: CompareSettings) -> Plot:
    """All cells. Raises PresetError with every fault of settings, axes and cells at once; looks into no model."""
    problems: list[Problem] = []
    cells: list[Cell] = []
    start = start_of(settings, problems)
    axes = {"x": settings.x, "y": settings.y, "z": settings.z}
    values = {name: read_axis(axis, name, problems) for name, axis in axes.items()}
    problems += repeated(axes, values)
    if settings.picture.count != 1:
        what = f"a comparison draws one picture a cell (got {settings.picture.count})."
        problems.append(Problem("picture.count", f"{what} Set it to 1; seeds can stand on an axis."))
    if all(axis.kind == "none" for axis in axes.values()):
        problems.append(Problem("x.kind", "is none, and so are y and z. Choose what changes on one of them."))
    count = len(values["x"]) * len(values["y"]) * len(values["z"])
    if count > MOST_CELLS:
        problems.append(Problem("x.values", f"there would be {count:,} cells; {MOST_CELLS:,} are the most."))
    elif start is not None:
        cells = _cells(start, settings, values, problems)
    if problems:
        raise PresetError(_each_once(problems))
    titles = (AXES[settings.x.kind].title, AXES[settings.y.kind].title, AXES[settings.z.kind].title)
    return Plot((values["x"], values["y"], values["z"]), titles, tuple(in_order(cells)))


def start_of(settings: DrawingGroups, problems: list[Problem]) -> DrawingPreset | None:
    """What all pictures begin with; None where it has faults, which are added to `problems`."""
    try:
        return settings.drawing()
    except PresetError as error:
        problems += error.problems
    return None


def _cells(
    start: DrawingPreset, settings: CompareSettings, axes: Mapping[str, tuple[Value, ...]], problems: list[Problem]
) -> list[Cell]:
    """All cells; what the drawing settings say to a value of an axis is added to `problems` as that axis's."""
    found: list[Cell] = []
    places = itertools.product(*(enumerate(axes[name]) for name in ("z", "y", "x")))
    for (z, on_z), (y, on_y), (x, on_x) in places:
        chosen = {"x": on_x, "y": on_y, "z": on_z}
        try:
            preset = drawn_with(start, list(chosen.values()), settings.strength)
        except PresetError as error:
            problems += [_of_axis(problem, chosen) for problem in error.problems]
            continue
        label = " · ".join(value.label for value in chosen.values() if value.label)
        found.append(Cell((x, y, z), label, preset))
    return found


def _of_axis(problem: Problem, chosen: Mapping[str, Value]) -> Problem:
    """The problem, at the axis that changes the setting it is of."""
    changing = [name for name, value in chosen.items() if problem.where in dict(value.changes)]
    return Problem(f"{changing[0]}.values", str(problem)) if changing else problem


def drawn_with(start: DrawingPreset, chosen: Sequence[Value], strength: float) -> DrawingPreset:
    """The preset with what values of axes change. Raises PresetError where something does not go together."""
    changes: dict[str, Any] = {"picture.count": 1, "picture.batch_size": 1}
    for value in chosen:
        changes |= dict(value.changes)
    for words, instead in (value.replaced for value in chosen if value.replaced):
        paths = ("picture.prompt", "picture.negative")
        texts = {path: str(changes.get(path, start.get(path))) for path in paths}
        if not any(words in text for text in texts.values()):
            what = f"the words to replace do not stand there (got {words!r}). Write them as in the prompt."
            raise PresetError([Problem("picture.prompt", what)])
        changes |= {path: text.replace(words, instead) for path, text in texts.items()}
    strengths = [value.strength for value in chosen if value.strength is not None]
    files = [value.checkpoint for value in chosen if value.checkpoint is not None]
    if files or strengths:
        lines = str(changes.get("loras.files", start.loras.files))
        changes["loras.files"] = lora_lines(lines, files, strengths[0] if strengths else None, strength)
    return start.changed(changes)


def lora_lines(lines: str, files: Sequence[str], on_axis: float | None, otherwise: float) -> str:
    """The LoRAs of a cell. `files`: the compared checkpoint ("" for none), which stands first; without one the
    strength of the axis is that of the first LoRA in the list, whose text encoders keep their share.

    Raises PresetError where a strength has no LoRA to act on.
    """
    chosen, problems = read_lora_lines(lines)
    if problems:
        raise PresetError(problems)
    strength = otherwise if on_axis is None else on_axis
    if files:
        chosen = [LoraChoice(Path(file), strength, strength) for file in files if file] + chosen
    elif not chosen:
        what = "there is no LoRA whose strength could change. Name one, or put checkpoints on another axis."
        raise PresetError([Problem("loras.files", what)])
    else:
        first = chosen[0]
        text = strength * first.text_strength / first.strength if first.strength else strength
        chosen = [LoraChoice(first.path, strength, round(text, 6), first.block_weights), *chosen[1:]]
    return "\n".join(_line(one) for one in chosen if one.strength or one.text_strength)


def _line(lora: LoraChoice) -> str:
    words = [str(lora.path), f"{lora.strength:g}", f"{lora.text_strength:g}"]
    if lora.block_weights:
        words.append(",".join(f"{weight:g}" for weight in lora.block_weights))
    return ": ".join(words)


# ---------------------------------------------------------------- order


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Cells so that weights change as seldom as possible: models outermost, then LoRA files, strengths, prompts."""
    listed = list(cells)
    parts = [_loaded(cell.preset) for cell in listed]
    ranks = [_first_places([part[level] for part in parts]) for level in range(len(parts[0]))] if parts else []

    def cost(at: int) -> tuple[int, ...]:
        return (*(rank[parts[at][level]] for level, rank in enumerate(ranks)), at)

    return [listed[at] for at in sorted(range(len(listed)), key=cost)]


def _loaded(preset: DrawingPreset) -> tuple[Hashable, ...]:
    """What changing costs, the dearest first: seconds to minutes for models, then files, then text features."""
    loras, _ = read_lora_lines(preset.loras.files)
    model = (*preset.model.model_dump().values(), preset.refiner.model)
    strengths = tuple((one.strength, one.text_strength, one.block_weights) for one in loras)
    texts = (preset.picture.prompt, preset.picture.negative, preset.picture.clip_skip)
    return model, tuple(one.path for one in loras), strengths, texts


def _first_places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    return {item: place for place, item in enumerate(dict.fromkeys(items))}


# ---------------------------------------------------------------- looking at files


def problems_of(cells: Iterable[Cell]) -> list[Problem]:
    """What is wrong with files and prompts of all cells, each once: each combination of texts is looked at once."""
    looked: set[Hashable] = set()
    found: list[Problem] = []
    for cell in cells:
        texts = tuple(value for value in cell.preset.values().values() if isinstance(value, str))
        if texts in looked:
            continue
        looked.add(texts)
        try:
            plan_drawing(cell.preset)
        except UserError as error:
            found += error.problems
    return _each_once(found)


def _each_once(problems: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


# ---------------------------------------------------------------- content


def content_key(plan: DrawingPlan, digests: Mapping[Path, str]) -> str:
    """16 letters that tell a picture: all settings with an effect, prompts with wildcards drawn, LoRAs by content,
    models by name, size and time of change. `digests` remembers files' hashes.
    """
    picture, preset = plan.pictures[0], plan.preset
    values = {
        path: value for path, value in preset.values().items() if _has_effect(path) and path not in _TOLD_OTHERWISE
    }
    models = [preset.model.base, preset.model.vae, preset.refiner.model]
    told = {
        "values": values,
        "texts": [picture.written, picture.negative, picture.seed],
        "loras": [[digests[one.path], one.strength, one.text_strength, one.block_weights] for one in picture.loras],
        "pictures": [digests[resolve(path)] if path else "" for path in (preset.image.init, preset.image.mask)],
        "models": [_stamp(resolve(path)) if path else "" for path in models],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


class Digests(dict[Path, str]):
    """Hashes of files, each read once."""

    def __missing__(self, path: Path) -> str:
        self[path] = file_digest(path).hex()
        return self[path]


def _stamp(path: Path) -> list[object]:
    inner = path / "unet" if path.is_dir() else path
    status = inner.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _has_effect(path: str) -> bool:
    return path not in _WITHOUT_EFFECT and not path.startswith("preview.")
