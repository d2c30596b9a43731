"""From token ids to what SDXL's UNet is told: the rows of both text encoders side by side, and a pooled summary.

SDXL (Podell et al. 2023, arXiv 2307.01952, section 2.1) takes the penultimate layer of both encoders, without the
final norm, and the projected summary of the second (OpenCLIP ViT-bigG) at its end-of-text token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import create_causal_mask

from engine.errors import UserError
from engine.sdxl.tokenizer import EOS

if TYPE_CHECKING:
    from engine.sdxl.checkpoint import TextEncoders


@dataclass(frozen=True)
class TextFeatures:
    """rows [B, 2 + 75n, width one + width two] and pooled [B, projection]; 2,048 and 1,280 wide in SDXL."""

    rows: torch.Tensor
    pooled: torch.Tensor


def encode_text(
    encoders: TextEncoders,
    ids_one: torch.Tensor,
    ids_two: torch.Tensor,
    clip_skip: int = 2,
    weights: tuple[torch.Tensor, torch.Tensor] | None = None,
    checkpointing: bool = False,
) -> TextFeatures:
    """Encode captions that `Tokenizers.ids` cut into chunks. Differentiable with respect to both encoders.

    ids_one, ids_two: int64 [B, n, 77], on the encoders' device. clip_skip: which hidden state from the end; 2 is what
    SDXL was trained with. Layers that nothing depends on are not run. Raises UserError if an encoder has fewer layers.
    weights: of the tokens of each encoder, [B, n, 77] as `Tokenizers.weighted_ids` makes them: each row is multiplied
    by its weight, with no norm restored afterwards, and the pooled summary is left as it is, as in sd-scripts for SDXL
    (there, of several captions longer than 75 tokens each row gets the weights of all; here only its own).
    checkpointing: compute each layer's inner values again in the backward pass instead of keeping them.
    """
    hidden_one = _hidden(encoders.one, ids_one, clip_skip, checkpointing)
    hidden_two = _hidden(encoders.two, ids_two, clip_skip, checkpointing)
    pooled = _pooled(encoders.two, ids_two[:, 0], hidden_two[:, 0], clip_skip, checkpointing)
    if weights is not None:
        hidden_one, hidden_two = (
            hidden * weight.to(hidden)[..., None]
            for hidden, weight in zip((hidden_one, hidden_two), weights, strict=True)
        )
    return TextFeatures(torch.cat([_joined(hidden_one), _joined(hidden_two)], dim=-1), pooled)


def encode_prompt(
    encoders: Sequence[Any], ids: Sequence[torch.Tensor], weights: torch.Tensor, clip_skip: int = 2
) -> TextFeatures:
    """A prompt as pictures are drawn with it: rows [1, 77n, widths], pooled [1, projection]; no gradients.

    encoders: both of SDXL, or the refiner's one; the last one gives the pooled summary. ids: of each encoder, int64
    [1, n, 77]; weights: fp32 [1, n, 77]. As A1111's web UI: all 77 rows of each chunk stay; rows are multiplied by
    their token's weight and each chunk is then scaled back to the mean that it had. Raises UserError as `encode_text`.
    """
    with torch.no_grad():
        hidden = [_hidden(encoder, one, clip_skip, False) for encoder, one in zip(encoders, ids, strict=True)]
        pooled = _pooled(encoders[-1], ids[-1][:, 0], hidden[-1][:, 0], clip_skip, False)
        rows = [_emphasised(part, weights.to(part.device)).flatten(1, 2) for part in hidden]
    return TextFeatures(torch.cat(rows, dim=-1), pooled)


def _emphasised(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """[B, n, 77, width] · [B, n, 77], each chunk with the mean that it had before; unweighted chunks as they are."""
    wide = hidden.float() * weights[..., None]
    factor = hidden.float().mean(dim=(-2, -1), keepdim=True) / wide.mean(dim=(-2, -1), keepdim=True)
    plain = (weights == 1).all(dim=-1)[..., None, None]
    return torch.where(plain, hidden, (wide * factor).to(hidden.dtype))


def _hidden(encoder: Any, ids: torch.Tensor, clip_skip: int, checkpointing: bool) -> torch.Tensor:
    """The hidden state before the last `clip_skip` − 1 layers, not normed: [B, n, 77] → [B, n, 77, width]."""
    body = _body(encoder)
    count = len(body.encoder.layers)
    if not 1 <= clip_skip <= count:
        message = f"this text encoder has {count} layers (got {clip_skip}). Use a number from 1 to {count}."
        raise UserError(message, "clip skip")
    hidden = body.embeddings(input_ids=ids.flatten(0, 1))
    hidden = _run(body, hidden, slice(0, count + 1 - clip_skip), checkpointing)
    return hidden.unflatten(0, (ids.shape[0], ids.shape[1]))


def _pooled(encoder: Any, ids: torch.Tensor, hidden: torch.Tensor, clip_skip: int, checkpointing: bool) -> torch.Tensor:
    """Remaining layers, then final norm and projection x @ P of the first EOS of the first chunk.

    ids [B, 77], hidden [B, 77, width] → [B, projection]
    """
    body = _body(encoder)
    count = len(body.encoder.layers)
    hidden = _run(body, hidden, slice(count + 1 - clip_skip, count), checkpointing)
    first_eos = (ids == EOS).int().argmax(dim=-1)
    at_eos = hidden[torch.arange(hidden.shape[0], device=hidden.device), first_eos]
    return encoder.text_projection(body.final_layer_norm(at_eos))


def _run(body: Any, hidden: torch.Tensor, layers: slice, checkpointing: bool) -> torch.Tensor:
    """Pass [B, 77, width] through some of the encoder's layers, each token seeing only those before it."""
    mask = create_causal_mask(config=body.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)
    again = checkpointing and torch.is_grad_enabled()
    for layer in body.encoder.layers[layers]:
        if again:
            hidden = checkpoint(layer, hidden, mask, is_causal=True, use_reentrant=False)  # pyright: ignore
        else:
            hidden = layer(hidden, mask, is_causal=True)
    return hidden


def _joined(hidden: torch.Tensor) -> torch.Tensor:
    """BOS of the first chunk, the 75 tokens of each, the last row of the last: [B, n, 77, w] → [B, 2 + 75n, w]."""
    return torch.cat([hidden[:, 0, :1], hidden[:, :, 1:-1].flatten(1, 2), hidden[:, -1, -1:]], dim=1)


def _body(encoder: Any) -> Any:
    """The transformer itself: the second encoder holds it beside its projection."""
    return getattr(encoder, "text_model", encoder)
