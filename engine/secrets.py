"""Keys and tokens are read from the environment by the libraries that need them: shown nowhere, kept in no preset."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_LEAST_LENGTH = 6  # shorter values are words such as "none" that stand in any text


def redacted(text: str) -> str:
    """The text without the values of secret environment variables, which libraries put into their messages."""
    for value in _secret_values(tuple(os.environ.items())):
        text = text.replace(value, "***")
    return text


@lru_cache(maxsize=1)
def _secret_values(variables: tuple[tuple[str, str], ...]) -> list[str]:
    found = {value for name, value in variables if _SECRET_NAMES.search(name) and len(value) >= _LEAST_LENGTH}
    return sorted(found, key=len, reverse=True)


# What tokens look like: of the Hugging Face hub, W&B, GitHub, OpenAI and its like, AWS, Slack; in addresses
_TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9_]{20,}|wandb_v1_[A-Za-z0-9_]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|xox[abp]-[A-Za-z0-9-]{20,})"
    r"|\b(?:api_?key|token|password|secret)=[\w-]{16,}"
    r"|://[^/\s:@]+:[^/\s@]+@",
    re.IGNORECASE,
)
_HEX_KEY = re.compile(r"(?<![\w/\\-])[0-9a-f]{40}(?![\w/\\.-])")  # an older key of W&B; in paths such a word is a hash


def holds_secret(text: str) -> bool:
    """Whether a text holds what looks like a key or token."""
    return bool(_TOKENS.search(text) or _HEX_KEY.search(text))


def masked(text: str) -> str:
    """The text with what looks like a key or token hidden: other faults of a value repeat it."""
    return _HEX_KEY.sub("***", _TOKENS.sub("***", text))


def without_secrets(content: Mapping[str, Any]) -> dict[str, Any]:
    """Nested content without the texts that hold what looks like a key or token."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found[name] = without_secrets(value)
        elif not (isinstance(value, str) and holds_secret(value)):
            found[name] = value
    return found
