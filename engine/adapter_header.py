"""What the header of an adapter file tells. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.sdxl.layers import PREFIX, UNET
from engine.sdxl.safefile import Header, read_header


@dataclass(frozen=True)
class Merge:
    """An adapter file and how strongly it is merged."""

    path: Path
    strength: float = 1.0


def parts_of_file(path: Path) -> frozenset[str]:
    """The parts ("unet", "text_encoder_1", "text_encoder_2") that an adapter file has layers for. ModelError."""
    return parts_of_header(read_header(path))


def parts_of_header(header: Header) -> frozenset[str]:
    prefixes = [(part, prefix) for part, prefix in PREFIX.items()] + [(UNET, "oft_unet_")]
    return frozenset(part for part, prefix in prefixes if any(name.startswith(prefix) for name in header.tensors))
