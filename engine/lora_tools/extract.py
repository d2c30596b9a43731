"""The tool `extract`: what a tuned model learned beyond its base, as a LoRA."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import ModelError, Problem, UserError
from engine.lora_tools.choices import Precision, RankChoice, Ranks, Result, counts_text, rank_choice, unused_lines
from engine.lora_tools.place import room_problem, target_of
from engine.lora_tools.sizes import pair_bytes
from engine.preset import resolve
from engine.sdxl.configs import Config
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.layers import TEXT_1, TEXT_2, UNET, LayerShape, layer_paths, part_layers
from engine.sdxl.parts import Part, Place, places_of
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings

TITLE = "Extracting"
ABOUT = "The difference between a tuned model and its base as a LoRA, LoCon or LoKr."
FILES = ("tuned_model", "base_model")
PARTS: dict[str, Part] = {UNET: "unet", TEXT_1: "text_1", TEXT_2: "text_2"}


class _Choice(ToolSettings):
    tuned_model: str = setting("", "The model that was trained further.", "微调后的模型", kind="file")
    base_model: str = setting("", "The model that its training began from.", "原底模", kind="file")
    family: Literal["lora", "lokr"] = setting(
        "lora",
        "lora: read by every program, with convolutions a LoCon; lokr: one Kronecker product a layer, a small file.",
        "类型",
        label="Kind",
    )
    factor: int = setting(
        8,
        "LoKr: size of the small matrix; smaller is nearer to the model and larger in the file. -1: near the square "
        "root.",
        "LoKr 因子",
        ge=-1,
        le=1024,
        when={"extract.family": "lokr"},
        level="advanced",
    )
    unet: bool = setting(True, "Extract the UNet.", "提取 UNet", label="UNet")
    convolutions: bool = setting(
        True, "Extract the residual blocks, too, which makes it a LoCon.", "包含卷积层", when={"extract.unet": True}
    )
    text_encoders: bool = setting(True, "Extract both text encoders, where they were trained.", "提取文本编码器")


class _Precise(ToolSettings):
    least_change: float = setting(
        0.0,
        "Leave out layers that changed by less than this share of their own size; 0: only those that did not change.",
        "最小改变",
        ge=0,
        le=1,
        level="advanced",
    )
    exact: bool = setting(
        False,
        "Decompose exactly: takes some 15 times as long, for an error that is hardly smaller.",
        "精确分解",
        level="advanced",
    )
    seed: int = setting(
        0, "The random vectors of the decomposition; the same seed gives the same file.", "种子", ge=0, level="expert"
    )


class Settings(_Precise, Result, Ranks, _Choice):
    pass


@dataclass(frozen=True)
class Target:
    """A layer, and where both models have its weight."""

    layer: LayerShape
    part: str
    tuned: Place
    base: Place


@dataclass(frozen=True)
class Extraction:
    """What is extracted, and how."""

    tuned: ModelFacts
    base: ModelFacts
    targets: tuple[Target, ...]
    ranks: RankChoice
    target: Path
    settings: Settings

    @property
    def precision(self) -> Precision:
        """The number format of the new file."""
        if self.settings.precision != "same":
            return self.settings.precision
        own = Counter(target.tuned.dtype for target in self.targets).most_common(1)
        kinds: dict[str, Precision] = {"F32": "fp32", "F64": "fp32", "BF16": "bf16"}
        return kinds.get(own[0][0] if own else "F16", "fp16")


def propose(settings: Settings) -> Proposal:
    """What would be extracted. Raises ModelError where a file is no model."""
    ranks = rank_choice(settings)
    tuned, base = _model(settings.tuned_model, "tuned_model"), _model(settings.base_model, "base_model")
    problems = _differences(tuned, base) or _choice_faults(settings)
    if problems:
        return Proposal((), "Nothing can be done.", tuple(problems))
    targets = tuple(_targets(settings, tuned, base))
    target = target_of(settings.output, tuned.path, settings.family)
    plan = Extraction(tuned, base, targets, ranks, target, settings)
    problems += unused_lines(ranks, [each.layer.name for each in targets])
    problems += room_problem(target, sum(_size(each, plan) for each in targets))
    counts = counts_text(Counter(each.part for each in targets))
    note = f"minus {base.path.name}: {settings.family.replace('lo', 'Lo')}, {ranks.text}, {plan.precision}"
    row = Row(str(tuned.path), "extract", str(target), note.replace("Lora", "LoRA").replace("Lokr", "LoKr"))
    summary = f"{counts} are compared; those that are alike are left out."
    return Proposal((row,), summary, tuple(problems), tuple(_warnings(tuned, base)), plan)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.extracting import extract

    plan: Extraction = proposal.content
    try:
        told = extract(plan, report)
    except UserError as error:
        report.done(proposal.rows[0], "failed", error.problems[0].message)
        return
    if told is not None:
        report.journal.note_made(plan.target)
        report.done(proposal.rows[0], "done", told)


def _model(text: str, where: str) -> ModelFacts:
    if not text.strip():
        raise UserError("is empty. Choose an SDXL model.", where)
    return identify(resolve(text))


def _configs(facts: ModelFacts) -> dict[str, Config | None]:
    return {UNET: facts.config.unet, TEXT_1: facts.config.text_1, TEXT_2: facts.config.text_2}


def _differences(tuned: ModelFacts, base: ModelFacts) -> list[Problem]:
    """Why the models cannot be compared layer by layer."""
    if tuned.path.resolve() == base.path.resolve():
        return [Problem("base_model", "is the same file as the tuned model. Choose the model that was trained.")]
    if tuned.kind != base.kind:
        return [
            Problem("base_model", f"is SDXL's {base.kind}, the tuned one its {tuned.kind}: they have other layers.")
        ]
    ours, theirs = _configs(tuned), _configs(base)
    for part in PARTS:
        if _shapes(part, ours[part]) != _shapes(part, theirs[part]):
            what = "has layers of other sizes than the tuned model, so it is not what that was trained from."
            return [Problem("base_model", f"{what} Choose its own base model.")]
    return []


def _shapes(part: str, config: Config | None) -> tuple[LayerShape, ...]:
    return () if config is None else part_layers(part, config)


def _choice_faults(settings: Settings) -> list[Problem]:
    if settings.unet or settings.text_encoders:
        return []
    return [Problem("unet", "is off, and so are the text encoders: nothing is left. Switch one of them on.")]


def _targets(settings: Settings, tuned: ModelFacts, base: ModelFacts) -> list[Target]:
    found: list[Target] = []
    kinds = {"attention", "text"} | ({"residual"} if settings.convolutions else set())
    for part, config in _configs(tuned).items():
        if config is None or not (settings.unet if part == UNET else settings.text_encoders):
            continue
        layers = [layer for layer in part_layers(part, config) if layer.kind in kinds]
        paths = layer_paths(part, config)
        names = {layer.name: f"{paths[layer.name]}.weight" for layer in layers}
        ours, theirs = (places_of(facts, PARTS[part], names.values()) for facts in (tuned, base))
        found += [Target(layer, part, ours[names[layer.name]], theirs[names[layer.name]]) for layer in layers]
    odd = next((each for each in found if each.tuned.dtype[0] in "IU" or each.base.dtype[0] in "IU"), None)
    if odd is not None:
        raise ModelError(
            "holds weights as whole numbers: it is quantized. Choose fp32, fp16, bf16 or fp8.", "tuned_model"
        )
    return found


def _size(target: Target, plan: Extraction) -> int:
    """At most so many bytes a layer takes."""
    shape = target.layer.weight_shape
    matrix = (shape[0], math.prod(shape[1:]))
    limit = min(plan.ranks.limit(target.layer.name, shape[2:]), *matrix)
    return pair_bytes(matrix, limit, 4 if plan.precision == "fp32" else 2)


def _warnings(tuned: ModelFacts, base: ModelFacts) -> list[Problem]:
    if tuned.prediction == base.prediction:
        return []
    what = f"predicts {base.prediction}, the tuned model {tuned.prediction}; the LoRA works only where that is set."
    return [Problem("base_model", what)]
