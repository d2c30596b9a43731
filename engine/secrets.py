"""Keys and tokens are read from the environment by the libraries that need them, and shown nowhere."""

from __future__ import annotations

import os
import re

_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_LEAST_LENGTH = 6  # shorter values are words such as "none" that stand in any text


def redacted(text: str) -> str:
    """The text without the values of secret environment variables, which libraries put into their messages."""
    for name, value in os.environ.items():
        if _SECRET_NAMES.search(name) and len(value) >= _LEAST_LENGTH:
            text = text.replace(value, "***")
    return text
