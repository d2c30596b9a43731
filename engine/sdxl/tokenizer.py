"""CLIP's byte-pair tokenizer as SDXL's two text encoders use it. Needs no torch, no transformers and no network.

The vocabulary is the file that open_clip carries; it is found without importing open_clip, which would load torch.
Long captions become chunks of 77 ids: BOS, up to 75 tokens, EOS, padding (Radford et al. 2021, arXiv 2103.00020, for
the vocabulary; the chunks are those of the common trainers, so that a LoRA sees the captions it would see there).
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import ftfy
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from engine.errors import MissingPackage, UserError
from engine.sdxl.emphasis import weighted_pieces

if TYPE_CHECKING:
    import torch

BOS = 49406
EOS = 49407
PAD_ONE = EOS  # text encoder one pads with EOS
PAD_TWO = 0  # text encoder two pads with 0, the id of "!" inside a word; a lone "!" is 256
CHUNK_TOKENS = 75
CHUNK_IDS = CHUNK_TOKENS + 2
_MERGES = 48_894
_VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizers:
    """Both tokenizers of SDXL: one vocabulary, two paddings. Make it with `load`."""

    def __init__(self, encoder: tokenizers.Tokenizer) -> None:
        self._encoder = encoder

    @staticmethod
    def load() -> Tokenizers:
        """The tokenizers, built once a process. Raises MissingPackage if open_clip's vocabulary is not there."""
        return _load()

    def tokens(self, captions: Sequence[str]) -> list[list[int]]:
        """Ids of each caption without BOS, EOS and padding, whole however long the caption is.

        Mis-decoded and full-width characters are mended first by ftfy, as CLIP's own tokenizer does.
        """
        texts = [ftfy.fix_text(caption) for caption in captions]
        return [encoding.ids for encoding in self._encoder.encode_batch(texts, add_special_tokens=False)]

    def token_count(self, caption: str) -> int:
        """How many tokens a caption has, without BOS and EOS. Over `tokens` of the preset, the rest is cut off."""
        return len(self.tokens([caption])[0])

    def chunks(self, captions: Sequence[str], tokens: int) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
        """Ids for encoder one and for encoder two: captions × chunks × 77, as lists.

        tokens: 75 or a multiple; longer captions are cut there. Raises UserError for another number.
        """
        if tokens < CHUNK_TOKENS or tokens % CHUNK_TOKENS:
            raise UserError(f"captions have a length in multiples of 75 tokens (got {tokens}). Use 75, 150 or 225.")
        found = self.tokens(captions)
        return [_chunks(ids, tokens, PAD_ONE) for ids in found], [_chunks(ids, tokens, PAD_TWO) for ids in found]

    def ids(self, captions: Sequence[str], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids for encoder one and for encoder two, int64 [captions, tokens / 75, 77] each. Needs torch."""
        import torch

        one, two = self.chunks(captions, tokens)
        shape = (len(one), tokens // CHUNK_TOKENS, CHUNK_IDS)
        return torch.tensor(one, dtype=torch.int64).reshape(shape), torch.tensor(two, dtype=torch.int64).reshape(shape)

    def weighted_ids(self, captions: Sequence[str], tokens: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids for one encoder (pad: PAD_ONE or PAD_TWO) and the weight of each, [captions, tokens / 75, 77].

        Weights are those of `(word:1.3)` (see emphasis.py), fp32; BOS, EOS and padding weigh 1. Without such marks the
        ids are those of `ids`. Words are cut where the weight changes. Needs torch.
        """
        import torch

        ids, weights = [], []
        for caption in captions:
            pieces = weighted_pieces(caption)
            found = self.tokens([text for text, _ in pieces])
            ids.append([token for part in found for token in part])
            weights.append([w for part, (_, w) in zip(found, pieces, strict=True) for _ in part])
        chunks = [_chunks(part, tokens, pad) for part in ids]
        scales = [_weight_chunks(part, tokens) for part in weights]
        shape = (len(ids), tokens // CHUNK_TOKENS, CHUNK_IDS)
        return torch.tensor(chunks, dtype=torch.int64).reshape(shape), torch.tensor(scales).reshape(shape)


def _chunks(ids: list[int], tokens: int, pad: int) -> list[list[int]]:
    """One caption as chunks of BOS, up to 75 ids, EOS, padding. A chunk without ids is BOS EOS and padding."""
    parts = (ids[start : min(start + CHUNK_TOKENS, tokens)] for start in range(0, tokens, CHUNK_TOKENS))
    return [[BOS, *part, EOS] + [pad] * (CHUNK_TOKENS - len(part)) for part in parts]


def _weight_chunks(weights: list[float], tokens: int) -> list[list[float]]:
    """The weights of a caption's tokens in the places where `_chunks` puts these."""
    parts = (weights[start : min(start + CHUNK_TOKENS, tokens)] for start in range(0, tokens, CHUNK_TOKENS))
    return [[1.0, *part, 1.0] + [1.0] * (CHUNK_TOKENS - len(part)) for part in parts]


def vocabulary_path() -> Path:
    """Where open_clip keeps CLIP's vocabulary. Looks the package up without running any of its code."""
    spec = importlib.util.find_spec("open_clip")
    path = Path(spec.origin or "").parent / _VOCABULARY_FILE if spec else None
    if path is None or not path.is_file():
        raise MissingPackage("open_clip, which carries the vocabulary, is not installed. Run ./setup.sh.", "tokenizer")
    return path


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """({word: id}, merges): 256 byte letters, the same at a word's end, the merges in order, and the two specials.

    Raises MissingPackage if open_clip's vocabulary is not there.
    """
    lines = gzip.decompress(vocabulary_path().read_bytes()).decode("utf-8").split("\n")
    merges = [(left, right) for left, right in (line.split() for line in lines[1 : 1 + _MERGES])]
    letters = _byte_letters()
    words = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}, merges


@cache
def _load() -> Tokenizers:
    """No id is declared special: a caption that spells "<|endoftext|>" is text, and "!" stays "!"."""
    words, merges = vocabulary()
    model = models.BPE(words, merges, continuing_subword_prefix="", end_of_word_suffix="</w>")
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return Tokenizers(encoder)


def _byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes, in CLIP's order: printable first, the rest from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
