"""The tool `merge_checkpoints`: several checkpoints become one, weighted, or by adding what they differ in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.drawing.lora_lines import LoraChoice, read_lora_lines
from engine.errors import Problem, UserError
from engine.lora_tools.checkpoint_layers import Checkpoint, open_checkpoint
from engine.lora_tools.place import room_problem, target_of
from engine.lora_tools.precision import Precision, size_in
from engine.lora_tools.stream import StopAsked
from engine.plan_sizes import size_text
from engine.preset import resolve
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted, names_of

TITLE = "Merging checkpoints"
ABOUT = "Mixes checkpoints, weighted by share and by block, or adds to one what another learned over its base."
FILES = ("base", "others")
MERGE = "mix into"


class Settings(ToolSettings):
    base: str = setting(
        "", "The first checkpoint (A), a file or a diffusers folder; it stays as it is.", "主模型 A", kind="file"
    )
    others: str = setting(
        "",
        "The others, one a line: file: share: share of the text encoders: 23 weights of blocks; without a share 0.5.",
        "其他模型",
        kind="lines",
    )
    method: Literal["weighted", "add_difference"] = setting(
        "weighted",
        "weighted: A moves towards each other one by its share; add_difference: A gains what they learned over C.",
        "方法",
    )
    minus: str = setting(
        "", "The checkpoint C that the others were trained from.", "基准模型 C", kind="file",
        when={"merge_checkpoints.method": "add_difference"},
    )  # fmt: skip
    vae: Literal["keep", "mix"] = setting("keep", "The VAE: keep that of A, or mix it as well.", "VAE", label="VAE")
    precision: Precision = setting(
        "same", "The number format of the new file; same: as A's. All is computed in fp32.", "精度"
    )
    output: str = setting(
        "",
        "The file to make, or a folder for it; empty: beside A. An existing file is never written over.",
        "输出",
        kind="file",
    )


@dataclass(frozen=True)
class Mixing:
    """W = A + Σ share · (B − R), where R is A itself, or C."""

    base: Checkpoint
    others: tuple[tuple[Checkpoint, LoraChoice], ...]
    minus: Checkpoint | None
    target: Path


def propose(settings: Settings) -> Proposal:
    """What would be mixed. Raises UserError where A or C cannot be used; faults of the others are told together."""
    if not settings.base:
        raise UserError("is empty. Choose the first checkpoint.", "base")
    base = open_checkpoint(resolve(settings.base))
    minus = None
    if settings.method == "add_difference":
        if not settings.minus:
            raise UserError("is empty. Choose the checkpoint that the others were trained from.", "minus")
        minus = open_checkpoint(resolve(settings.minus))
    choices, faults = read_lora_lines(_with_shares(settings.others))
    problems = [Problem("others", fault.message) for fault in faults]
    if not choices and not faults:
        problems.append(Problem("others", "is empty. Name at least one checkpoint, one a line."))
    others: list[tuple[Checkpoint, LoraChoice]] = []
    warnings: list[Problem] = []
    for choice in choices:
        try:
            checkpoint = open_checkpoint(choice.path)
        except UserError as error:
            problems += error.problems
            continue
        others.append((checkpoint, choice))
    for checkpoint in [*(other for other, _ in others), *([minus] if minus else [])]:
        problems += _misfits(base, checkpoint)
        warnings += _odd(base, checkpoint)
    target = target_of(settings.output, base.header.path, "mixed")
    size = size_in(base.header.tensors.values(), settings.precision)
    problems += room_problem(target, size)
    rows = tuple(
        Row(str(other.header.path), MERGE, str(target), f"share {choice.strength:g}") for other, choice in others
    )
    summary = (
        f"{counted(len(others), 'checkpoint')} into {base.header.path.name}; the new file takes {size_text(size)}."
    )
    return Proposal(rows, summary, tuple(problems), tuple(warnings), Mixing(base, tuple(others), minus, target))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.mixing import mix

    mixing: Mixing = proposal.content

    def tell(done: int, total: int) -> None:
        report.progress(done, total)
        if report.is_stop_asked():
            raise StopAsked

    try:
        mix(mixing, settings.precision, settings.vae == "mix", tell)
    except StopAsked:
        return
    report.journal.note_made(mixing.target)
    for row in proposal.rows:
        report.done(row)


def _with_shares(text: str) -> str:
    """Lines without a share get 0.5."""
    lines = [line.strip() for line in text.splitlines()]
    bare = [line.lower().endswith(".safetensors") or bool(line and resolve(line).is_dir()) for line in lines]
    return "\n".join(f"{line}: 0.5" if is_bare else line for line, is_bare in zip(lines, bare, strict=True))


def _misfits(base: Checkpoint, other: Checkpoint) -> list[Problem]:
    where = str(other.header.path)
    if other.facts.kind != base.facts.kind:
        return [Problem(where, f"is SDXL's {other.facts.kind}, and A is {base.facts.kind}: they cannot be mixed.")]
    shapes = {name: info.shape for name, info in base.header.tensors.items()}
    odd = [n for n, info in other.header.tensors.items() if n in shapes and shapes[n] != info.shape]
    what = f"has other shapes than A ({names_of(odd, 2)}), so it cannot be mixed. Choose a model of A's structure."
    return [Problem(where, what)] if odd else []


def _odd(base: Checkpoint, other: Checkpoint) -> list[Problem]:
    where, found = str(other.header.path), []
    missing = [name for name in base.header.tensors if name not in other.header.tensors]
    if missing:
        found.append(
            Problem(where, f"lacks {counted(len(missing), 'tensor')} of A, which stay A's: {names_of(missing, 2)}.")
        )
    if other.facts.prediction != base.facts.prediction:
        what = f"predicts {other.facts.prediction}, A {base.facts.prediction}: the mix will most likely be noise."
        found.append(Problem(where, what))
    return found
