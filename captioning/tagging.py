"""What taggers share: how they see an image, how a tag is written."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image, ImageOps


def square_bgr(image: Image.Image, side_px: int) -> np.ndarray:
    """[side, side, 3] float32 in 0…255, blue first: the whole image centred on a white square."""
    filled = ImageOps.pad(image, (side_px, side_px), Image.Resampling.BICUBIC, color=(255, 255, 255))
    return np.asarray(filled, dtype=np.float32)[..., ::-1]


def spaced(name: str) -> str:
    """long_hair as "long hair"; faces such as >_< and o_o, which have no two letters in a row, as they are."""
    return name.replace("_", " ") if re.search(r"[^\W_]{2}", name) else name
