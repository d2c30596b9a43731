"""The tool `resize`: a LoRA of smaller ranks that does nearly the same, and how nearly."""

from __future__ import annotations

from functools import partial

from engine.errors import Problem
from engine.lora_tools.choices import Files, RankChoice, Ranks, Result, rank_choice, unused_lines
from engine.lora_tools.each_file import Outlook, carry_out_each, propose_each
from engine.lora_tools.lora_file import NAMES, LoraFile
from engine.lora_tools.sizes import lora_bytes
from engine.tools.tool import Proposal, Report, names_of

TITLE = "Resizing"
ABOUT = "Smaller ranks for a LoRA, with the least possible error; LoHa and LoKr become LoRA."
RESIZED = ("lora", "dora", "loha", "lokr", "full")
KEPT = ("norm",)


class Settings(Result, Ranks, Files):
    pass


def propose(settings: Settings) -> Proposal:
    """What rank would be asked of each file."""
    choice = rank_choice(settings)
    return propose_each(settings.files, settings, "resize", _mark(choice), partial(_look, choice, settings))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.resizing import Resizing

    carry_out_each(proposal, report, partial(Resizing, rank_choice(settings), settings.precision))


def _mark(choice: RankChoice) -> str:
    return f"rank{choice.rank}" if choice.rule == "number" else f"{choice.rule}{choice.value:g}"


def _look(choice: RankChoice, settings: Settings, file: LoraFile) -> Outlook:
    where = str(file.path)
    layers = tuple(file.layers.values())
    foreign = [family for family in file.families if family not in (*RESIZED, *KEPT)]
    problems = [
        Problem(where, f"is {NAMES[family]}, which has no rank to choose. Merge it into its base model and extract.")
        for family in foreign
    ]
    if not foreign and not any(layer.family in RESIZED for layer in layers):
        problems.append(Problem(where, "holds only differences of norms, which have no rank. Choose another file."))
    warnings = [] if foreign else _warnings(file)
    if not problems:
        problems += unused_lines(choice, list(file.layers))
    size = sum(lora_bytes(layer, choice, settings.precision) for layer in layers) if not foreign else 0
    ranks = "–".join(map(str, sorted({file.ranks[0], file.ranks[-1]}))) if file.ranks else "whole"
    note = f"{file.family_text}, rank {ranks} → {choice.text}; {len(layers)} layers"
    return Outlook(note, layers, size, tuple(problems), tuple(warnings))


def _warnings(file: LoraFile) -> list[Problem]:
    found: list[Problem] = []
    become = [NAMES[family] for family in ("loha", "lokr", "full") if family in file.families]
    if become:
        what = f"its layers of the kind {names_of(become)} become LoRA, which only a high rank reproduces well"
        found.append(Problem(str(file.path), f"{what}; the error is told at the end."))
    biases = [layer.name for layer in file.layers.values() if "diff_b" in layer.tensors]
    if biases:
        lost_biases = f"{len(biases)} layers change their bias, too, which a LoRA cannot hold: that part is left out."
        found.append(Problem(str(file.path), lost_biases))
    return found
