"""Faults between settings: length, saving and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

_FORBIDDEN_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


def run_name_is_a_file_name(preset: Preset) -> Iterator[Problem]:
    name = preset.run.name
    if not name.strip() or name != name.strip() or name in (".", "..") or _FORBIDDEN_IN_NAMES.search(name):
        yield Problem(
            "run.name",
            f'must be usable as a file name: not empty and without \\ / : * ? " < > | (got {name!r}).',
        )
    elif len(name.encode()) > 120:
        yield Problem("run.name", f"is too long for a file name ({len(name.encode())} bytes, at most 120).")


RULES = (run_name_is_a_file_name,)
