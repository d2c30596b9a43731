"""A quick mark of a model's weights, for telling on resume that the base model is another one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.sdxl.detect import ModelFacts
from engine.sdxl.parts import Part, local_tensors

SAMPLE_BYTES = 4096
_PARTS: tuple[Part, ...] = ("unet", "text_1", "text_2", "vae")


def model_mark(facts: ModelFacts, vae_path: Path | None = None) -> str:
    """Hash (32 hex digits) of names, formats, shapes and the first 4 KiB of each tensor: 10 MB of SDXL's 7 GB.

    Two trainings of one architecture differ in nearly every tensor, so a sample of each tells them apart. It is no
    content hash: caches are keyed by `part_digest`.
    """
    total = hashlib.sha256()
    for part in _PARTS:
        override = vae_path if part == "vae" else None
        if override or getattr(facts.config, part) is not None:
            _add_part(total, facts, part, override)
    return total.hexdigest()[:32]


def _add_part(total: hashlib._Hash, facts: ModelFacts, part: Part, override: Path | None) -> None:
    entries = sorted(local_tensors(facts, part, override).items(), key=lambda item: (str(item[1].path), item[1].start))
    files = {path: path.open("rb") for path in {info.path for _, info in entries}}
    try:
        for name, info in entries:
            files[info.path].seek(info.start)
            total.update(f"{part} {name} {info.dtype} {info.shape}\n".encode())
            total.update(files[info.path].read(min(SAMPLE_BYTES, info.end - info.start)))
    finally:
        for file in files.values():
            file.close()
