"""How a batch of pictures comes about: latents, first pass, hires pass, refiner, decoding. Read it from the top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from engine.drawing.conditioning import Guidance, Texts, Told, base_ids, expert, refiner_ids
from engine.drawing.denoising import AfterStep, Denoise, Kept, denoise_latents
from engine.drawing.pictures_in import Beginning, Masking, read_beginning, read_part, to_pixels
from engine.drawing.plan import DrawingPlan, PlannedPicture
from engine.drawing.samplers import Steps, all_steps, split_at
from engine.drawing.settings import enlarged_px
from engine.drawing.studio import Expert, Studio
from engine.drawing.tiling import circular
from engine.errors import UserError
from engine.finite import is_finite
from engine.preset import resolve
from engine.sdxl.latents import LATENT_CHANNELS, PX_PER_LATENT, decode, draw_latents, encode_moments, to_pictures

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from engine.drawing.groups import Model
    from engine.sdxl.detect import ModelFacts
    from engine.sdxl.noise import Prediction

TILED_ABOVE_PX = 2_500_000
Size = tuple[int, int]
Say = Callable[[str], None]


def draw_batch(
    plan: DrawingPlan, batch: Sequence[PlannedPicture], studio: Studio, look: AfterStep, say: Say = lambda text: None
) -> list[Image.Image]:
    """The pictures of one batch, all with the same LoRAs. `look` sees each step and may raise to cancel.

    Raises UserError kinds where files turn out not to fit.
    """
    preset = plan.preset
    base, refiner, vae = studio.open(plan, say)
    studio.wake(base)
    base.stack.use(batch[0].loras)
    say("Drawing")
    models = [base.unet, vae, *([refiner.unet] if refiner else [])]
    with torch.no_grad(), circular(models, preset.tiling.horizontal, preset.tiling.vertical):
        experts = _Experts(plan, batch, studio, (base, refiner))
        canvas = Canvas(vae, preset.model.vae_tiling, bool(preset.tiling.horizontal or preset.tiling.vertical))
        size_px, beginning = (preset.picture.width_px, preset.picture.height_px), _beginning(plan)
        if preset.hires.on:
            latents = _from_noise(experts, _generators(batch), size_px, look, hands_over=False)
            latents = _hires_pass(experts, canvas, latents, _generators(batch), look)
        elif beginning is not None:
            latents = _from_picture(experts, canvas, beginning, _generators(batch), look)
        else:
            latents = _from_noise(experts, _generators(batch), size_px, look)
        _check_finite(latents)
        pictures = to_pictures(canvas.pixels(latents))
    if beginning is None:
        return pictures
    return [beginning.finished(picture, preset.image.keep_outside) for picture in pictures]


def _check_finite(latents: Tensor) -> None:
    if not is_finite(latents):
        what = "the model gave values that are not finite: half precision does not suffice, or a LoRA is too strong."
        raise UserError(f"{what} Set it to bf16 or fp32, or lower the strengths.", "model.precision")


def model_kind(settings: Model, facts: ModelFacts) -> tuple[Prediction, bool]:
    """Prediction and whether the schedule ends in pure noise: the preset's word, else the file's."""
    wanted = settings.zero_terminal_snr
    zero = facts.zero_terminal_snr if wanted == "auto" else wanted == "yes"
    return facts.prediction if settings.prediction == "auto" else settings.prediction, zero


def _generators(batch: Sequence[PlannedPicture]) -> list[torch.Generator]:
    """One a picture, on the CPU: a picture is the same whatever it is drawn together with, and on every machine."""
    return [torch.Generator().manual_seed(picture.seed) for picture in batch]


def _randn(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal [B, *shape] fp32, each picture's from its own generator."""
    return torch.cat([torch.randn(1, *shape, generator=generator) for generator in generators])


# ---------------------------------------------------------------- passes


def _from_noise(
    experts: _Experts, generators: list[torch.Generator], size_px: Size, look: AfterStep, hands_over: bool = True
) -> Tensor:
    """Text to image: latents [B, 4, h, w] from pure noise."""
    steps = experts.steps(experts.plan.preset.sampling.steps)
    shape = (LATENT_CHANNELS, size_px[1] // PX_PER_LATENT, size_px[0] // PX_PER_LATENT)
    noise = _randn(shape, generators).to(experts.device) * steps.scheduler.init_noise_sigma
    return denoise_latents(noise, experts.stages(steps, size_px, hands_over), generators, look)


def _from_picture(
    experts: _Experts, canvas: Canvas, beginning: Beginning, generators: list[torch.Generator], look: AfterStep
) -> Tensor:
    """Image to image, and inpainting where there is a mask. With a strength of 1 inpainting begins with pure noise."""
    preset, size_px = experts.plan.preset, beginning.picture.size
    strength = preset.image.denoising_strength
    steps = experts.steps(preset.sampling.steps, strength)
    old = canvas.latents(beginning.pixels().expand(len(generators), -1, -1, -1), generators)
    noise = _randn(old.shape[1:], generators).to(old.device)
    kept = None
    if beginning.mask is not None:
        kept = Kept(old, noise, beginning.latent_mask().to(old.device))
    if kept is not None and strength == 1:
        latents = noise * steps.scheduler.init_noise_sigma
    else:
        latents = _noised(steps, old, noise)
    return denoise_latents(latents, experts.stages(steps, size_px), generators, look, kept)


def _hires_pass(
    experts: _Experts, canvas: Canvas, latents: Tensor, generators: list[torch.Generator], look: AfterStep
) -> Tensor:
    """Enlarge what the first pass drew, add noise, and draw the last steps anew."""
    preset, size_px = experts.plan.preset, enlarged_px(experts.plan.preset)
    shape = (size_px[1] // PX_PER_LATENT, size_px[0] // PX_PER_LATENT)
    if preset.hires.upscaler == "latent":
        latents = functional.interpolate(latents, size=shape, mode="bilinear")
    else:
        small = to_pictures(canvas.pixels(latents))
        large = [to_pixels(picture.resize(size_px, Image.Resampling.LANCZOS)) for picture in small]
        latents = canvas.latents(torch.cat(large), generators)
    first_steps = preset.sampling.steps
    steps = experts.steps(preset.hires.steps or first_steps, preset.hires.denoising_strength)
    noise = _randn(latents.shape[1:], generators).to(latents.device)
    stages = experts.stages(steps, size_px, first_pass_steps=first_steps)
    return denoise_latents(_noised(steps, latents, noise), stages, generators, look)


def _noised(steps: Steps, latents: Tensor, noise: Tensor) -> Tensor:
    return steps.scheduler.add_noise(latents, noise, steps.timesteps[:1].expand(len(latents)))


def _beginning(plan: DrawingPlan) -> Beginning | None:
    image, picture = plan.preset.image, plan.preset.picture
    if not image.init:
        return None
    path, size_px = resolve(image.init), (picture.width_px, picture.height_px)
    if not image.mask:
        return read_beginning(path, size_px, image.resize_mode)
    masking = Masking(resolve(image.mask), image.mask_inverted, image.mask_blur_px)
    if image.area == "masked":
        return read_part(path, size_px, masking, image.padding_px)
    return read_beginning(path, size_px, image.resize_mode, masking)


# ---------------------------------------------------------------- experts and VAE


class _Experts:
    """Base model and refiner as they denoise this batch."""

    def __init__(
        self, plan: DrawingPlan, batch: Sequence[PlannedPicture], studio: Studio, experts: tuple[Expert, Expert | None]
    ) -> None:
        self.plan, self.batch, self.studio = plan, batch, studio
        self.base, self.refiner = experts
        self.device = self.base.unet.device

    def steps(self, count: int, strength: float = 1.0, expert: Expert | None = None) -> Steps:
        prediction, zero = model_kind(self.plan.preset.model, (expert or self.base).facts)
        return all_steps(self.plan.preset.sampling, prediction, zero, count, strength)

    def stages(
        self, steps: Steps, size_px: Size, hands_over: bool = True, first_pass_steps: int | None = None
    ) -> list[tuple[Steps, Denoise]]:
        """Who makes which steps: the base model all of them, or the first ones and the refiner the rest."""
        count = int(steps.scheduler.num_inference_steps)
        whole = self._denoise(self.base, size_px, count, first_pass_steps)
        if self.refiner is None or not hands_over:
            return [(steps, whole)]
        later = self.steps(count, expert=self.refiner)
        first, second = split_at(steps, later, self.plan.preset.refiner.switch_at)
        refine = self._denoise(self.refiner, size_px, count, first_pass_steps)
        return [(part, denoise) for part, denoise in ((first, whole), (second, refine)) if len(part.timesteps)]

    def _denoise(self, one: Expert, size_px: Size, steps: int, first_pass_steps: int | None) -> Denoise:
        preset = self.plan.preset
        loras = self.batch[0].loras if one is self.base else ()
        encoder = self.studio.prompts(one, loras, preset.picture.clip_skip)
        texts = [Texts(*picture.texts(steps, first_pass_steps)) for picture in self.batch]
        self.studio.wake(one)
        told = Told(encoder, texts, preset.sampling.cfg_scale != 1)
        self.studio.rest(one)
        scores = preset.refiner.negative_aesthetic_score, preset.refiner.aesthetic_score
        numbers = refiner_ids(size_px, scores) if one.is_refiner else base_ids(size_px)
        return expert(one.unet, told, numbers, Guidance(preset.sampling.cfg_scale, preset.sampling.cfg_rescale))


class Canvas:
    """The VAE: between pixels and latents, in tiles where pictures are large."""

    def __init__(self, vae: AutoencoderKL, tiling: str, is_circular: bool) -> None:
        self.vae, self.tiling, self.is_circular = vae, tiling, is_circular

    def pixels(self, latents: Tensor) -> Tensor:
        """[B, 4, h, w] → fp32 [B, 3, 8h, 8w], one picture at a time."""
        self._set_tiles(latents.shape[-1] * latents.shape[-2] * PX_PER_LATENT**2)
        return torch.cat([decode(self.vae, one[None]).cpu() for one in latents])

    def latents(self, pixels: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """[B, 3, H, W] → scaled latents [B, 4, h, w], drawn from what the VAE tells with each picture's generator."""
        self._set_tiles(pixels.shape[-1] * pixels.shape[-2])
        moments = torch.cat([encode_moments(self.vae, one[None]) for one in pixels])
        eps = _randn((LATENT_CHANNELS, *moments.shape[-2:]), generators).to(moments.device)
        return draw_latents(moments, eps)

    def _set_tiles(self, picture_px: int) -> None:
        auto = picture_px > TILED_ABOVE_PX and not self.is_circular
        self.vae.use_tiling = auto if self.tiling == "auto" else self.tiling == "on"
