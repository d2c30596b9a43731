"""The tool `prune`: only chosen layers of a LoRA stay; their weights are not touched."""

from __future__ import annotations

from functools import partial
from typing import Literal

from engine.errors import Problem, UserError
from engine.layer_choice import LayerChoice, hits, read_patterns
from engine.lora_tools.choices import Files, Result
from engine.lora_tools.each_file import Outlook, carry_out_each, propose_each
from engine.lora_tools.lora_file import LoraFile
from engine.lora_tools.selection import blocks_of, kept_outlook
from engine.sdxl.layers import UNET, block_of
from engine.settings import setting
from engine.tools.tool import Proposal, Report

TITLE = "Pruning"
ABOUT = "Keep chosen blocks and layers of a LoRA, leave the others out."


class _Choice(Files):
    blocks: Literal[
        "all", "up_blocks", "attention", "cross_attention", "attention_and_feed_forward", "residual_blocks", "b_lora",
        "b_lora_content", "b_lora_style",
    ] = setting("all", "Which layers of the UNet stay.", "保留的块")  # fmt: skip
    block_numbers: str = setting(
        "",
        "Keep only these blocks of the UNet, as kohya's trainer counts them from 0 to 22, like 4-9, 13; empty: all.",
        "块编号",
    )
    include: str = setting(
        "", "Keep only layers that one of these patterns hits, like *attn2*; one a line.", "包含的层", kind="lines",
        level="advanced",
    )  # fmt: skip
    exclude: str = setting(
        "", "Leave out layers that one of these patterns hits; one a line.", "排除的层", kind="lines", level="advanced"
    )
    text_encoders: bool = setting(True, "Keep the text encoders' layers that the patterns leave.", "保留文本编码器")


class Settings(Result, _Choice):
    pass


def propose(settings: Settings) -> Proposal:
    """Which layers would stay."""
    numbers = blocks_of(settings.block_numbers)
    problems: list[Problem] = []
    choice = LayerChoice(
        blocks=settings.blocks,
        include=read_patterns("include", settings.include, problems),
        exclude=read_patterns("exclude", settings.exclude, problems),
    )
    if problems:
        raise UserError(problems[0].message, problems[0].where)
    return propose_each(settings.files, settings, "prune", "pruned", partial(_look, settings, choice, numbers))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.selecting import Selecting

    facts = {name: str(value) for name, value in settings.model_dump(exclude={"files", "output"}).items()}
    carry_out_each(proposal, report, partial(Selecting, "prune", settings.precision, facts))


def _look(settings: Settings, choice: LayerChoice, numbers: frozenset[int], file: LoraFile) -> Outlook:
    def stays(name: str, part: str) -> bool:
        if not choice.rate_of(name):
            return False
        return (not numbers or block_of(name) in numbers) if part == UNET else settings.text_encoders

    outlook = kept_outlook(file, settings.precision, lambda layer: stays(layer.name, layer.part))
    texts = (("include", choice.include), ("exclude", choice.exclude))
    unused = [(where, pattern) for where, patterns in texts for pattern in patterns if not _hits_one(pattern, file)]
    warnings = [Problem(where, f"hits no layer of {file.path.name} (got {pattern!r}).") for where, pattern in unused]
    return Outlook(outlook.note, outlook.layers, outlook.size_bytes, outlook.problems, tuple(warnings))


def _hits_one(pattern: str, file: LoraFile) -> bool:
    return any(hits(pattern, name) for name in file.layers)
