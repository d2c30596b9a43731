"""Faults between settings: texts that no path can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

LONGEST_NAME_BYTES = 255  # of one file or folder, on every system


def paths_can_be_looked_up(preset: Preset) -> Iterator[Problem]:
    from engine.preset import SETTINGS

    for item in SETTINGS:
        holds_paths = item.kind in ("file", "folder") or item.path == "model.merged_adapters"
        text = preset.get(item.path) if holds_paths else ""
        if "\0" in text:
            yield Problem(item.path, "holds a zero byte, which no path can hold. Choose it anew.")
            continue
        try:
            longest = max((len(part.encode()) for part in Path(text).expanduser().parts), default=0)
        except UnicodeEncodeError:
            yield Problem(
                item.path, f"is not valid text (got {text!a}). Rename the file or folder, then choose it anew."
            )
        except RuntimeError:
            what = f"names the home of a user that this machine does not know (got {text}). Write the path in full."
            yield Problem(item.path, what)
        else:
            if longest > LONGEST_NAME_BYTES:
                yield Problem(
                    item.path, f"holds a name that is too long for a file system ({longest} bytes, at most 255)."
                )


RULES = (paths_can_be_looked_up,)
