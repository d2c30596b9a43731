"""How many tokens a caption has. Both text encoders of SDXL cut a caption into the same tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

from engine.errors import MissingPackage
from engine.sdxl.tokenizer import Tokenizers

MARK_TOKENS = 75  # a chunk of a text encoder: a caption is read in 75, 150 or 225 tokens
_MOST_KEPT = 200_000

_counts: dict[str, int] = {}
_lock, _start = threading.Lock(), threading.Lock()
_loaded = threading.Event()
_loading: threading.Thread | None = None


def count_tokens(line: str) -> int:
    """Tokens of one line without the marks of begin and end; counted once. Raises MissingPackage."""
    found = _counts.get(line)
    if found is None:
        prepare_counts([line])
        found = _counts[line]
    return found


def is_loaded() -> bool:
    return _loaded.is_set()


def load_soon() -> None:
    """Load the tokenizer (about half a second) in a thread of its own, once."""
    global _loading
    with _start:
        if _loading is None:
            _loading = threading.Thread(target=_load, daemon=True)
            _loading.start()


def _load() -> None:
    with suppress(MissingPackage):  # said in words where somebody filters by tokens; otherwise there is just no count
        prepare_counts(["a"])


def are_known(texts: Iterable[str]) -> bool:
    """Whether these captions were counted before."""
    return all(line in _counts for text in texts for line in text.splitlines())


def prepare_counts(texts: Iterable[str]) -> None:
    """Count the lines of many captions together. Raises MissingPackage."""
    missing = {line for text in texts for line in text.splitlines() if line not in _counts}
    if not missing:
        return
    lines = list(missing)
    with _lock:
        found = Tokenizers.load().tokens(lines)
        if len(_counts) > _MOST_KEPT:
            _counts.clear()
        _counts.update(zip(lines, map(len, found), strict=True))
    _loaded.set()
