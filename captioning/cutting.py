"""One picture cut, resized and saved as a new file: the work of one process of the tool `crop`."""

from __future__ import annotations

import os
import secrets
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from captioning.faces import face_detector
from captioning.focus import cut_around, cut_by_saliency, main_face, spectral_residual
from engine.atomic import PART_SUFFIX, storage_refusal
from engine.data.buckets import Placement, Size
from engine.data.images import open_layered, open_upright, resample
from engine.errors import UserError
from engine.tools import moving

Focus = Literal["centre", "face", "saliency"]
Format = Literal["png", "jpg", "webp"]


@dataclass(frozen=True)
class Look:
    """How the new files are to be. `background` lies behind transparent and padded parts."""

    focus: Focus = "centre"
    padding: bool = False
    keep_alpha: bool = True
    background: str = "#ffffff"
    format: Format = "png"
    quality: int = 95
    face_model: str = ""


@dataclass(frozen=True)
class Cut:
    """One picture, where it goes, and its mask's source and target if it has one. With padding, `placement` says what
    size the picture has within its bucket, and there is no cut."""

    source: Path
    target: Path
    placement: Placement
    mask: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Made:
    """What became of a cut: the new files; or why there are none, and the traceback where that is a defect."""

    files: tuple[Path, ...] = ()
    note: str = ""
    failed: bool = False
    defect: str = ""


def begin() -> None:
    """At the start of a process: one thread each, since there are as many processes as cores."""
    import signal

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which ends the others


def make_cut(cut: Cut, look: Look) -> Made:
    """Cut one picture and its mask. Never raises for what one file does."""
    made: list[Path] = []
    try:
        image = _open(cut.source, look)
        if look.padding:
            left_top, note = (0, 0), ""
        else:
            left_top, note = _left_top(image, cut.placement, look)
        _save(_cut(image, cut.placement, left_top, look), cut.target, look)
        made.append(cut.target)
        if cut.mask is not None:
            mask = open_upright(cut.mask[0], "#000000").convert("L")
            plain = Look(padding=look.padding, background="#000000")
            _save(_cut(mask, cut.placement, left_top, plain), cut.mask[1], plain)
            made.append(cut.mask[1])
        return Made(tuple(made), note)
    except UserError as error:
        return Made(tuple(made), error.problems[0].message, failed=True)
    except OSError as error:
        refusal = storage_refusal(error, cut.target)
        return Made(tuple(made), refusal.problems[0].message if refusal else str(error), failed=True)
    except Exception as error:  # whatever one picture does, the others are cut
        return Made(tuple(made), f"{type(error).__name__}: {error}", failed=True, defect=traceback.format_exc())


def padded_size(size_px: Size, bucket_px: Size) -> Size:
    """The largest size of the same shape that fits into the bucket, each side at least 1."""
    scale = min(bucket / side for bucket, side in zip(bucket_px, size_px, strict=True))
    width, height = (min(bucket, max(1, round(side * scale))) for side, bucket in zip(size_px, bucket_px, strict=True))
    return width, height


def _open(path: Path, look: Look) -> Image.Image:
    keep = look.keep_alpha and look.format != "jpg"
    return open_layered(path) if keep else open_upright(path, look.background)


def _left_top(image: Image.Image, placement: Placement, look: Look) -> tuple[tuple[int, int], str]:
    """Where the cut begins, and what is to be said of it."""
    if look.focus == "centre" or placement.resized_px == placement.bucket_px:
        return placement.crop_left_top_px, ""
    pixels = np.asarray(image if image.mode == "RGB" else _flat(image, look.background))
    if look.focus == "saliency":
        return cut_by_saliency(placement, spectral_residual(pixels)), ""
    centre = main_face(face_detector(look.face_model)(pixels))
    if centre is None:
        return placement.crop_left_top_px, "no face found, so it is cut at the centre"
    return cut_around(placement, centre), ""


def _flat(image: Image.Image, background: str) -> Image.Image:
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _cut(image: Image.Image, placement: Placement, left_top: tuple[int, int], look: Look) -> Image.Image:
    width, height = placement.bucket_px
    if not look.padding:
        left, top = left_top
        return _resized(image, placement.resized_px).crop((left, top, left + width, top + height))
    inner = _resized(image, placement.resized_px)
    colors = {"L": 0, "RGBA": (0, 0, 0, 0)}
    outer = Image.new(image.mode, (width, height), colors.get(image.mode, look.background))
    outer.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return outer


def _resized(image: Image.Image, size_px: Size) -> Image.Image:
    """As training resizes; with transparency by Lanczos on colours weighted by their opacity, as Pillow does."""
    if image.mode == "RGBA":
        return image if image.size == size_px else image.resize(size_px, Image.Resampling.LANCZOS)
    return Image.fromarray(resample(image, size_px))


def _save(image: Image.Image, target: Path, look: Look) -> None:
    """A new file, whole or not there. Raises UserError where one of that name came meanwhile."""
    how = {"png": {"compress_level": 2}, "jpg": {"quality": look.quality, "subsampling": 0}}
    part = target.with_name(f".{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        kind = {"jpg": "JPEG"}.get(look.format, look.format.upper())
        image.save(part, kind, **how.get(look.format, {"quality": look.quality, "method": 4}))
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        moving.move(part, target)
    except FileExistsError:
        raise UserError("is there already and is never overwritten. Choose another folder.", str(target)) from None
    finally:
        part.unlink(missing_ok=True)
