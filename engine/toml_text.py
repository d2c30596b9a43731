"""TOML, read the same on every Python that Atelier runs on."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib

    _parse = tomllib.loads
else:
    import toml

    _parse = toml.loads


def parse_toml(text: str) -> dict[str, Any]:
    """The content of a TOML text; ValueError with the place where it is none."""
    try:
        return _parse(text)
    except (IndexError, TypeError) as error:  # toml 0.10 raises these, too, on broken files
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
