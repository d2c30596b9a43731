"""A prompt's text as chunks of 75 tokens with weights, cut as A1111's web UI cuts them. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.drawing.prompt_language import weighted_parts
from engine.sdxl.tokenizer import BOS, CHUNK_TOKENS, EOS, Tokenizers

COMMA = 267  # the token of a comma that ends a word
LOOK_BACK_TOKENS = 20  # so near to the end of a full chunk a comma is, what follows it moves to the next chunk


@dataclass
class Chunk:
    """Up to 75 tokens, and the weight of each."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def padded_ids(self, pad: int) -> list[int]:
        """77 ids: BOS, the tokens, EOS, padding."""
        return [BOS, *self.ids, EOS] + [pad] * (CHUNK_TOKENS - len(self.ids))

    def padded_weights(self) -> list[float]:
        return [1.0, *self.weights] + [1.0] * (CHUNK_TOKENS + 1 - len(self.weights))


def chunks_of(text: str, tokenizers: Tokenizers) -> list[Chunk]:
    """The chunks of one text; one at least. Each part after a BREAK begins a new one."""
    found: list[Chunk] = []
    for part in weighted_parts(text):
        pieces = tokenizers.tokens([words for words, _ in part])
        tokens = [(token, weight) for ids, (_, weight) in zip(pieces, part, strict=True) for token in ids]
        found += _cut(tokens)
    return found


def _cut(tokens: list[tuple[int, float]]) -> list[Chunk]:
    chunks, last_comma = [Chunk()], -1
    for token, weight in tokens:
        now = chunks[-1]
        if token == COMMA:
            last_comma = len(now.ids)
        elif len(now.ids) == CHUNK_TOKENS and last_comma >= 0 and CHUNK_TOKENS - last_comma <= LOOK_BACK_TOKENS:
            keep = last_comma + 1
            chunks.append(Chunk(now.ids[keep:], now.weights[keep:]))
            now.ids, now.weights, last_comma = now.ids[:keep], now.weights[:keep], -1
        if len(chunks[-1].ids) == CHUNK_TOKENS:
            chunks.append(Chunk())
            last_comma = -1
        chunks[-1].ids.append(token)
        chunks[-1].weights.append(weight)
    return chunks
