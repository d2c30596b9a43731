"""One training step: its random numbers and data, its loss, its update.

The step is written to be captured as a CUDA graph: everything random is drawn before it, from (seed, step); inside it
nothing waits for the device and no branch depends on a tensor's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine import losses
from engine.adapters.flat import total_norm
from engine.data import buckets, order
from engine.data.draws import draw_below
from engine.features import Cut, LatentSource, TextSource
from engine.plan import Plan
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.sdxl.latents import draw_latents
from engine.sdxl.noise import Prediction, Schedule, add_noise, offset_noise, target
from engine.sdxl.unet import predict, size_ids

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

INITIAL_LOSS_SCALE = 2.0**16
GROWTH_INTERVAL_STEPS = 2000


@dataclass(frozen=True)
class Batch:
    """What one forward pass needs, on the device. B images; h, w: latent sides.

    latents, noise [B, 4, h, w] fp32; timesteps [B] int64; size_ids [B, 6]; weights [B]: image weight ÷ images of the
    step, so that the sum over a step's batches is the step's loss.
    """

    images: tuple[ImagePlan, ...]
    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    size_ids: torch.Tensor
    weights: torch.Tensor


class BatchMaker:
    """Makes the batches of any step: a function of the plan, the seed and the step, never of history."""

    def __init__(self, preset: Preset, plan: Plan, latents: LatentSource, device: torch.device) -> None:
        self.preset = preset
        self.plan = plan
        self.latents = latents
        self.device = device
        self._epoch = -1
        self._groups: list[tuple[order.Batch, ...]] = []

    def epoch_of(self, step: int) -> int:
        """Epoch (from 0) that step number `step` (from 0) belongs to."""
        return step // self.plan.steps_per_epoch

    def batches(self, step: int) -> list[Batch]:
        """The batches whose gradients step number `step` (from 0) adds up."""
        run = self.preset.run
        epoch = self.epoch_of(step)
        if epoch != self._epoch:
            drawn = order.epoch_batches(self.plan.entries, run.batch_size, run.seed, epoch)
            self._groups = order.step_batches(drawn, run.accumulation)
            self._epoch = epoch
        group = self._groups[step % self.plan.steps_per_epoch]
        total = sum(len(batch) for batch in group)
        return [self._batch(batch, step, place, total) for place, batch in enumerate(group)]

    def _batch(self, indices: order.Batch, step: int, place: int, total: int) -> Batch:
        images = tuple(self.plan.images[index] for index in indices)
        cuts = [self._cut(image, step, place, at) for at, image in enumerate(images)]
        generator = torch.Generator().manual_seed(draw_below(2**63, "step", self.preset.run.seed, step, place))
        moments = self.latents.moments(images, cuts)
        shape = (len(images), 4, *moments.shape[-2:])
        draw = torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        offset = torch.randn((len(images), 4, 1, 1), generator=generator)
        low, high = self.preset.noise.min_timestep, self.preset.noise.max_timestep
        timesteps = torch.randint(low, high, (len(images),), generator=generator)
        if self.preset.noise.offset:
            noise = offset_noise(noise, offset, self.preset.noise.offset)
        prior = self.preset.loss.prior_weight
        weights = [(prior if image.is_regularization else 1.0) / total for image in images]
        ids = [
            size_ids(image.size_px, cut.left_top_px, image.bucket_px) for image, cut in zip(images, cuts, strict=True)
        ]
        return Batch(
            images=images,
            latents=draw_latents(moments.to(self.device), draw.to(self.device)),
            noise=noise.to(self.device),
            timesteps=timesteps.to(self.device),
            size_ids=torch.stack(ids).to(self.device),
            weights=torch.tensor(weights, device=self.device),
        )

    def _cut(self, image: ImagePlan, step: int, place: int, at: int) -> Cut:
        data, run = self.preset.data, self.preset.run
        draw = (place * run.batch_size) + at
        left_top = image.crop_left_top_px
        if data.random_crop:
            left_top = buckets.random_crop(image.placement, run.seed, step, draw)
        return Cut(left_top, data.flip and buckets.flip(run.seed, step, draw))


@dataclass(frozen=True)
class Objective:
    """What the loss is computed with; the schedule lies on the device."""

    schedule: Schedule
    prediction: Prediction
    terms: losses.LossTerms

    def loss(self, unet: UNet2DConditionModel, batch: Batch, text: TextSource) -> torch.Tensor:
        """The batch's share of the step's loss, a 0-dim fp32 tensor."""
        features = text.features([image.caption for image in batch.images])
        rows, pooled = features.rows.to(unet.device), features.pooled.to(unet.device)
        noisy = add_noise(self.schedule, batch.latents, batch.noise, batch.timesteps)
        predicted = predict(unet, noisy, batch.timesteps, rows, pooled, batch.size_ids)
        wanted = target(self.schedule, self.prediction, batch.latents, batch.noise, batch.timesteps)
        snr = self.schedule.snr[batch.timesteps]
        return losses.image_losses(self.terms, predicted, wanted, batch.timesteps, snr, batch.weights).sum()


class Updater:
    """Turns gradients into an update: unscale, clip, leave out when not finite, step.

    In fp16 the loss is scaled (Micikevicius et al. 2018, arXiv 1710.03740): halved after an overflow, doubled after
    2,000 steps without. Scale and its counter are tensors on the device, so that nothing waits for them.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip_norm: float, scaled: bool, device: torch.device) -> None:
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.scaled = scaled
        self.scale = torch.tensor(INITIAL_LOSS_SCALE if scaled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        self.skips_on_device = bool(optimizer.defaults.get("fused"))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rate of each group for this step."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def update(self) -> torch.Tensor:
        """Make the update; returns the gradient's norm before clipping (not finite: the update was left out)."""
        held = [parameter for parameter in self.parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        if self.scaled:
            torch._foreach_mul_(gradients, 1.0 / self.scale)
        norm = total_norm(gradients)
        finite = torch.isfinite(norm)
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(held, self.clip_norm, norm, foreach=True)
        if self.skips_on_device:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self.optimizer.step()
        elif bool(finite):
            self.optimizer.step()
        if self.scaled:
            self._adapt_scale(finite)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _adapt_scale(self, finite: torch.Tensor) -> None:
        good = torch.where(finite, self.good_steps + 1, torch.zeros_like(self.good_steps))
        grown = good >= GROWTH_INTERVAL_STEPS
        factor = torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5)
        self.scale.mul_(factor)
        self.good_steps.copy_(torch.where(grown, torch.zeros_like(good), good))
