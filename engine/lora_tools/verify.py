"""The tool `verify`: whether a LoRA or a checkpoint is whole, what a LoRA fits, and which programs load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.adapter_header import AdapterHeader, known_adapter
from engine.adapter_names import DOTTED, DOWN, MAGNITUDE, MID, UP, part_of, path_of
from engine.errors import Problem, UserError
from engine.lora_tools.checkpoint_checks import Check, checks_of
from engine.lora_tools.checkpoint_layers import open_checkpoint, refuse_unknown_layers
from engine.lora_tools.convert import is_checkpoint
from engine.lora_tools.facts import FAMILY_WORDS, family_of
from engine.lora_tools.merge import refuse_other_shapes
from engine.lora_tools.numbers import count_odd
from engine.preset import resolve
from engine.sdxl.safefile import TensorInfo
from engine.settings import setting
from engine.tools.tool import Proposal, Report, ToolSettings, counted, names_of

TITLE = "Checking a LoRA or a checkpoint"
ABOUT = "Whether a LoRA is whole, fits a checkpoint, and which programs load it; or whether a checkpoint is whole."
FILES = ("file", "base")
PROGRAMS = ("AUTOMATIC1111", "Forge", "ComfyUI", "diffusers")
UNREAD = {"AUTOMATIC1111": {"boft"}, "Forge": {"ia3", "oft", "boft"}, "ComfyUI": {"ia3"}}
"""Kinds of adapters that a program does not read, or is not known to (docs/adapters.md)."""


class Settings(ToolSettings):
    file: str = setting(
        "",
        "A LoRA (file, or folder of peft), or a checkpoint (file, or diffusers folder).",
        "文件",
        kind="file",
    )
    base: str = setting(
        "", "The checkpoint that it is to go with; empty: only the LoRA is looked at.", "底模", kind="file"
    )


def propose(settings: Settings) -> Proposal:
    """All checks; what failed is a problem. Raises UserError for what is neither a LoRA nor a checkpoint."""
    if not settings.file:
        raise UserError("is empty. Choose a LoRA or a checkpoint.", "file")
    path = resolve(settings.file)
    if is_checkpoint(path):
        return _proposal(checks_of(path))
    header = known_adapter(path)
    checks = [_complete(header), *_numbers(header), *(_loads(header, program) for program in PROGRAMS)]
    if settings.base:
        checks += _fits(header, settings.base)
    return _proposal(checks)


def _proposal(checks: list[Check]) -> Proposal:
    bad = [check for check in checks if not check.is_good]
    problems = tuple(Problem(check.name, check.note) for check in bad if check.name not in PROGRAMS)
    warnings = tuple(Problem(check.name, check.note) for check in bad if check.name in PROGRAMS)
    summary = f"{counted(len(bad), 'fault')} found." if problems else "Nothing is wrong with it."
    return Proposal((), summary, problems, warnings, tuple(checks))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """There is nothing to do: looking was all."""


def told(proposal: Proposal) -> tuple[str, dict[str, Any]]:
    checks: tuple[Check, ...] = proposal.content
    lines = [f"{'ok  ' if check.is_good else 'BAD '} {check.name}: {check.note}" for check in checks]
    return "\n".join(lines), {"checks": [{"name": c.name, "good": c.is_good, "note": c.note} for c in checks]}


def _complete(header: AdapterHeader) -> Check:
    """Every layer has the tensors that its kind needs, and matrices of one rank."""
    unknown = [layer for layer, held in header.layers.items() if not family_of(held)]
    if unknown:
        return Check("complete", False, f"tensors are missing or unknown in {names_of(unknown, 2)}. Copy it again.")
    mixed = [layer for layer, held in header.layers.items() if {DOWN, UP} <= held.keys() and not _is_of_one_rank(held)]
    if mixed:
        return Check("complete", False, f"the two matrices are of different ranks in {names_of(mixed, 2)}.")
    strange = [layer for layer in header.layers if path_of(layer, header.layers_per_block) is None]
    if strange:
        return Check("complete", False, f"has layers that SDXL does not have: {names_of(strange, 2)}.")
    return Check("complete", True, f"{counted(len(header.layers), 'layer')}, all whole")


def _is_of_one_rank(held: Mapping[str, TensorInfo]) -> bool:
    """A core between the matrices [rank of up, rank of down, …] may have two."""
    up, down = held[UP].shape[1:2], held[DOWN].shape[:1]
    return up + down == held[MID].shape[:2] if MID in held else up == down


def _numbers(header: AdapterHeader) -> list[Check]:
    odd: list[str] = []
    empty: list[str] = []
    for layer, held in header.layers.items():
        finite = {suffix: count_odd(info) for suffix, info in held.items()}
        odd += [f"{layer}.{suffix}" for suffix, (count, _) in finite.items() if count]
        late = [some for suffix, (_, some) in finite.items() if suffix not in ("alpha", DOWN)]
        if late and not any(late):
            empty.append(layer)
    bad = f"NaN or infinite in {names_of(odd, 2)}. Choose an earlier checkpoint."
    found = [Check("finite", not odd, bad if odd else "every number is finite")]
    share = len(empty) / max(1, len(header.layers))
    what = f"{counted(len(empty), 'layer')} of {len(header.layers)} would change nothing"
    dead = f"{what}: it was not trained, or in a precision too coarse."
    return [
        *found,
        Check("not zero", share < 1, dead if share == 1 else what if empty else "every layer has an effect"),
    ]


def _loads(header: AdapterHeader, program: str) -> Check:
    """Whether a program knows all names and kinds; from its own key maps."""
    families = {family_of(held) for held in header.layers.values()}
    words = ", ".join(FAMILY_WORDS[family] for family in sorted(families))
    if program == "diffusers":
        able = families <= {"lora", "dora"}
        if not able:
            return Check(program, False, f"knows LoRA and DoRA, not {words}.")
        if any(MID in held for held in header.layers.values()):
            return Check(
                program,
                False,
                "knows no core between the matrices (Tucker). Resize the LoRA to a lower rank: that takes it in.",
            )
        inputs = [x for x, held in header.layers.items() if MAGNITUDE in held and held[MAGNITUDE].shape[:1] == (1,)]
        if inputs and header.naming not in DOTTED:
            return Check(program, False, "reads magnitudes of outputs only, these are for inputs.")
        return Check(program, True, "loads it")
    if header.naming == "peft" or (program == "AUTOMATIC1111" and header.naming in DOTTED):
        return Check(program, False, f"does not know names of {header.naming} in all versions. Convert it to kohya.")
    others = [layer for layer in header.layers if header.alpha_of(layer) not in (None, header.rank_of(layer))]
    if header.naming in DOTTED and others:
        return Check(program, False, "does not read alphas beside these names. Convert it to kohya.")
    unknown = families & UNREAD[program]
    if unknown:
        return Check(
            program, False, f"is not known to read {', '.join(FAMILY_WORDS[family] for family in sorted(unknown))}."
        )
    return Check(program, True, "loads it")


def _fits(header: AdapterHeader, base: str) -> list[Check]:
    checkpoint = open_checkpoint(resolve(base))
    name = checkpoint.header.path.name
    try:
        refuse_unknown_layers(header.layers, checkpoint, str(header.path))
        refuse_other_shapes(header, checkpoint)
    except UserError as error:
        return [Check("fits the checkpoint", False, error.problems[0].message)]
    found = [Check("fits the checkpoint", True, f"all layers are in {name}")]
    said = header.metadata.get("modelspec.prediction_type", "")
    if said:
        same = said.startswith("v") == (checkpoint.facts.prediction == "v_prediction")
        note = f"trained for {said}, {name} predicts {checkpoint.facts.prediction}."
        found.append(Check("same prediction", same, note))
    parts = {part_of(layer) for layer in header.layers}
    if checkpoint.facts.kind == "refiner" and len(parts) > 1:
        found.append(Check("kind of base model", False, "the checkpoint is SDXL's refiner, the LoRA is for the base."))
    return found
