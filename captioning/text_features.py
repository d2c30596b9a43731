"""The summary that each of SDXL's text encoders makes of a caption. Torch is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from captioning.caption_similarity import Features
from engine.sdxl.tokenizer import CHUNK_TOKENS, EOS, Tokenizers

if TYPE_CHECKING:
    import torch

    from engine.sdxl.checkpoint import TextEncoders
    from engine.sdxl.detect import ModelFacts

BATCH = 16


def load_encoders(facts: ModelFacts, device: torch.device) -> TextEncoders:
    """Both text encoders of a base model, in single precision (on a CPU half-precision weights stay as they are)."""
    import torch

    from engine.sdxl.checkpoint import load_text_encoders

    return load_text_encoders(facts, torch.float32, device, keep_narrow=device.type == "cpu")


def features(encoders: TextEncoders, captions: Sequence[str]) -> Iterator[tuple[Features, Features]]:
    """Of each batch of captions the features of both encoders, fp32 [b, width one] and [b, projection].

    The last layer after the final norm, at the first end-of-text token, of the first 75 tokens; of encoder two through
    its projection, which is the pooled summary that SDXL's UNet is told.
    """
    import torch

    tokenizers = Tokenizers.load()
    device = next(encoders.one.parameters()).device
    for start in range(0, len(captions), BATCH):
        one, two = tokenizers.ids(captions[start : start + BATCH], CHUNK_TOKENS)
        with torch.inference_mode():
            first = _at_end(encoders.one, one[:, 0].to(device))
            second = encoders.two.text_projection(_at_end(encoders.two, two[:, 0].to(device)))
        yield _array(first), _array(second)


def _at_end(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """ids [b, 77] → the normed last hidden state at the first end-of-text token [b, width]."""
    hidden = encoder(input_ids=ids).last_hidden_state
    first_eos = (ids == EOS).int().argmax(dim=-1)
    return hidden[range(len(hidden)), first_eos]


def _array(values: torch.Tensor) -> Features:
    return np.asarray(values.float().cpu().numpy(), dtype=np.float32)
