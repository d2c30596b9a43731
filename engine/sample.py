"""Sample images: drawn during a run, or by `python -m engine sample`; PNG files that carry their settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine import events
from engine.atomic import whole_file
from engine.data.caption_draws import Caption
from engine.drawing.parameters_text import write
from engine.drawing.picture_text import PROGRAM
from engine.prompts import SamplePrompt
from engine.report import Reporter
from engine.sdxl.latents import decode, to_pictures
from engine.sdxl.noise import Prediction
from engine.sdxl.samplers import Drawing, draw
from engine.stopping import Stopping
from engine.text_source import TextSource

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

# Our names → sampler and schedule type as other programs write them into pictures
SAMPLER_NAMES = {
    "euler": ("Euler", "Normal"),
    "euler_a": ("Euler a", "Normal"),
    "ddim": ("DDIM", "Normal"),
    "dpmpp_2m_karras": ("DPM++ 2M", "Karras"),
}


class Artist:
    """Draws one picture from a prompt with the model as it is now."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: TextSource,
        prediction: Prediction,
        zero_terminal_snr: bool,
    ) -> None:
        self.unet = unet
        self.vae = vae
        self.text = text
        self.prediction: Prediction = prediction
        self.zero_terminal_snr = zero_terminal_snr

    @torch.no_grad()
    def picture(self, prompt: SamplePrompt) -> Image.Image:
        """The picture of a prompt; the same prompt and seed start from the same noise on every machine."""
        positive, negative = (self.text.features([Caption.of(words)]) for words in (prompt.prompt, prompt.negative))
        drawing = Drawing(
            size_px=(prompt.width_px, prompt.height_px),
            steps=prompt.steps,
            cfg_scale=prompt.cfg_scale,
            seed=prompt.seed,
            sampler=prompt.sampler,
        )
        latents = draw(self.unet, positive, negative, drawing, self.prediction, self.zero_terminal_snr)
        home = self.vae.device
        try:
            pixels = decode(self.vae.to(self.unet.device), latents)  # pyright: ignore[reportArgumentType]
        finally:
            self.vae.to(home)  # pyright: ignore[reportArgumentType]
        return to_pictures(pixels)[0]


class Sampler:
    """Draws a run's samples into its folder."""

    def __init__(
        self, artist: Artist, prompts_at: Callable[[int], Sequence[SamplePrompt]], report: Reporter, model_name: str
    ) -> None:
        """`prompts_at` gives the prompts that are in force at a step."""
        self.artist = artist
        self.prompts_at = prompts_at
        self.report = report
        self.model_name = model_name

    def path(self, step: int, index: int) -> Path:
        """Where the sample of that step and prompt lies."""
        return self.report.run.samples / f"step-{step:06d}_{index:02d}.png"

    def has_drawn(self, step: int) -> bool:
        """Whether all samples of a step are there."""
        return all(self.path(step, index).exists() for index in range(len(self.prompts_at(step))))

    def draw(self, step: int, stopping: Stopping) -> None:
        """Draw all samples of a step. A failed one warns and training goes on; a stop ends it early."""
        stage, self.report.stage_name = self.report.stage_name, "Drawing samples"
        prompts = self.prompts_at(step)
        for index, prompt in enumerate(prompts):
            if stopping.asked:
                break
            self.report.progress(index, len(prompts))
            begun_seconds = time.monotonic()
            try:
                picture = self.artist.picture(prompt)
                save_picture(picture, self.path(step, index), prompt, f"{self.model_name}, step {step}")
            except Exception as error:  # whatever goes wrong with a picture must not end hours of training
                self.report.warn(f"sample {index + 1} could not be drawn ({_reason(error)}). Training goes on.")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            seconds = time.monotonic() - begun_seconds
            relative = str(self.path(step, index).relative_to(self.report.run.path))
            self.report.emit(events.Sampled(step, index, prompt.prompt, prompt.seed, relative, seconds))
        self.report.progress(len(prompts), len(prompts))
        self.report.stage_name = stage


def save_picture(picture: Image.Image, path: Path, prompt: SamplePrompt, model: str) -> None:
    """Write a PNG, whole or not at all, with the usual `parameters` text."""
    info = PngInfo()
    info.add_itxt("parameters", parameters_text(prompt, model))
    with whole_file(path) as part:
        picture.save(part, format="PNG", pnginfo=info)


def parameters_text(prompt: SamplePrompt, model: str) -> str:
    """The settings of a picture as A1111 and its relatives write and read them."""
    sampler, sigmas = SAMPLER_NAMES[prompt.sampler]
    pairs = [
        ("Steps", prompt.steps),
        ("Sampler", sampler),
        ("Schedule type", sigmas),
        ("CFG scale", prompt.cfg_scale),
        ("Seed", prompt.seed),
        ("Size", f"{prompt.width_px}x{prompt.height_px}"),
        ("Model", model),
        ("RNG", "CPU"),
        ("Version", PROGRAM),
    ]
    return write(prompt.prompt, prompt.negative, pairs)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
