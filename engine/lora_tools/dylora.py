"""The tool `dylora`: the first ranks of a DyLoRA as an ordinary LoRA."""

from __future__ import annotations

import json
from functools import partial

from engine.adapter_names import MID
from engine.errors import Problem
from engine.lora_tools.choices import Files, Result
from engine.lora_tools.each_file import Outlook, carry_out_each, propose_each
from engine.lora_tools.lora_file import LoraFile
from engine.lora_tools.sizes import number_bytes, pair_bytes
from engine.settings import setting
from engine.tools.tool import Proposal, Report

TITLE = "DyLoRA to LoRA"
ABOUT = "Cut a DyLoRA to one of its ranks; it was trained to work at each of them."


class _Choice(Files):
    rank: int = setting(8, "How many ranks of each layer stay, from the first on.", "秩", ge=1, le=1024)


class Settings(Result, _Choice):
    pass


def propose(settings: Settings) -> Proposal:
    """What each file would become."""
    look = partial(_look, settings)
    return propose_each(settings.files, settings, "cut to a rank", f"rank{settings.rank}", look)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.selecting import FirstRanks

    carry_out_each(proposal, report, partial(FirstRanks, settings.rank, settings.precision))


def _look(settings: Settings, file: LoraFile) -> Outlook:
    where, layers = str(file.path), tuple(file.layers.values())
    problems: list[Problem] = []
    if set(file.families) != {"lora"} or any(MID in layer.tensors for layer in layers):
        problems.append(Problem(where, f"is {file.family_text}, not a DyLoRA. Use resize for a smaller rank."))
    elif settings.rank >= min(file.ranks):
        ranks = " to ".join(map(str, sorted({file.ranks[0], file.ranks[-1]})))
        problems.append(
            Problem("rank", f"{file.path.name} has rank {ranks} (got {settings.rank}). Choose a lower one.")
        )
    size = 0 if problems else sum(
        pair_bytes(layer.matrix_shape, settings.rank, number_bytes(layer, settings.precision)) for layer in layers
    )  # fmt: skip
    note = f"rank {'–'.join(map(str, file.ranks))} → {settings.rank}; {len(layers):,} layers"
    return Outlook(note, layers, size, tuple(problems), tuple(_warnings(settings.rank, file)))


def _warnings(rank: int, file: LoraFile) -> list[Problem]:
    about = file.metadata.get("ss_network_module", "") + file.metadata.get("ss_network_args", "")
    if "dylora" not in about:
        what = "does not say that it is a DyLoRA. The ranks of an ordinary LoRA are in no order: use resize for it."
        return [Problem(str(file.path), what)]
    unit = _unit(file.metadata.get("ss_network_args", ""))
    if rank % unit:
        what = f"was trained in blocks of {unit} ranks; take a multiple of {unit} (got {rank})."
        return [Problem(str(file.path), what)]
    return []


def _unit(text: str) -> int:
    """How many ranks were trained together."""
    try:
        arguments = json.loads(text)
        return max(1, int(arguments.get("unit") or arguments.get("block_size") or 1))
    except (ValueError, AttributeError, TypeError):
        return 1
