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


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Around:
    """The whole picture where only a part of it is drawn: the `box` in it. Mask (mode L) of the picture's own size."""

    picture: Image.Image
    mask: Image.Image
    box: Box


@dataclass(frozen=True)
class Beginning:
    """The picture to begin with, of the size that is drawn; with a mask (mode L, white = anew, blurred) where there is
    one. `around`: what that picture is a part of.
    """

    picture: Image.Image
    mask: Image.Image | None = None
    around: Around | None = None

    def pixels(self) -> Tensor:
        """fp32 [1, 3, H, W] in −1…1."""
        return to_pixels(self.picture)

    def latent_mask(self) -> Tensor:
        """fp32 [1, 1, H/8, W/8]: 1 where the upper left pixel of the eight by eight is to be drawn anew, else 0."""
        if self.mask is None:
            raise ValueError("there is no mask")
        white = torch.from_numpy(np.array(self.mask, dtype=np.float32) / 255 >= 0.5).float()[None, None]
        return functional.interpolate(white, scale_factor=1 / PX_PER_LATENT, recompute_scale_factor=False)

    def finished(self, drawn: Image.Image, keep_outside: bool) -> Image.Image:
        """The drawn picture, put into the whole one where it is a part of that. With `keep_outside` the old one where
        the mask is black, mixed between.
        """
        if self.around is None:
            return self._outside_kept(drawn, self.picture, self.mask) if keep_outside else drawn
        left, top, right, bottom = self.around.box
        whole = self.around.picture.copy()
        whole.paste(resized(drawn, (right - left, bottom - top), "crop"), (left, top))
        return self._outside_kept(whole, self.around.picture, self.around.mask) if keep_outside else whole

    @staticmethod
    def _outside_kept(drawn: Image.Image, old: Image.Image, mask: Image.Image | None) -> Image.Image:
        return drawn if mask is None else Image.composite(drawn, old, mask)


@dataclass(frozen=True)
class Masking:
    """How a mask is read: its file, whether black and white change places, and how far its edges are blurred."""

    path: Path
    inverted: bool
    blur_px: int

    def read(self, size_px: tuple[int, int], mode: ResizeMode) -> Image.Image:
        """Mode L, brought to size as the picture was. DatasetError where the file is unreadable."""
        mask = resized(open_upright(self.path, "#000000"), size_px, mode).convert("L")
        if self.inverted:
            mask = mask.point(lambda level: 255 - level)
        return mask.filter(ImageFilter.GaussianBlur(self.blur_px)) if self.blur_px else mask


def read_beginning(path: Path, size_px: tuple[int, int], mode: ResizeMode, masking: Masking | None = None) -> Beginning:
    """The picture at that size, with its mask. Raises DatasetError naming a file that cannot be read."""
    picture = resized(open_upright(path), size_px, mode)
    return Beginning(picture, masking.read(size_px, mode) if masking else None)


def read_part(path: Path, size_px: tuple[int, int], masking: Masking, padding_px: int) -> Beginning:
    """The part of a picture around its mask, at that size. Raises DatasetError naming a file that cannot be read."""
    picture = open_upright(path)
    mask = masking.read(picture.size, "stretch")
    box = part_around(mask.getbbox() or (0, 0, *picture.size), picture.size, size_px, padding_px)
    parts = (resized(one.crop(box), size_px, "fill") for one in (picture, mask.convert("RGB")))
    part, part_mask = parts
    return Beginning(part, part_mask.convert("L"), Around(picture, mask, box))


def part_around(box: Box, picture_px: tuple[int, int], size_px: tuple[int, int], padding_px: int) -> Box:
    """The box with so many pixels around it, made longer on its short side to the shape of `size_px` as far as the
    picture has room.
    """
    edges: list[tuple[int, int]] = []
    for axis in (0, 1):
        edges.append((max(0, box[axis] - padding_px), min(picture_px[axis], box[axis + 2] + padding_px)))
    width, height = (end - begin for begin, end in edges)
    wanted = (max(width, round(height * size_px[0] / size_px[1])), max(height, round(width * size_px[1] / size_px[0])))
    for axis in (0, 1):
        begin, end = edges[axis]
        length = min(wanted[axis], picture_px[axis])
        begin = min(max(0, begin - (length - (end - begin)) // 2), picture_px[axis] - length)
        edges[axis] = (begin, begin + length)
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


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
