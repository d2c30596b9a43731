"""What all comparisons are set by: how pictures are drawn, what stands on the axes, what the grid looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from engine.drawing.groups import Hires, Image, Loras, Model, Picture, Preview, Refiner, Sampling, Tiling
from engine.drawing.settings import GROUPS, DrawingPreset, build, is_drawing, load
from engine.errors import UserError
from engine.settings import Section, setting
from engine.tools.tool import ToolSettings

AxisName = Literal[
    "none", "checkpoint", "strength", "prompt", "seed", "cfg_scale", "steps", "sampler", "size", "base_model", "setting"
]
_VALUES = "What stands on this axis, with commas or one a line. Numbers also as ranges: 0.2-1:0.2. Checkpoints: a run's folder, a file, or a path with NUM and numbers, like my-NUM.safetensors: 000001-000005. Prompt: the words to replace, then what for. Setting: its name, =, values."


class Axis(Section):
    kind: AxisName = setting("none", "What changes along this axis.", "变化项", label="What changes")
    values: str = setting("", _VALUES, "取值", kind="lines")


class Grid(Section):
    cell_px: int = setting(
        512, "Longest side of a picture in the grid; 0 keeps its own size.", "单元格边长", ge=0, le=4096, unit="px"
    )
    most_px: int = setting(
        12000,
        "Longest side of the grid; where it would be longer, pictures in it become smaller.",
        "网格最大边长",
        ge=512,
        le=32768,
        unit="px",
        level="advanced",
    )
    format: Literal["png", "jpeg", "webp"] = setting(
        "png", "Kind of file of the grid; the pictures themselves are always PNG.", "网格格式", level="advanced"
    )
    text_px: int = setting(
        0, "Height of the legends; 0 fits them to the pictures.", "图例字号", ge=0, le=400, unit="px", level="advanced"
    )
    font: str = setting(
        "",
        "A font file (.ttf, .otf, .ttc) for the legends; empty takes the one that comes with Atelier, and one of this computer for other scripts.",
        "字体",
        kind="file",
        level="advanced",
    )


class DrawingGroups(ToolSettings):
    """The groups of a drawing preset, each as it is there."""

    picture: Picture = Picture()
    sampling: Sampling = Sampling()
    model: Model = Model()
    loras: Loras = Loras()
    image: Image = Image()
    hires: Hires = Hires()
    refiner: Refiner = Refiner()
    tiling: Tiling = Tiling()
    preview: Preview = Preview()

    def drawing(self) -> DrawingPreset:
        """The drawing preset. Raises PresetError with all faults at once."""
        return build(self.model_dump(include=set(GROUPS)))


class CompareSettings(DrawingGroups):
    """A plot: pictures over up to three axes."""

    x: Axis = Axis()
    y: Axis = Axis()
    z: Axis = Axis()
    strength: float = setting(
        1.0, "How strongly the checkpoints of an axis act where no axis says it.", "强度", ge=-10, le=10
    )
    grid: Grid = Grid()


class Strip(Section):
    kind: Literal["strip", "animation", "both"] = setting(
        "both", "A strip of all pictures, an animated WebP, or both.", "形式", label="Made as"
    )
    columns: int = setting(
        0,
        "So many pictures in a row of the strip; 0 puts up to 8 in one.",
        "每行图片数",
        ge=0,
        le=200,
        level="advanced",
    )
    seconds: float = setting(
        0.6,
        "How long the animation shows each picture; the last one stays four times as long.",
        "每帧时长",
        label="Seconds per picture",
        ge=0.05,
        le=10,
    )
    before: bool = setting(
        True, "Begin with the base model without a LoRA.", "从底模开始", label="Begin before the training"
    )


class TimelineSettings(DrawingGroups):
    """A run's way; how it is drawn stands in the drawing settings, which the command line takes from the run."""

    run: str = setting(
        "",
        "The run whose checkpoints are drawn; also a folder of LoRA files, or a path with NUM.",
        "训练任务",
        kind="folder",
    )
    strength: float = setting(1.0, "How strongly the checkpoints act.", "强度", ge=-10, le=10)
    strip: Strip = Strip()
    grid: Grid = Grid(cell_px=384)


class Clip(Section):
    weights: str = setting(
        "",
        "CLIP for the scores, on this computer: a folder with open_clip_config.json, or a weights file of open_clip; empty does without.",
        "CLIP 权重",
        label="CLIP weights",
        kind="file",
    )
    model: str = setting(
        "ViT-L-14",
        "Which CLIP a single weights file holds, by its name in open_clip; a folder says so itself.",
        "CLIP 模型",
        label="CLIP model",
        level="advanced",
    )


class PickSettings(DrawingGroups):
    """Which checkpoint and strength to take; how pictures are drawn the command line takes from the run."""

    run: str = setting("", "The run whose checkpoints are judged.", "训练任务", kind="folder")
    strengths: str = setting("0.6-1:0.2", "The strengths to try, with commas or as a range.", "强度")
    prompts: str = setting(
        "",
        "What to draw with the trigger word, one a line; empty takes the run's sample prompts that have it, else captions of its pictures.",
        "含触发词的提示词",
        kind="lines",
    )
    plain_prompts: str = setting(
        "",
        "What to draw without the trigger word, where nothing should change; empty takes the run's sample prompts without it, else the others with the word left out.",
        "不含触发词的提示词",
        kind="lines",
    )
    trigger: str = setting("", "The word that calls the LoRA; empty is the run's own.", "触发词", label="Trigger word")
    seeds: int = setting(3, "How many seeds each prompt is drawn with.", "种子数", ge=2, le=50)
    pictures: str = setting(
        "",
        "Pictures to be like; empty takes those that the run was trained on.",
        "参考图片",
        label="Like the pictures in",
        kind="folder",
        level="advanced",
    )
    clip: Clip = Clip()
    grid: Grid = Grid(cell_px=256)


def drawing_values(words: list[str]) -> dict[str, Any]:
    """Drawing settings by "group.name" of what the command line names first: a drawing preset, a model, or a run.

    Raises UserError for anything else, and where there are several.
    """
    if len(words) > 1:
        raise UserError("one drawing preset, model or run is enough here.", words[1])
    if not words:
        return {}
    target = Path(words[0]).expanduser().absolute()
    if (target / "preset.json").is_file():
        from engine.compare.of_run import drawing_of_run

        return drawing_of_run(target)
    if target.is_file() and is_drawing(target):
        return changed_values(load(target).values())
    if target.suffix == ".safetensors" or (target / "model_index.json").is_file():
        return {"model.base": str(target)}
    raise UserError("is no drawing preset, SDXL model or run folder. Give one of these.", words[0])


def changed_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the default."""
    plain = DrawingPreset().values()
    return {path: value for path, value in values.items() if value != plain[path]}
