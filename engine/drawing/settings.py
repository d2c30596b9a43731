"""The drawing preset: all settings of a picture in one frozen object. Torch-free.

As a run's preset (engine/preset.py): made by `load`, `build` or `changed`; relative paths start at Atelier's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from engine.drawing.groups import Hires, Image, Loras, Model, Picture, Preview, Refiner, Sampling, Tiling
from engine.drawing.lora_lines import read_lora_lines
from engine.errors import PresetError, Problem, UserError
from engine.preset import Sectioned, nearest
from engine.settings import Setting, settings_of

VERSION = 1
KIND = "drawing"
"""What `kind` says in the file, which tells it from a run's preset."""
SPREAD_SAMPLERS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "unipc")
"""The samplers whose noise levels can be spread otherwise than by the time steps."""


class DrawingPreset(Sectioned):
    """All settings of a picture."""

    guide: ClassVar[str] = "docs/sampling.md"

    kind: str = KIND
    version: int = VERSION
    picture: Picture = Picture()
    sampling: Sampling = Sampling()
    model: Model = Model()
    loras: Loras = Loras()
    image: Image = Image()
    hires: Hires = Hires()
    refiner: Refiner = Refiner()
    tiling: Tiling = Tiling()
    preview: Preview = Preview()

    def values(self) -> dict[str, Any]:
        """All values by "group.name"."""
        return {item.path: self.get(item.path) for item in DRAWING_SETTINGS}

    def changed(self, values: Mapping[str, Any]) -> DrawingPreset:
        """A copy with other values by "group.name"; raises PresetError with every fault."""
        return build(*self.content_with(values, BY_PATH))


DRAWING_SETTINGS: tuple[Setting, ...] = settings_of(DrawingPreset)
BY_PATH: dict[str, Setting] = {item.path: item for item in DRAWING_SETTINGS}
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(item.section for item in DRAWING_SETTINGS))


def is_drawing(path: Path) -> bool:
    """Whether a file is a drawing preset and not a run's. Files that cannot be read are not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def load(path: Path) -> DrawingPreset:
    """Read a drawing preset. Raises PresetError (all faults at once) or UserError when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("there is no such file. Check the name and the folder.", str(path)) from None
    except OSError as error:
        raise UserError(f"the drawing preset cannot be read ({error.strerror}).", str(path)) from None
    except (ValueError, RecursionError):
        raise UserError("this is not valid JSON, so it is no drawing preset. Give another file.", str(path)) from None
    if not isinstance(content, dict) or content.get("kind", KIND) != KIND:
        raise UserError("a drawing preset is a JSON object with groups such as picture and sampling.", str(path))
    return build(content)


def build(content: Mapping[str, Any], problems: Iterable[Problem] = ()) -> DrawingPreset:
    """Make a drawing preset of nested values. Raises PresetError with all faults at once."""
    found = list(problems)
    version = content.get("version", VERSION)
    if version != VERSION:
        what = f"was saved by another Atelier (format {version!r}; this one reads {VERSION}). Update Atelier."
        raise PresetError([*found, Problem("version", what)])
    try:
        preset = DrawingPreset.model_validate(dict(content))
    except ValidationError as error:
        found += [_problem_of(fault) for fault in error.errors()]
        faulty = {str(problem.where) for problem in found}
        others = [item for item in problems_between(_rest(content, error)) if item.where not in faulty]
        raise PresetError([*found, *others]) from None
    found += problems_between(preset)
    if found:
        raise PresetError(found)
    return preset


def problems_between(preset: DrawingPreset) -> list[Problem]:
    """What does not go together, looking at no file."""
    sampling, image, found = preset.sampling, preset.image, list[Problem]()
    if sampling.sigmas != "normal" and sampling.sampler not in SPREAD_SAMPLERS:
        what = f"does not go with {sampling.sampler} (got {sampling.sigmas}). Set it to normal."
        found.append(Problem("sampling.sigmas", what))
    if image.mask and not image.init:
        found.append(Problem("image.mask", "is for a picture to begin with. Choose one in image.init, too."))
    if image.area == "masked" and not image.mask:
        found.append(Problem("image.area", "masked needs a mask. Choose one in image.mask, or set this to whole."))
    if preset.hires.on and image.init:
        what = "is for pictures from text alone; a picture to begin with has its own strength. Switch one of them off."
        found.append(Problem("hires.on", what))
    found += _too_few_steps(preset)
    if preset.hires.on and max(enlarged_px(preset)) > 8192:
        width, height = enlarged_px(preset)
        what = f"makes pictures of {width}×{height} pixels; 8192 is the most. Lower it."
        found.append(Problem("hires.scale", what))
    if preset.model.vae_tiling == "on" and (preset.tiling.horizontal or preset.tiling.vertical):
        what = "leaves seams at the edges that tiling is to close. Set it to auto or off."
        found.append(Problem("model.vae_tiling", what))
    return found + read_lora_lines(preset.loras.files)[1]


def _too_few_steps(preset: DrawingPreset) -> list[Problem]:
    """Of so many steps the share that is the strength must be one at least, as only those are made."""
    strengths: list[tuple[str, int, float]] = []
    if preset.image.init:
        strengths.append(("image.denoising_strength", preset.sampling.steps, preset.image.denoising_strength))
    if preset.hires.on:
        steps = preset.hires.steps or preset.sampling.steps
        strengths.append(("hires.denoising_strength", steps, preset.hires.denoising_strength))
    return [
        Problem(path, f"leaves no step to draw of {steps} (got {strength:g}). Raise it or take more steps.")
        for path, steps, strength in strengths
        if int(steps * strength) < 1
    ]


def enlarged_px(preset: DrawingPreset) -> tuple[int, int]:
    """Width and height of the finished picture: with hires fix enlarged, down to a multiple of 8."""
    picture, scale = preset.picture, preset.hires.scale if preset.hires.on else 1.0
    return int(picture.width_px * scale) // 8 * 8, int(picture.height_px * scale) // 8 * 8


def _problem_of(fault: Any) -> Problem:
    """A sentence for one of pydantic's findings."""
    where = ".".join(str(part) for part in fault["loc"])
    got = fault.get("input")
    if fault["type"] == "extra_forbidden":
        return Problem(where, "there is no such setting." + nearest(where, [*BY_PATH, *GROUPS], DrawingPreset.guide))
    if where in BY_PATH:
        return Problem(where, f"must be {BY_PATH[where].limits_text} (got {got!r}).")
    if where in GROUPS:
        return Problem(where, f"must be a group of settings in braces (got {got!r}).")
    return Problem(where, f"{fault['msg']} (got {got!r}).")


def _rest(content: Mapping[str, Any], error: ValidationError) -> DrawingPreset:
    """The preset with the nearest allowed values in the place of faulty ones, to find what else is wrong."""
    rest = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for fault in error.errors():
        place: Any = rest
        for part in fault["loc"][:-1]:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            got = place.pop(fault["loc"][-1], None)
            if item := BY_PATH.get(".".join(map(str, fault["loc"]))):
                place[item.name] = item.nearest(got)
    return DrawingPreset.model_validate(rest)
