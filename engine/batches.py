"""The batches of a step: a function of the plan, the seed and the step, never of history.

Everything random of a step is drawn here, before the step, so that the step itself can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from engine.caption_source import CaptionSource
from engine.data import buckets, order
from engine.data.caption_draws import Caption
from engine.data.color import UNSHIFTED, draw_color
from engine.draws import draw_below
from engine.latent_source import Cut, LatentSource
from engine.mask_source import MaskSource
from engine.noise_draws import shaped_noise
from engine.plan import Plan, images_at_once
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.processes import ALONE, Processes
from engine.sdxl.latents import draw_latents
from engine.sdxl.unet import size_ids
from engine.text_source import TextSource, Words
from engine.timesteps import cumulative, fractions, timestep_of


@dataclass(frozen=True)
class Batch:
    """What one forward pass needs, on the device. B images, of `step_images` that the whole step has, with the captions
    drawn for them and what the model reads of these (`words`); h, w: latent sides.

    latents, noise [B, 4, h, w] fp32; input_noise: what the input is noised with, the noise itself unless perturbed;
    timesteps [B] int64; size_ids [B, 6]; weights [B]: image weight ÷ images of the step, so that the sum over a step's
    batches is the step's loss; mask [B, 1, h, w]: what each latent cell counts, None where no masks are used. The
    images are those from `first` on of the `whole` batch at this `place` of the step, which processes may share.
    """

    images: tuple[ImagePlan, ...]
    step_images: int
    captions: tuple[Caption, ...]
    words: Words
    latents: torch.Tensor
    noise: torch.Tensor
    input_noise: torch.Tensor
    timesteps: torch.Tensor
    size_ids: torch.Tensor
    weights: torch.Tensor
    mask: torch.Tensor | None
    place: int = 0
    first: int = 0
    whole: int = 0


@dataclass(frozen=True)
class _Place:
    """A batch's place in its step, the images of the whole step, and which of the batch are this process's."""

    step: int
    place: int
    total: int
    own: slice


class BatchMaker:
    """Makes the batches of any step: a function of the plan, the seed and the step, never of history."""

    def __init__(
        self,
        preset: Preset,
        plan: Plan,
        sources: tuple[LatentSource, MaskSource | None, TextSource],
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        """A batch of all GPUs together is drawn as one and then cut into a share for each (`run.gpus`)."""
        self.preset = preset
        self.captions = CaptionSource(preset, plan)
        self.plan = plan
        self.latents, self.masks, self.text = sources
        self.device = device
        self._cumulative = cumulative(preset.noise)
        self.processes = processes
        self._epoch = -1
        self._groups: list[tuple[order.Batch, ...]] = []
        self._showings: list[tuple[order.Batch, ...]] = []

    def epoch_of(self, step: int) -> int:
        """Epoch (from 0) that step number `step` (from 0) belongs to."""
        return step // self.plan.steps_per_epoch

    def batches(self, step: int) -> list[Batch]:
        """The batches of this process whose gradients step number `step` (from 0) adds up; none in a short step of
        which other processes have all images."""
        epoch = self.epoch_of(step)
        if epoch != self._epoch:
            self._groups = self.captions.epoch_steps(epoch)
            self._showings = order.showings(self._groups)
            self._epoch = epoch
        group = self._groups[step % self.plan.steps_per_epoch]
        total = sum(len(batch) for batch in group)
        starts = accumulate((len(batch) for batch in group), initial=0)
        spread = self._spread_timesteps(total, step)
        return [
            self._batch(batch, _Place(step, place, total, own), spread[start : start + len(batch)])
            for place, (batch, start) in enumerate(zip(group, starts, strict=False))
            for own in self._shares(len(batch))
        ]

    def _captions(self, indices: order.Batch, step: int, place: int) -> tuple[Caption, ...]:
        showings = self._showings[step % self.plan.steps_per_epoch][place]
        pairs = zip(indices, showings, strict=True)
        return tuple(self.captions.caption(index, showing, step) for index, showing in pairs)

    def _shares(self, images: int) -> list[slice]:
        """Which images of a batch this process computes, one slice for each GPU that it stands for."""
        size = -(-images // self.preset.run.gpus)
        return [
            slice(share * size, (share + 1) * size)
            for share in self.processes.shares(self.preset.run.gpus)
            if share * size < images
        ]

    def _batch(self, indices: order.Batch, at: _Place, spread_timesteps: Sequence[int]) -> Batch:
        """Everything random is drawn for the whole batch, so that it is the same however many processes share it."""
        everyone = [self.plan.images[index] for index in indices]
        images = tuple(everyone[at.own])
        cuts = [self._cut(image, at.step, at.place, number) for number, image in enumerate(everyone)][at.own]
        seed = self.preset.run.seed
        generator = _generator("step", seed, at.step, at.place)
        moments = self.latents.moments(images, cuts)
        shape = (len(everyone), 4, *moments.shape[-2:])
        draw = torch.randn(shape, generator=generator)[at.own]
        plain = torch.randn(shape, generator=generator).to(self.device)
        offset = torch.randn((len(everyone), 4, 1, 1), generator=generator).to(self.device)
        low, high = self.preset.noise.min_timestep, self.preset.noise.max_timestep
        timesteps = torch.tensor(spread_timesteps, dtype=torch.int64)
        if not spread_timesteps:
            timesteps = torch.randint(low, max(high, low + 1), (len(everyone),), generator=generator)
        latents = draw_latents(moments.to(self.device), draw.to(self.device))
        in_whole = torch.zeros_like(plain)
        in_whole[at.own] = latents
        noise, input_noise = shaped_noise(
            self.preset.noise, plain, offset, in_whole, lambda name: _generator(name, seed, at.step, at.place)
        )
        prior = self.preset.loss.prior_weight
        weights = [image.weight * (prior if image.is_regularization else 1.0) / at.total for image in images]
        ids = [
            size_ids(image.size_px, _shown_left_top_px(image, cut), image.bucket_px)
            for image, cut in zip(images, cuts, strict=True)
        ]
        captions = self._captions(indices, at.step, at.place)[at.own]
        return Batch(
            images=images,
            step_images=at.total,
            captions=captions,
            words=self.text.words(captions),
            latents=latents,
            noise=noise[at.own],
            input_noise=input_noise[at.own],
            timesteps=timesteps[at.own].to(self.device),
            size_ids=torch.stack(ids).to(self.device),
            weights=torch.tensor(weights, device=self.device),
            mask=None if self.masks is None else self.masks.masks(images, cuts).to(self.device),
            place=at.place,
            first=at.own.start,
            whole=len(everyone),
        )

    def _spread_timesteps(self, total: int, step: int) -> list[int]:
        """The timesteps of a step's images; empty where each batch draws its own evenly from the range."""
        noise = self.preset.noise
        if noise.timesteps == "uniform" and noise.timestep_spread == "independent":
            return []
        drawn = fractions(noise.timestep_spread, total, self.preset.run.seed, step)
        return [timestep_of(self._cumulative, fraction) for fraction in drawn]

    def _cut(self, image: ImagePlan, step: int, place: int, at: int) -> Cut:
        preset, seed = self.preset, self.preset.run.seed
        draw = place * images_at_once(preset) + at
        left_top = image.crop_left_top_px
        if image.value(preset, "data.random_crop"):
            left_top = buckets.random_crop(image.placement, seed, step, draw)
        color = draw_color(seed, step, draw) if image.value(preset, "data.color_jitter") else UNSHIFTED
        return Cut(left_top, image.value(preset, "data.flip") and buckets.flip(seed, step, draw), color)


def _shown_left_top_px(image: ImagePlan, cut: Cut) -> tuple[int, int]:
    """Where the cut lies in the picture as the model sees it."""
    return buckets.mirrored(image.placement, cut.left_top_px) if cut.flip else cut.left_top_px


def _generator(name: str, seed: int, step: int, place: int) -> torch.Generator:
    """A generator for one kind of draw of one batch; `place` is the batch's place in its step."""
    return torch.Generator().manual_seed(draw_below(2**63, name, seed, step, place))
