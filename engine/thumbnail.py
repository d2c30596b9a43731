"""The thumbnail that a LoRA file carries: a small JPEG in its metadata. Torch-free."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from engine.errors import Problem
from engine.preset import Preset, resolve

SIDE_PX = 256


def thumbnail_problems(preset: Preset) -> list[Problem]:
    """A thumbnail that is no picture, told before the start."""
    if not preset.sharing.thumbnail:
        return []
    try:
        with Image.open(resolve(preset.sharing.thumbnail)) as picture:
            picture.verify()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        got = resolve(preset.sharing.thumbnail)
        what = f"is no picture that can be read (got {got}{reason}). Choose another file, or leave it empty."
        return [Problem("sharing.thumbnail", what)]
    return []


def thumbnail_url(preset: Preset) -> str:
    """The picture as a data URL (ModelSpec's `modelspec.thumbnail`); empty where none is wanted."""
    return picture_url(resolve(preset.sharing.thumbnail)) if preset.sharing.thumbnail else ""


def picture_url(path: Path) -> str:
    """A picture, made small, as a data URL. OSError kinds where it is none."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
