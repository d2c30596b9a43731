"""What an expert (base model or refiner) is told at each step: the prompts' features and the numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.drawing.denoising import Denoise
from engine.drawing.prompt_chunks import Chunk, chunks_of
from engine.drawing.prompt_language import StepText, text_at
from engine.sdxl.guidance import guided
from engine.sdxl.text import TextFeatures, encode_prompt
from engine.sdxl.tokenizer import PAD_ONE, PAD_TWO, Tokenizers
from engine.sdxl.unet import predict, size_ids

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass
class PromptEncoder:
    """Encodes texts with one expert's text encoders (both, or the refiner's one), each text once."""

    encoders: Sequence[Any]
    clip_skip: int
    _known: dict[tuple[str, int], TextFeatures] = field(default_factory=dict)

    def chunk_count(self, text: str) -> int:
        return len(chunks_of(text, Tokenizers.load()))

    def features(self, text: str, chunk_count: int) -> TextFeatures:
        """rows [1, 77 · chunk_count, width] and pooled [1, projection], on the encoders' device."""
        key = (text, chunk_count)
        if key not in self._known:
            chunks = chunks_of(text, Tokenizers.load())
            chunks += [Chunk()] * (chunk_count - len(chunks))
            device = self.encoders[-1].device
            pads = (PAD_ONE, PAD_TWO)[-len(self.encoders) :]
            ids = [torch.tensor([[chunk.padded_ids(pad) for chunk in chunks]], device=device) for pad in pads]
            weights = torch.tensor([[chunk.padded_weights() for chunk in chunks]], device=device)
            self._known[key] = encode_prompt(self.encoders, ids, weights, self.clip_skip)
        return self._known[key]


@dataclass(frozen=True)
class Texts:
    """The texts of one picture over the steps."""

    positive: tuple[StepText, ...]
    negative: tuple[StepText, ...]


@dataclass(frozen=True)
class Guidance:
    """How strongly the prompt counts, and how much of the added contrast is taken back."""

    cfg_scale: float
    rescale: float = 0.0


class Told:
    """The features of a batch of pictures at each step, with the CFG's second half where it is on."""

    def __init__(self, encoder: PromptEncoder, texts: Sequence[Texts], is_guided: bool) -> None:
        self.encoder, self.is_guided = encoder, is_guided
        self.schedules = [each.positive for each in texts]
        if is_guided:
            self.schedules = [each.negative for each in texts] + self.schedules
        every = {item.text for schedule in self.schedules for item in schedule}
        self.chunk_count = max(encoder.chunk_count(text) for text in every)
        self._last: tuple[list[str], TextFeatures] | None = None
        for text in every:  # now, so that the text encoders may leave memory before the first step
            encoder.features(text, self.chunk_count)

    def at(self, step: int) -> TextFeatures:
        """rows [B or 2B, 77n, width] and pooled [B or 2B, projection]: all negatives, then all positives."""
        texts = [text_at(schedule, step) for schedule in self.schedules]
        if self._last is None or self._last[0] != texts:
            found = [self.encoder.features(text, self.chunk_count) for text in texts]
            rows, pooled = torch.cat([one.rows for one in found]), torch.cat([one.pooled for one in found])
            self._last = texts, TextFeatures(rows, pooled)
        return self._last[1]


def base_ids(size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Size numbers of the base model for negative and positive, fp32 [6]: a whole picture of this size."""
    ids = size_ids(size_px, (0, 0), size_px)
    return ids, ids


def refiner_ids(size_px: tuple[int, int], scores: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Those of the refiner, fp32 [5]: height, width, top, left, aesthetic score (negative, positive)."""
    width, height = size_px
    negative, positive = (torch.tensor([height, width, 0, 0, score], dtype=torch.float32) for score in scores)
    return negative, positive


def expert(unet: UNet2DConditionModel, told: Told, numbers: tuple[Tensor, Tensor], guidance: Guidance) -> Denoise:
    """What denoises with this UNet. numbers: size numbers for negative and positive."""
    moved: dict[int, TextFeatures] = {}

    def features(step: int) -> TextFeatures:
        found = told.at(step)
        if id(found) not in moved:
            moved.clear()
            moved[id(found)] = TextFeatures(found.rows.to(unet.device), found.pooled.to(unet.device))
        return moved[id(found)]

    def denoise(noisy: Tensor, timestep: Tensor, step: int) -> Tensor:
        text, count = features(step), noisy.shape[0]
        parts = numbers if told.is_guided else numbers[1:]
        ids = torch.cat([part[None].expand(count, -1) for part in parts]).to(unet.device)
        batch = torch.cat([noisy] * len(parts))
        timesteps = timestep.to(unet.device).expand(len(batch))
        predicted = predict(unet, batch, timesteps, text.rows, text.pooled, ids).float()
        if not told.is_guided:
            return predicted
        without, with_prompt = predicted.chunk(2)
        return guided(without, with_prompt, guidance.cfg_scale, guidance.rescale)

    return denoise
