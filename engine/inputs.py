"""Adapter files that a run begins with, kept in its folder, so that a resume does not depend on where they came from.

inputs/HASH OF THE PATH/NAME: a hard link where the file system allows it, which takes no space, else a copy. A run
without a saved state has nothing to resume and reads the files where they are. Torch-free.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from engine.atomic import whole_file
from engine.merges import read_merges
from engine.preset import Preset, resolve
from engine.run import RunFolder


def with_kept(preset: Preset, run: RunFolder) -> Preset:
    """The preset with the run's own files in place of the given ones, where it has a state and keeps them."""
    if not any(run.state.glob("step-*.safetensors")):
        return preset
    changes: dict[str, str] = {}
    if preset.adapter.start_from:
        changes["adapter.start_from"] = str(_kept_or_given(run, resolve(preset.adapter.start_from)))
    merges = read_merges(preset)
    if merges:
        lines = (f"{_kept_or_given(run, merge.path)}: {merge.strength!r}" for merge in merges)
        changes["model.merged_adapters"] = "\n".join(lines)
    return preset.changed(changes) if changes else preset


def keep(preset: Preset, run: RunFolder) -> None:
    """Keep the files that the preset names; anew where the run has no state yet. UserError if the disk refuses."""
    begun = any(run.state.glob("step-*.safetensors"))
    given = [resolve(preset.adapter.start_from)] if preset.adapter.start_from else []
    for path in dict.fromkeys([*given, *(merge.path for merge in read_merges(preset))]):
        kept = _place(run, path)
        if path.is_relative_to(run.inputs) or (begun and kept.exists()):
            continue
        kept.unlink(missing_ok=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), kept)
        except OSError:  # another disk, or a file system without links
            with whole_file(kept) as part:
                shutil.copyfile(path, part)


def _place(run: RunFolder, path: Path) -> Path:
    return run.inputs / hashlib.sha256(str(path).encode()).hexdigest()[:8] / path.name


def _kept_or_given(run: RunFolder, path: Path) -> Path:
    kept = _place(run, path)
    return kept if kept.exists() else path
