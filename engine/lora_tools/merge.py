"""The tool `merge`: LoRAs become part of a checkpoint, which then does what it did with them on top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from engine.adapter_header import AdapterHeader, known_adapter
from engine.drawing.lora_lines import LoraChoice, read_lora_lines
from engine.errors import ModelError, Problem, UserError
from engine.lora_tools.checkpoint_layers import Checkpoint, open_checkpoint, refuse_unknown_layers
from engine.lora_tools.lora_file import change_shape
from engine.lora_tools.place import room_problem, target_of
from engine.lora_tools.precision import Precision, size_in
from engine.plan_sizes import size_text
from engine.preset import resolve
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Merging into a checkpoint"
ABOUT = "Makes LoRAs of any kind part of a checkpoint: a new file that needs them no more."
FILES = ("base", "loras")
MERGE = "merge into"


class Settings(ToolSettings):
    base: str = setting("", "The checkpoint, a file or a diffusers folder; it stays as it is.", "底模", kind="file")
    loras: str = setting(
        "",
        "The LoRAs, one a line: file, or file: strength: strength for the text encoders: 23 weights of blocks.",
        "LoRA 列表",
        label="LoRAs",
        kind="lines",
    )
    output: str = setting(
        "",
        "The file to make, or a folder for it; empty: beside the checkpoint. An existing file is never written over.",
        "输出",
        kind="file",
    )
    precision: Precision = setting(
        "same", "The number format of the new file; same: as the checkpoint's. All is computed in fp32.", "精度"
    )


@dataclass(frozen=True)
class Merging:
    """What is to be merged into what, and where the result goes."""

    checkpoint: Checkpoint
    loras: tuple[tuple[AdapterHeader, LoraChoice], ...]
    target: Path


def propose(settings: Settings) -> Proposal:
    """Which layers change. Raises UserError where base or target cannot be used; faults of LoRAs are told together."""
    if not settings.base:
        raise UserError("is empty. Choose the checkpoint to merge into.", "base")
    checkpoint = open_checkpoint(resolve(settings.base))
    choices, problems = read_lora_lines(settings.loras)
    problems = [Problem("loras", problem.message) for problem in problems]
    if not choices and not problems:
        problems.append(Problem("loras", "is empty. Name at least one LoRA file, one a line."))
    loras: list[tuple[AdapterHeader, LoraChoice]] = []
    warnings: list[Problem] = []
    for choice in choices:
        try:
            header = known_adapter(choice.path)
            refuse_unknown_layers(header.layers, checkpoint, str(choice.path))
            refuse_other_shapes(header, checkpoint)
        except UserError as error:
            problems += error.problems
            continue
        loras.append((header, choice))
        warnings += _warnings(choice, checkpoint, header)
    target = target_of(settings.output, checkpoint.header.path, _mark(loras))
    size_bytes = size_in(checkpoint.header.tensors.values(), settings.precision)
    problems += room_problem(target, size_bytes)
    rows = tuple(
        Row(str(header.path), MERGE, str(target), f"{len(header.layers)} layers, strength {choice.strength:g}")
        for header, choice in loras
    )
    changed = {layer for header, _ in loras for layer in header.layers}
    summary = f"{counted(len(loras), 'LoRA')} into {checkpoint.header.path.name}: "
    summary += f"{counted(len(changed), 'layer')} to change; the new file takes {size_text(size_bytes)}."
    content = Merging(checkpoint, tuple(loras), target)
    return Proposal(rows, summary, tuple(problems), tuple(warnings), content)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.merging import merge
    from engine.lora_tools.stream import StopAsked

    merging: Merging = proposal.content

    def tell(done: int, total: int) -> None:
        report.progress(done, total)
        if report.is_stop_asked():
            raise StopAsked

    try:
        merge(merging, settings.precision, tell)
    except StopAsked:
        return
    report.journal.note_made(merging.target)
    for row in proposal.rows:
        report.done(row)


def refuse_other_shapes(header: AdapterHeader, checkpoint: Checkpoint) -> None:
    """ModelError where what an adapter does to a layer does not fit the model's weight, as far as shapes tell."""
    for layer, held in header.layers.items():
        weight = checkpoint.weight_of(layer)
        if weight is None:
            continue
        shape = checkpoint.shape_of(weight)
        width, inputs = shape[0], math.prod(shape[1:])
        given = change_shape(held)
        if given is not None and (given[0] not in (0, width) or given[1] not in (0, inputs)):
            told, wanted = (" × ".join(str(side) for side in pair if side) for pair in (given, (width, inputs)))
            what = f"does not fit the model: {layer} is for {told}, the model has {wanted}."
            raise ModelError(f"{what} It was made for another base model.", str(header.path))


def _warnings(choice: LoraChoice, checkpoint: Checkpoint, header: AdapterHeader) -> list[Problem]:
    where, found = str(choice.path), []
    if not choice.strength and not choice.text_strength:
        found.append(Problem(where, "has the strength 0, so it changes nothing."))
    said = header.metadata.get("modelspec.prediction_type", "")
    is_v = checkpoint.facts.prediction == "v_prediction"
    if said and said.startswith("v") != is_v:
        what = f"was trained for {'v-prediction' if said.startswith('v') else 'epsilon'}, and the checkpoint is not."
        found.append(Problem(where, f"{what} It will look washed out or noisy."))
    return found


def _mark(loras: list[tuple[AdapterHeader, LoraChoice]]) -> str:
    return "with-" + loras[0][0].path.stem if len(loras) == 1 else "merged"
