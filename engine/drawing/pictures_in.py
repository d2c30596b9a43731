"""Pictures that a drawing begins with, and masks: read, brought to size, as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional

from engine.data.images import open_upright
from engine.sdxl.latents import PX_PER_LATENT

ResizeMode = Literal["crop", "stretch", "fill"]


@dataclass(frozen=True)
class Beginning:
    """The picture to begin with, of the final size; with a mask (mode L, white = anew, blurred) where there is one."""

    picture: Image.Image
    mask: Image.Image | None = None

    def pixels(self) -> Tensor:
        """fp32 [1, 3, H, W] in −1…1."""
        return to_pixels(self.picture)

    def latent_mask(self) -> Tensor:
        """fp32 [1, 1, H/8, W/8]: 1 where the upper left pixel of the eight by eight is to be drawn anew, else 0."""
        if self.mask is None:
            raise ValueError("there is no mask")
        white = torch.from_numpy(np.array(self.mask, dtype=np.float32) / 255 >= 0.5).float()[None, None]
        return functional.interpolate(white, scale_factor=1 / PX_PER_LATENT, recompute_scale_factor=False)

    def outside_kept(self, drawn: Image.Image) -> Image.Image:
        """The drawn picture where the mask is white, the old one where it is black, mixed between."""
        return drawn if self.mask is None else Image.composite(drawn, self.picture, self.mask)


def read_beginning(path: Path, size_px: tuple[int, int], mode: ResizeMode) -> Beginning:
    """The picture at that size. Raises DatasetError naming a file that cannot be read."""
    return Beginning(resized(open_upright(path), size_px, mode))


def with_mask(beginning: Beginning, path: Path, mode: ResizeMode, inverted: bool, blur_px: int) -> Beginning:
    """With the mask of a file, brought to size as the picture was. DatasetError where that is unreadable."""
    mask = resized(open_upright(path, "#000000"), beginning.picture.size, mode).convert("L")
    if inverted:
        mask = mask.point(lambda level: 255 - level)
    if blur_px:
        mask = mask.filter(ImageFilter.GaussianBlur(blur_px))
    return Beginning(beginning.picture, mask)


def resized(picture: Image.Image, size_px: tuple[int, int], mode: ResizeMode) -> Image.Image:
    """RGB of exactly that size: edges cut off equally, stretched, or what is missing filled with the edges' colours."""
    if picture.size == size_px:
        return picture
    if mode == "stretch":
        return picture.resize(size_px, Image.Resampling.LANCZOS)
    (width, height), choose = size_px, max if mode == "crop" else min
    factor = choose(width / picture.width, height / picture.height)
    inner = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    scaled = picture.resize(inner, Image.Resampling.LANCZOS)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    if mode == "crop":
        return scaled.crop((-left, -top, width - left, height - top))
    pads = ((top, height - inner[1] - top), (left, width - inner[0] - left), (0, 0))
    return Image.fromarray(np.pad(np.array(scaled), pads, mode="edge"))


def to_pixels(picture: Image.Image) -> Tensor:
    """fp32 [1, 3, H, W] in −1…1 of an RGB picture."""
    levels = torch.from_numpy(np.array(picture, dtype=np.float32) / 255.0)
    return (2.0 * levels - 1.0).permute(2, 0, 1)[None].contiguous()
