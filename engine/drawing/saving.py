"""Finished pictures as PNG files that carry their settings. Torch-free."""

from __future__ import annotations

import re
import time
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.atomic import whole_file
from engine.drawing.lora_lines import LoraChoice
from engine.drawing.picture_text import Drawn, texts_for
from engine.drawing.plan import DrawingPlan, PlannedPicture
from engine.sdxl.safefile import read_header

_NUMBER = re.compile(r"(\d{5,})-")
_HASH_KEYS = ("sshs_model_hash", "sshs_legacy_hash")


def day_folder(folder: Path) -> Path:
    """The folder of today in a folder of pictures."""
    return folder / time.strftime("%Y-%m-%d")


def save_picture(picture: Image.Image, folder: Path, plan: DrawingPlan, planned: PlannedPicture) -> Path:
    """Write the picture as NNNNN-SEED.png, whole or not at all, under a number that none has yet. → its path.

    Raises UserError where the disk refuses.
    """
    path = _free_path(folder, planned.seed)
    write_picture(picture, path, plan, planned)
    return path


def write_picture(picture: Image.Image, path: Path, plan: DrawingPlan, planned: PlannedPicture) -> None:
    """Write the picture with its settings, whole or not at all. Raises UserError where the disk refuses."""
    info = PngInfo()
    drawn = Drawn(planned.seed, planned.written, planned.negative, _hashes(planned.loras))
    for name, text in texts_for(plan.preset, drawn).items():
        info.add_itxt(name, text)
    with whole_file(path) as part:
        picture.save(part, format="PNG", pnginfo=info)


def _free_path(folder: Path, seed: int) -> Path:
    names = [path.name for path in folder.glob("*.png")] if folder.is_dir() else []
    taken = [int(match[1]) for name in names if (match := _NUMBER.match(name))]
    number = max(taken, default=-1) + 1
    while (path := folder / f"{number:05d}-{seed}.png").exists():
        number += 1
    return path


def _hashes(loras: tuple[LoraChoice, ...]) -> dict[str, str]:
    """The short hashes that other programs know LoRAs by, as far as the files tell them."""
    found: dict[str, str] = {}
    for lora in loras:
        metadata = read_header(lora.path).metadata
        told = next((metadata[key] for key in _HASH_KEYS if metadata.get(key)), "")
        if told:
            found[lora.path.stem] = told[:12]
    return found
