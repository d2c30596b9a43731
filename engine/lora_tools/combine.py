"""The tool `combine`: several LoRAs become one that does what all of them do together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.drawing.lora_lines import LoraChoice, read_lora_lines
from engine.errors import ModelError, Problem, UserError
from engine.lora_tools.choices import Precision, RankChoice, Result
from engine.lora_tools.lora_file import LoraFile, LoraLayer, read_lora
from engine.lora_tools.place import note_made, room_problem, target_in
from engine.lora_tools.sizes import kept_bytes, number_bytes, pair_bytes
from engine.lora_tools.spelling import shared_naming
from engine.lora_tools.sums import DIFFERENCES, Method, Part, layer_faults, shared_faults, summed_rank
from engine.sdxl.layers import UNET, block_of
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted, names_of

TITLE = "Combining"
ABOUT = "One LoRA of several: added exactly, or at a rank of your choice with the least error."


class _Choice(ToolSettings):
    files: str = setting(
        "",
        "One LoRA a line: file: weight: weight for the text encoders: weights per block (23, or 12 as in A1111). "
        "Only the file must be given.",
        "LoRA 文件",
        kind="lines",
    )
    method: Literal["concatenate", "svd", "add"] = setting(
        "concatenate",
        "concatenate: exact, the ranks add up; svd: at the rank below, with the least error; add: the mean of the "
        "matrices, for checkpoints of one run only.",
        "合并方式",
    )
    rank: int = setting(32, "The rank of the new LoRA.", "秩", ge=1, le=1024, when={"combine.method": "svd"})
    conv_rank: int = setting(
        0,
        "The rank of 3×3 convolutions; 0: the same as the other layers.",
        "卷积秩",
        ge=0,
        le=1024,
        level="advanced",
        when={"combine.method": "svd"},
    )


class Settings(Result, _Choice):
    pass


@dataclass(frozen=True)
class Combination:
    """What is combined: {layer: its part of each file that has it}, by what `method`, and into which file."""

    files: tuple[LoraFile, ...]
    parts: Mapping[str, tuple[Part, ...]]
    method: Method
    ranks: RankChoice
    precision: Precision
    target: Path


def propose(settings: Settings) -> Proposal:
    """What would be made, what of it is exact, and all that stands against it."""
    choices, problems = _lines(settings)
    files = _read(choices, problems)
    if problems:
        return Proposal((), "Nothing can be done.", tuple(problems))
    parts = _parts(files, choices)
    ranks = RankChoice("number", 0.0, settings.rank, settings.conv_rank)
    problems += shared_faults(files, parts)
    problems += [] if problems else layer_faults(settings.method, parts)
    target = target_in(shared_naming(files), settings.output, files[0].path, "combined")
    plan = Combination(tuple(files), parts, settings.method, ranks, settings.precision, target)
    if not problems:
        problems += room_problem(target, sum(_size(found, plan) for found in parts.values()))
    rows = tuple(
        Row(str(file.path), "combine", str(target), _note(file, choice))
        for file, choice in zip(files, choices, strict=True)
    )
    return Proposal(rows, _summary(plan), tuple(problems), tuple(_warnings(plan)), plan)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.combining import combine

    plan: Combination = proposal.content
    try:
        told = combine(plan, report)
    except UserError as error:
        for row in proposal.rows:
            report.done(row, "failed", error.problems[0].message)
        return
    if told is None:
        return
    note_made(plan.target, report.journal)
    for row in proposal.rows:
        report.done(row, "done", told)


def weight_of(choice: LoraChoice, layer: LoraLayer) -> float:
    """How strongly a file takes part at a layer."""
    if layer.part != UNET:
        return choice.text_strength
    block = block_of(layer.name)
    return choice.strength * (choice.block_weights[block] if choice.block_weights and block is not None else 1.0)


def _lines(settings: Settings) -> tuple[list[LoraChoice], list[Problem]]:
    choices, problems = read_lora_lines(settings.files)
    problems = [Problem("files", problem.message) for problem in problems]
    if len(choices) < 2 and not problems:
        problems.append(Problem("files", f"at least two LoRAs are needed (got {len(choices)}). Give one a line."))
    return choices, problems


def _read(choices: Sequence[LoraChoice], problems: list[Problem]) -> list[LoraFile]:
    found: list[LoraFile] = []
    for choice in choices:
        try:
            found.append(read_lora(choice.path))
        except ModelError as error:
            problems += error.problems
    return found


def _parts(files: Sequence[LoraFile], choices: Sequence[LoraChoice]) -> dict[str, tuple[Part, ...]]:
    """By layer; a file whose weight is 0 there takes no part."""
    found: dict[str, list[Part]] = {}
    for place, (file, choice) in enumerate(zip(files, choices, strict=True)):
        for layer in file.layers.values():
            if weight := weight_of(choice, layer):
                found.setdefault(layer.name, []).append(Part(place, layer, weight))
    return {name: tuple(parts) for name, parts in found.items()}


def _note(file: LoraFile, choice: LoraChoice) -> str:
    ranks = "–".join(map(str, sorted({file.ranks[0], file.ranks[-1]}))) if file.ranks else "whole"
    text = f", text encoders {choice.text_strength:g}" if choice.text_strength != choice.strength else ""
    blocks = ", weights per block" if choice.block_weights else ""
    return f"{file.family_text}, rank {ranks}; {len(file.layers):,} layers; weight {choice.strength:g}{text}{blocks}"


def _summary(plan: Combination) -> str:
    shared = sum(len(parts) > 1 for parts in plan.parts.values())
    told = f"{counted(len(plan.files), 'LoRA')} into one of {len(plan.parts):,} layers, {shared:,} of them shared: "
    if plan.method == "concatenate":
        ranks = [summed_rank(parts) for parts in plan.parts.values() if parts[0].layer.family not in DIFFERENCES]
        return told + f"exact, rank {max(ranks, default=0)} at most."
    if plan.method == "add":
        return told + "the mean of their matrices; the ranks stay. Exact only where the LoRAs are alike."
    larger = sum(_is_cut(parts, plan) for parts in plan.parts.values())
    exact = "exact, as no layer needs more" if not larger else f"{larger:,} layers need more and lose the least of it"
    return told + f"{plan.ranks.text}; {exact}."


def _is_cut(parts: Sequence[Part], plan: Combination) -> bool:
    layer = parts[0].layer
    return layer.family != "norm" and summed_rank(parts) > plan.ranks.limit(layer.name, layer.kernel)


def _warnings(plan: Combination) -> list[Problem]:
    found: list[Problem] = []
    versions = {file.metadata.get("ss_base_model_version", "") for file in plan.files} - {""}
    kinds = {file.metadata.get("modelspec.prediction_type", "") for file in plan.files} - {""}
    if len(versions) > 1 or len(kinds) > 1:
        what = f"were trained on different kinds of models ({names_of(sorted(versions | kinds))})"
        found.append(Problem("files", f"{what}; together they may do something else than each alone."))
    cut = [parts for parts in plan.parts.values() if plan.method == "svd" and _is_cut(parts, plan)]
    lost = [parts for parts in cut if any("diff_b" in part.layer.tensors for part in parts)]
    if lost:
        lost_biases = f"{len(lost)} layers change their bias, too, which a LoRA cannot hold: that part is left out."
        found.append(Problem("files", lost_biases))
    return found


def _size(parts: Sequence[Part], plan: Combination) -> int:
    """At most so many bytes a layer takes."""
    first = parts[0].layer
    is_sum = plan.method != "svd" and (len(parts) == 1 or first.family == "full" or plan.method == "add")
    if is_sum or first.family == "norm":
        return max(kept_bytes(part.layer, plan.precision) for part in parts)
    rank = summed_rank(parts)
    if plan.method == "svd":
        rank = min(rank, plan.ranks.limit(first.name, first.kernel))
    return pair_bytes(first.matrix_shape, rank, number_bytes(first, plan.precision))
