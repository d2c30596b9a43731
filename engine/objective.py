"""The loss of a batch. Inside it nothing waits for the device and no branch depends on a tensor's value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine import losses
from engine.batches import Batch
from engine.sdxl.noise import Prediction, Schedule, add_noise, sdxl_schedule, target
from engine.sdxl.unet import predict

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from engine.sections.loss import Loss
    from engine.text_source import TextSource


@dataclass(frozen=True)
class Objective:
    """What the loss is computed with; the schedule lies on the device."""

    schedule: Schedule
    prediction: Prediction
    terms: losses.LossTerms

    @classmethod
    def of(cls, settings: Loss, prediction: Prediction, zero_terminal_snr: bool, device: torch.device) -> Objective:
        """The preset's section `loss`, for a model of this kind."""
        terms = losses.loss_terms(settings, prediction == "v_prediction")
        return cls(sdxl_schedule(zero_terminal_snr).to(device), prediction, terms)

    def loss(self, unet: UNet2DConditionModel, batch: Batch, text: TextSource) -> torch.Tensor:
        """The batch's share of the step's loss, a 0-dim fp32 tensor."""
        features = text.encode(batch.words)
        noisy = add_noise(self.schedule, batch.latents, batch.input_noise, batch.timesteps)
        predicted = predict(unet, noisy, batch.timesteps, features.rows, features.pooled, batch.size_ids)
        wanted = target(self.schedule, self.prediction, batch.latents, batch.noise, batch.timesteps)
        snr = self.schedule.snr[batch.timesteps]
        weights = losses.ImageWeights(batch.weights, batch.mask)
        return losses.image_losses(self.terms, predicted, wanted, batch.timesteps, snr, weights).sum()
