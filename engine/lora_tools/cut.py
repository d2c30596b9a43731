"""The tool `cut`: a LoRA without its text encoders, or without its UNet."""

from __future__ import annotations

from functools import partial
from typing import Literal

from engine.lora_tools.choices import Files, Result
from engine.lora_tools.each_file import Outlook, carry_out_each, propose_each
from engine.lora_tools.lora_file import LoraFile
from engine.lora_tools.selection import kept_outlook
from engine.sdxl.layers import TEXT_1, TEXT_2, UNET
from engine.settings import setting
from engine.tools.tool import Proposal, Report

TITLE = "Cutting parts away"
ABOUT = "Take the text encoders, or the UNet, out of a LoRA."
PARTS: dict[str, tuple[str, ...]] = {
    "text_encoders": (TEXT_1, TEXT_2),
    "text_encoder_1": (TEXT_1,),
    "text_encoder_2": (TEXT_2,),
    "unet": (UNET,),
}


class _Choice(Files):
    away: Literal["text_encoders", "text_encoder_1", "text_encoder_2", "unet"] = setting(
        "text_encoders", "What goes; the weights of the rest are not touched.", "去掉"
    )


class Settings(Result, _Choice):
    pass


def propose(settings: Settings) -> Proposal:
    """What would be left of each file."""
    mark = f"no-{settings.away.replace('_', '-')}"
    return propose_each(settings.files, settings, "cut", mark, partial(_look, settings))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.selecting import Selecting

    carry_out_each(proposal, report, partial(Selecting, "cut", settings.precision, {"away": settings.away}))


def _look(settings: Settings, file: LoraFile) -> Outlook:
    gone = PARTS[settings.away]
    return kept_outlook(file, settings.precision, lambda layer: layer.part not in gone)
