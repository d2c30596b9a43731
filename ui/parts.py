"""Parts of the page that the browser asks for again and again: it tells what it has, and only what changed is sent.

Nothing is remembered between two questions, so that any number of browsers can look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

Part = tuple[Any, Callable[[], Any]]  # what its content depends on, and the content, made only when it is sent


def same(content: Any) -> Part:
    """A part that depends on its content alone."""
    return content, lambda: content


def changed(parts: Mapping[str, Part], seen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Each part whose digest is not the one in `seen`: {name: {"digest", "content"}}."""
    digests = {name: digest(depends) for name, (depends, _) in parts.items()}
    return {
        name: {"digest": digests[name], "content": make()}
        for name, (_, make) in parts.items()
        if seen.get(name) != digests[name]
    }


def digest(depends: Any) -> str:
    """A short text that changes when this does."""
    return hashlib.blake2b(repr(depends).encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
