"""Text features of captions, from the cache or computed now (with gradients).

Keyed by content, so that an edited image, another VAE or another caption can never train on stale features. What was
computed is read back from the store before it is used: a run and its resume see the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from engine.data.cache import Store, Tensors, content_key, kept_dtype
from engine.data.caption_draws import Caption
from engine.sdxl.text import TextFeatures, encode_text
from engine.sdxl.tokenizer import PAD_ONE, PAD_TWO, Tokenizers

if TYPE_CHECKING:
    from engine.preset import Preset
    from engine.sdxl.checkpoint import TextEncoders

FORMAT = b"2"
Tell = Callable[[int, int], None]  # done, total; may raise to stop


@dataclass(frozen=True)
class TextReading:
    """How captions are encoded. `weighted`: `(word:1.3)` is a weight; `checkpointing` saves memory in training."""

    tokens: int = 75
    clip_skip: int = 2
    weighted: bool = False
    checkpointing: bool = False


def text_reading(preset: Preset) -> TextReading:
    """How a preset's captions and sample prompts are encoded."""
    captions = preset.captions
    return TextReading(captions.max_tokens, captions.clip_skip, captions.weighted, preset.memory.gradient_checkpointing)


@dataclass(frozen=True)
class Words:
    """What a batch's captions are to the model: features from the cache, or token ids of each encoder [B, n, 77].

    weights: of the tokens, where captions are weighted.
    """

    features: TextFeatures | None = None
    ids: tuple[torch.Tensor, torch.Tensor] | None = None
    weights: tuple[torch.Tensor, torch.Tensor] | None = None


class TextSource:
    """Text features of captions; from `store` where one is given, else encoded when asked (with gradients)."""

    def __init__(self, encoders: TextEncoders, digest: str, store: Store | None, reading: TextReading) -> None:
        self.encoders: TextEncoders | None = encoders
        self.dtype = encoders.one.dtype
        self.device = encoders.one.device
        self.digest = digest
        self.store = store
        self.reading = reading
        self.tokenizers = Tokenizers.load()

    def prepare(self, captions: Sequence[Caption], tell: Tell) -> None:
        """Encode the captions that the store lacks."""
        if self.store is None:
            return
        missing = [caption for caption in dict.fromkeys(captions) if not self.store.has(self._key(caption))]
        for done, caption in enumerate(missing, start=1):
            with torch.no_grad():
                features = self.encode(self._ids([caption]))
            kept = kept_dtype(self.dtype)
            values = {"rows": features.rows[0].to(kept).cpu(), "pooled": features.pooled[0].to(kept).cpu()}
            self.store.put(self._key(caption), values)
            tell(done, len(missing))
        self.store.flush()

    def knows(self, captions: Sequence[Caption]) -> bool:
        """Whether all of these are in the store."""
        return self.store is not None and all(self.store.has(self._key(caption)) for caption in captions)

    def words(self, captions: Sequence[Caption]) -> Words:
        """What the model reads of the captions, brought to the device: all that has to wait for the host."""
        if self.store is not None:
            found = [self._kept(self.store, caption) for caption in captions]
            rows, pooled = (torch.stack([values[name] for values in found]) for name in ("rows", "pooled"))
            return Words(features=TextFeatures(rows.to(self.device), pooled.to(self.device)))
        return self._ids(captions)

    def _ids(self, captions: Sequence[Caption]) -> Words:
        reading = self.reading
        ones, twos = [caption.one for caption in captions], [caption.two for caption in captions]
        if reading.weighted:
            ids_1, weights_1 = self.tokenizers.weighted_ids(ones, reading.tokens, PAD_ONE)
            ids_2, weights_2 = self.tokenizers.weighted_ids(twos, reading.tokens, PAD_TWO)
            weights = weights_1.to(self.device), weights_2.to(self.device)
        else:
            ids_1 = self.tokenizers.ids(ones, reading.tokens)[0]
            ids_2 = self.tokenizers.ids(twos, reading.tokens)[1]
            weights = None
        return Words(ids=(ids_1.to(self.device), ids_2.to(self.device)), weights=weights)

    def encode(self, words: Words) -> TextFeatures:
        """rows [B, 2 + tokens, width], pooled [B, width], on the device, without waiting for it."""
        if words.features is not None:
            return words.features
        if self.encoders is None or words.ids is None:
            raise RuntimeError("the text encoders were let go")
        reading = self.reading
        return encode_text(self.encoders, *words.ids, reading.clip_skip, words.weights, reading.checkpointing)

    def features(self, captions: Sequence[Caption]) -> TextFeatures:
        """`words` and `encode` in one."""
        return self.encode(self.words(captions))

    def release(self) -> None:
        """Let the text encoders go: everything that is asked for from now on is in the store."""
        if self.store is not None:
            self.encoders = None

    def _kept(self, store: Store, caption: Caption) -> Tensors:
        values = store.get(self._key(caption))
        if values is None:
            raise RuntimeError(f"a caption was asked for that was not prepared: {caption.one!r}")
        return values

    def _key(self, caption: Caption) -> bytes:
        reading = self.reading
        about = f"{reading.tokens},{reading.clip_skip},{reading.weighted},{self.dtype}".encode()
        return content_key(FORMAT, self.digest.encode(), caption.one.encode(), caption.two.encode(), about)
