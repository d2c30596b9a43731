"""What taggers share: how they see an image, how a tag is written."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read_tags(table: Path) -> list[tuple[str, str]]:
    """Name and category of each tag of a selected_tags.csv, in the order of the model's outputs."""
    with table.open(encoding="utf-8", newline="") as lines:
        return [(row["name"], row["category"]) for row in csv.DictReader(lines)]


def square_bgr(image: Image.Image, side_px: int) -> np.ndarray:
    """[side, side, 3] float32 in 0…255, blue first: the whole image centred on a white square."""
    filled = ImageOps.pad(image, (side_px, side_px), Image.Resampling.BICUBIC, color=(255, 255, 255))
    return np.asarray(filled, dtype=np.float32)[..., ::-1]


def spaced(name: str) -> str:
    """long_hair as "long hair"; faces such as >_< and o_o, which have no two letters in a row, as they are."""
    return name.replace("_", " ") if re.search(r"[^\W_]{2}", name) else name
