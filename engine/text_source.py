"""Text features of captions, from the cache or computed now (with gradients).

Keyed by content, so that an edited image, another VAE or another caption can never train on stale features. What was
computed is read back from the store before it is used: a run and its resume see the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from engine.data.cache import Store, content_key, kept_dtype
from engine.sdxl.text import TextFeatures, encode_text
from engine.sdxl.tokenizer import Tokenizers

if TYPE_CHECKING:
    from engine.sdxl.checkpoint import TextEncoders

FORMAT = b"1"
Tell = Callable[[int, int], None]  # done, total; may raise to stop


class TextSource:
    """Text features of captions; from `store` where one is given, else encoded when asked (with gradients)."""

    def __init__(self, encoders: TextEncoders, digest: str, store: Store | None, tokens: int, clip_skip: int) -> None:
        self.encoders: TextEncoders | None = encoders
        self.dtype = encoders.one.dtype
        self.digest = digest
        self.store = store
        self.tokens = tokens
        self.clip_skip = clip_skip
        self.tokenizers = Tokenizers.load()

    def prepare(self, captions: Sequence[str], tell: Tell) -> None:
        """Encode the captions that the store lacks."""
        if self.store is None:
            return
        missing = [caption for caption in dict.fromkeys(captions) if not self.store.has(self._key(caption))]
        for done, caption in enumerate(missing, start=1):
            with torch.no_grad():
                features = self._encode([caption])
            kept = kept_dtype(self.dtype)
            values = {"rows": features.rows[0].to(kept).cpu(), "pooled": features.pooled[0].to(kept).cpu()}
            self.store.put(self._key(caption), values)
            tell(done, len(missing))
        self.store.flush()

    def features(self, captions: Sequence[str]) -> TextFeatures:
        """rows [B, 2 + tokens, width], pooled [B, width]."""
        if self.store is None:
            return self._encode(list(captions))
        found = [self.store.get(self._key(caption)) for caption in captions]
        present = [values for values in found if values is not None]
        return TextFeatures(
            rows=torch.stack([values["rows"] for values in present]),
            pooled=torch.stack([values["pooled"] for values in present]),
        )

    def release(self) -> None:
        """Let the text encoders go: everything that is asked for from now on is in the store."""
        if self.store is not None:
            self.encoders = None

    def _encode(self, captions: list[str]) -> TextFeatures:
        ids_1, ids_2 = self.tokenizers.ids(captions, self.tokens)
        if self.encoders is None:
            raise RuntimeError("a caption was asked for that was not prepared")
        device = self.encoders.one.device
        return encode_text(self.encoders, ids_1.to(device), ids_2.to(device), self.clip_skip)

    def _key(self, caption: str) -> bytes:
        about = f"{self.tokens},{self.clip_skip},{self.dtype}".encode()
        return content_key(FORMAT, self.digest.encode(), caption.encode(), about)
