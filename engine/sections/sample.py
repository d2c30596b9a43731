"""Settings of the section `sample`: pictures drawn on the way."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Sample(Section):
    prompts: str = setting("", "One sample image per line. A line may end with --n negative prompt, --w width, --h height, --s steps, --l CFG scale, --d seed.", "样图提示词", kind="lines", kohya="sample_prompts", sd_scripts="sample_prompts")
    negative: str = setting("", "Negative prompt for lines that give none.", "负面提示词", label="Negative prompt")
    at_start: bool = setting(True, "Draw the samples before the first step too, to compare with.", "开始前采样", label="Sample before the first step", sd_scripts="sample_at_first")
    every_epochs: int = setting(1, "Draw the samples every so many epochs, and at the end; 0 for none on the way.", "每 N 轮采样", ge=0, le=100000, unit="epochs", kohya="sample_every_n_epochs", sd_scripts="sample_every_n_epochs")
    every_steps: int = setting(0, "Draw the samples every so many steps; 0 for none on the way.", "每 N 步采样", ge=0, le=10000000, unit="steps", level="advanced", kohya="sample_every_n_steps", sd_scripts="sample_every_n_steps")
    sampler: Literal["euler", "euler_a", "ddim", "dpmpp_2m_karras"] = setting("euler", "The sampler that draws the pictures.", "采样器", level="advanced", kohya="sample_sampler", sd_scripts="sample_sampler")
    steps: int = setting(24, "Sampling steps per picture.", "采样步数", ge=1, le=200, unit="steps", level="advanced")
    cfg_scale: float = setting(6.0, "How closely pictures follow the prompt (CFG scale).", "CFG 强度", label="CFG scale", ge=1, le=30, level="advanced")
    width_px: int = setting(1024, "Width of sample images.", "样图宽度", ge=64, le=4096, multiple_of=8, unit="px", level="advanced")
    height_px: int = setting(1024, "Height of sample images.", "样图高度", ge=64, le=4096, multiple_of=8, unit="px", level="advanced")
    seed: int = setting(1234, "Seed of the first sample; each further line counts one up.", "样图种子", ge=0, le=4294967295, level="advanced")
