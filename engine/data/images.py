"""From an image file to the pixels that are trained: upright, opaque, eight-bit sRGB, resized and cut to the bucket.

The resampling is that of sd-scripts (tests/reference/image.json, equal to the last bit): OpenCV's area average where
both sides shrink, Pillow's Lanczos elsewhere; or one method for all.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from engine.data.buckets import Placement, Size
from engine.data.headers import (
    JPEG_REDUCTIONS,
    UNDECODABLE,
    ImageHeader,
    jpeg_reduction,
    read_image_header,
    refusal_of_size,
)
from engine.errors import DatasetError

PIXELS_VERSION = 1  # goes into cache keys: raise it when `load_pixels` gives other pixels than before

Pixels = NDArray[np.uint8]
Color = str | tuple[int, int, int]  # "#rrggbb" or three numbers up to 255

WHITE: Color = "#ffffff"
Resampling = Literal["auto", "area", "lanczos", "bicubic", "bilinear", "nearest"]
_OPENCV = {
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}
_REMEDY = "Replace it or take it out of the folder."
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COLOR_MANAGED = ("RGB", "RGBA", "CMYK")


def load_pixels(
    path: Path,
    placement: Placement,
    *,
    background: Color = WHITE,
    crop_left_top: tuple[int, int] | None = None,
    flip: bool = False,
    resampling: Resampling = "auto",
) -> Pixels:
    """Pixels [H, W, 3] (uint8, sRGB) of the bucket's size.

    Transparent parts show `background`. The cut is at `crop_left_top` in pixels, by default the placement's; `flip`
    mirrors the cut left to right. Raises DatasetError naming the file when it cannot be decoded, is too large, or no
    longer has the shape that the placement was made for.
    """
    image = open_upright(path, background)
    pixels = _resize(image, placement.resized_px, path, resampling)
    left_px, top_px = crop_left_top or placement.crop_left_top_px
    width_px, height_px = placement.bucket_px
    cut = pixels[top_px : top_px + height_px, left_px : left_px + width_px]
    return np.ascontiguousarray(cut[:, ::-1] if flip else cut)


def open_upright(path: Path, background: Color = WHITE) -> Image.Image:
    """The whole image in mode RGB: EXIF orientation applied, colours in sRGB, transparent parts in `background`."""
    return _decoded(path, lambda image: _flatten(_to_srgb(_to_eight_bits(image, path)), background))


def open_layered(path: Path) -> Image.Image:
    """As `open_upright`, but in mode RGBA where the image has transparency, which is kept."""
    return _decoded(path, lambda image: _layered(_to_srgb(_to_eight_bits(image, path))))


def open_alpha(path: Path) -> Image.Image:
    """How opaque the image is, in mode L, EXIF orientation applied; white all over where it has no transparency."""
    return _decoded(path, _alpha)


def open_small(path: Path, smallest_px: int) -> tuple[Image.Image, bool]:
    """Mode RGB as `open_upright` on white, and whether any pixel is not opaque; reduced by whole numbers of pixels.

    Both sides of what was larger stay at `smallest_px` or above. Every byte of the file is read, so that a damaged one
    is found: raises DatasetError as `open_upright`.
    """
    transparent = [False]

    def convert(image: Image.Image) -> Image.Image:
        transparent[0] = _alpha(image).getextrema()[0] != 255 if image.has_transparency_data else False
        eight = _to_eight_bits(image, path)
        factor = min(eight.size) // smallest_px
        plain = eight if eight.mode in ("L", "RGB", "RGBA", "CMYK") or factor < 2 else eight.convert("RGBA")
        return _flatten(_to_srgb(plain.reduce(factor) if factor > 1 else plain), WHITE)

    return _decoded(path, convert, smallest_px), transparent[0]


def _decoded(path: Path, convert: Callable[[Image.Image], Image.Image], smallest_px: int = 0) -> Image.Image:
    """The image, decoded, converted and upright. Raises DatasetError naming the file where that cannot be.

    smallest_px: above 0, a JPEG may be reduced while it is decoded as long as its sides stay at this.
    """
    header = read_image_header(path)
    if refusal := refusal_of_size(header):
        raise DatasetError(refusal, str(path))
    try:
        with Image.open(path, formats=(header.format,)) as image:
            _reduce(image, header, smallest_px)
            image.load()
            converted = convert(image)
    except MemoryError as error:
        width_px, height_px = header.size_px
        raise DatasetError(
            f"does not fit into memory (got {width_px} × {height_px} px). Save a smaller copy.", str(path)
        ) from error
    except UNDECODABLE as error:
        raise DatasetError(f"cannot be decoded ({_reason(error)}). {_REMEDY}", str(path)) from error
    turn = _UPRIGHT.get(header.orientation)
    return converted.transpose(turn) if turn is not None else converted


def _reason(error: Exception) -> str:
    text = str(error)
    return "the file is cut off" if "truncated" in text.lower() else text or type(error).__name__


def _reduce(image: Image.Image, header: ImageHeader, smallest_px: int) -> None:
    """Let very large JPEGs, or all where little is asked for, be decoded at a half, a quarter or an eighth."""
    reduction = jpeg_reduction(header.size_px) if header.format == "JPEG" else 1
    if smallest_px and header.format == "JPEG":
        reduction = max(reduction, *(r for r in JPEG_REDUCTIONS if r == 1 or min(image.size) >= smallest_px * r))
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))


def _to_eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Grey images of 16 bits as mode L, rounded; other modes as they are (Pillow opens colour with 8 bits)."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise DatasetError("has pixels of 32 bits, whose range is not known. Save it with 8 or 16 bits.", str(path))
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours through the embedded profile (Display P3, Adobe RGB, print CMYK …); without one they are sRGB already."""
    profile_bytes, mode = image.info.get("icc_profile") or b"", image.mode.rstrip("A")
    if image.mode not in _COLOR_MANAGED or profile_bytes[16:20].strip() != mode.encode():
        return image  # no profile, or one of another colour space (ICC.1, table 19)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile says nothing: the numbers are taken as sRGB
        return image
    converted = transform.apply(image.convert(mode))
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _flatten(image: Image.Image, background: Color) -> Image.Image:
    """Mode RGB, with `background` behind what is transparent."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    layered = image.convert("RGBA")
    opaque = Image.new("RGB", image.size, background)
    opaque.paste(layered, mask=layered.getchannel("A"))
    return opaque


def _layered(image: Image.Image) -> Image.Image:
    """Mode RGBA where anything is transparent, else RGB."""
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _alpha(image: Image.Image) -> Image.Image:
    """Mode L: 255 where opaque."""
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return image.convert("RGBA").getchannel("A")


def _resize(image: Image.Image, resized_px: Size, path: Path, resampling: Resampling) -> Pixels:
    width_px, height_px = image.size
    if abs(resized_px[0] * height_px - resized_px[1] * width_px) > max(width_px, height_px):
        raise DatasetError(
            f"has changed since the folder was scanned (it is {width_px} × {height_px} px now). Start again.", str(path)
        )
    return resample(image, resized_px, resampling)


def resample(image: Image.Image, resized_px: Size, resampling: Resampling = "auto") -> Pixels:
    """[H, W] or [H, W, 3]. "auto": area average where both sides shrink, else Lanczos. Untouched at the right size."""
    width_px, height_px = image.size
    if image.size == resized_px:
        return np.asarray(image)
    if resampling == "auto" and width_px > resized_px[0] and height_px > resized_px[1]:
        resampling = "area"
    if resampling in _OPENCV:
        resized = cv2.resize(np.asarray(image), resized_px, interpolation=_OPENCV[resampling])
        return np.asarray(resized, dtype=np.uint8)
    return np.asarray(image.resize(resized_px, Image.Resampling.LANCZOS))
