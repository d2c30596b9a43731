"""Masks of the loss: which parts of a picture are trained, cut exactly as the picture is cut.

A mask is bright where it counts. It comes from a picture of its own, or from how opaque the image is (alpha).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.buckets import LATENT_PX, Placement
from engine.data.folders import image_suffixes, stem_and_suffix
from engine.data.headers import UNDECODABLE
from engine.data.images import open_alpha, open_upright, resample
from engine.errors import DatasetError

MASKS_VERSION = 1  # goes into cache keys: raise it when `load_mask` gives other values than before

Mask = NDArray[np.float32]


def load_mask(path: Path, placement: Placement, crop_left_top: tuple[int, int], *, from_alpha: bool) -> Mask:
    """What each latent cell counts, fp32 [bucket height ÷ 8, bucket width ÷ 8] in 0 … 1, not mirrored.

    The mask is resized to the image's resized size with the image's resampling, whatever its own size, cut at
    `crop_left_top` (pixels), and averaged over the 8 × 8 pixels of a cell. Raises DatasetError naming the file.
    """
    image = open_alpha(path) if from_alpha else open_upright(path, "#000000").convert("L")
    pixels = resample(image, placement.resized_px)
    left_px, top_px = crop_left_top
    width_px, height_px = placement.bucket_px
    return to_latent_size(pixels[top_px : top_px + height_px, left_px : left_px + width_px])


def to_latent_size(pixels: NDArray[np.uint8]) -> Mask:
    """Mean of each 8 × 8 block: uint8 [H, W], sides multiples of 8 → fp32 [H ÷ 8, W ÷ 8] in 0 … 1."""
    height, width = (side // LATENT_PX for side in pixels.shape)
    blocks = pixels.reshape(height, LATENT_PX, width, LATENT_PX)
    return (blocks.mean(axis=(1, 3)) / 255.0).astype(np.float32)


def has_alpha(path: Path) -> bool:
    """Whether an image has transparency at all, told without decoding it."""
    try:
        with Image.open(path) as image:
            return image.has_transparency_data
    except UNDECODABLE:  # such an image is reported where it is decoded
        return False


class MaskIndex:
    """The mask files of a folder: by the images' sub-folder and stem, else by stem directly in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_subset: dict[str, dict[str, list[Path]]] = {}

    def find(self, subset: str, image: Path) -> Path | None:
        """The mask of an image of a subset. Raises DatasetError where two files could be meant."""
        stem = stem_and_suffix(image.name)[0]
        for place in (subset, ""):
            found = self._listing(place).get(stem, [])
            if len(found) > 1:
                names = " and ".join(path.name for path in found)
                raise DatasetError(f"could each be the mask of {image.name} (got {names}). Keep one.", str(found[0]))
            if found:
                return found[0]
        return None

    def _listing(self, subset: str) -> dict[str, list[Path]]:
        if subset not in self._by_subset:
            self._by_subset[subset] = _masks_by_stem(self.folder / subset)
        return self._by_subset[subset]


def _masks_by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DatasetError(f"cannot be opened ({error.strerror}). Change its permissions.", str(folder)) from error
    for name in names:
        stem, suffix = stem_and_suffix(name)
        if suffix in image_suffixes() and not name.startswith("."):
            found[stem].append(folder / name)
    return found
