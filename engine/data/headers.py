"""Size and orientation of an image file from its first bytes, without decoding it.

PNG, JPEG, WebP and BMP are read by hand (10,000 files take a fraction of a second); the rest through Pillow. The
format is told by content, not by suffix. The EXIF orientation found here is the one that decoding applies, so the
size that a plan shows is the size that is trained.

Sources: PNG (W3C, third edition), ITU-T T.81 annex B, Exif 2.32 section 4, RFC 9649 (WebP), Microsoft's BMP headers.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from engine.data.buckets import Size
from engine.errors import DatasetError

# Sizes are known before anything is decoded, and `refusal_of_size` draws the line; Pillow's own limit would stop
# large JPEGs that decode at a reduced scale without trouble.
Image.MAX_IMAGE_PIXELS = None

DECODE_LIMIT_PX = 250_000_000  # four bytes a pixel in Pillow: 1 GB while the image is being decoded
JPEG_REDUCTIONS = (1, 2, 4, 8)
ORIENTATION_TAG = 0x0112
UNDECODABLE = (  # all that Pillow and its libraries raise for damaged files
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError, RuntimeError),
    *(struct.error, zlib.error),
)

_OTHER_FORMATS = ("TIFF", "AVIF", "JXL", "GIF")
_HEAD_BYTES = 4096
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_TURNED_SIDEWAYS = (5, 6, 7, 8)
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class ImageHeader(NamedTuple):
    """`size_px` as shown, after `orientation` (EXIF, 1 to 8) is applied; `format` as Pillow names it."""

    size_px: Size
    orientation: int
    format: str


class _File:
    """Random reads of an open file; short reads come from the first block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.head = os.read(descriptor, _HEAD_BYTES)

    def at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; raises EOFError where the file ends before."""
        block = self.head[offset : offset + length]
        if len(block) < length:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            block = os.read(self._descriptor, length)
        if len(block) < length:
            raise EOFError
        return block


def read_image_header(path: Path | str) -> ImageHeader:
    """Header of the image at `path`. Raises DatasetError with a sentence for a file that is no usable image."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except OSError as error:
        raise DatasetError(f"cannot be read ({error.strerror}). {_REMEDY}", str(path)) from error
    try:
        header = _header_of(_File(descriptor), path)
    except (EOFError, struct.error) as error:
        raise DatasetError(f"ends in the middle of its header; the file is cut off. {_REMEDY}", str(path)) from error
    except OSError as error:
        raise DatasetError(f"cannot be read ({error.strerror or error}). {_REMEDY}", str(path)) from error
    finally:
        os.close(descriptor)
    if min(header.size_px) < 1:
        width_px, height_px = header.size_px
        raise DatasetError(f"has no pixels (got {width_px} × {height_px}). {_REMEDY}", str(path))
    return header


def refusal_of_size(header: ImageHeader) -> str | None:
    """The sentence for an image too large to decode, or None. JPEGs may be 64 times larger: see `jpeg_reduction`."""
    limit_px = DECODE_LIMIT_PX * (JPEG_REDUCTIONS[-1] ** 2 if header.format == "JPEG" else 1)
    width_px, height_px = header.size_px
    if width_px * height_px <= limit_px:
        return None
    return (
        f"is too large to decode (got {width_px} × {height_px} px; the limit is {limit_px // 1_000_000:,} million). "
        "Save a smaller copy, or save it as JPEG."
    )


def jpeg_reduction(size_px: Size) -> int:
    """By how much a JPEG is reduced while it is decoded, so that it stays within the limit: 1 for all usual images."""
    return next((r for r in JPEG_REDUCTIONS if size_px[0] * size_px[1] <= DECODE_LIMIT_PX * r * r), JPEG_REDUCTIONS[-1])


_REMEDY = "Replace it or take it out of the folder."


def _header_of(file: _File, path: Path | str) -> ImageHeader:
    head = file.head
    if not head:
        raise DatasetError(f"is empty (0 bytes). {_REMEDY}", str(path))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(file)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(file, path)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(file, path)
    if head.startswith(b"BM"):
        return _bmp(file)
    return _through_pillow(path, head)


def _shown(size_px: Size, orientation: int, kind: str) -> ImageHeader:
    if orientation in _TURNED_SIDEWAYS:
        size_px = (size_px[1], size_px[0])
    return ImageHeader(size_px, orientation, kind)


def _png(file: _File) -> ImageHeader:
    """IHDR, then the chunks before the pixels for an eXIf."""
    size_px: Size = struct.unpack(">II", file.at(16, 8))
    if file.at(12, 4) != b"IHDR":
        raise EOFError
    offset = 33
    while len(head := file.at(offset, 8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return _shown(size_px, _exif_orientation(file.at(offset + 8, length)), "PNG")
        if kind in (b"IDAT", b"IEND"):
            break
        offset += 12 + length
    return _shown(size_px, 1, "PNG")


def _jpeg(file: _File, path: Path | str) -> ImageHeader:
    """Segments up to the frame header; an APP1 Exif segment on the way gives the orientation."""
    orientation, offset = 1, 2
    while True:
        prefix, marker = file.at(offset, 2)
        if prefix != 0xFF:
            raise DatasetError(f"has a damaged header. {_REMEDY}", str(path))
        if marker == 0xFF or marker in _MARKERS_WITHOUT_LENGTH:  # fill byte, or a marker that stands alone
            offset += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(file.at(offset + 2, 2), "big")
        if marker in _FRAME_MARKERS:
            height_px, width_px = struct.unpack(">HH", file.at(offset + 5, 4))
            return _shown((width_px, height_px), orientation, "JPEG")
        if marker == 0xE1 and length >= 8 and file.at(offset + 4, 6) == b"Exif\0\0":
            orientation = _exif_orientation(file.at(offset + 10, length - 8))
        if marker == 0xD9 or length < 2:
            raise DatasetError(f"has a damaged header. {_REMEDY}", str(path))
        offset += 2 + length


def _webp(file: _File, path: Path | str) -> ImageHeader:
    kind = file.at(12, 4)
    if kind == b"VP8 ":
        width_px, height_px = struct.unpack("<HH", file.at(26, 4))
        return _shown((width_px & 0x3FFF, height_px & 0x3FFF), 1, "WEBP")
    if kind == b"VP8L":
        bits = int.from_bytes(file.at(21, 4), "little")
        return _shown(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), 1, "WEBP")
    if kind != b"VP8X":
        raise DatasetError(f"has a damaged header. {_REMEDY}", str(path))
    fields = file.at(20, 10)
    size_px = (int.from_bytes(fields[4:7], "little") + 1, int.from_bytes(fields[7:10], "little") + 1)
    return _shown(size_px, _webp_orientation(file) if fields[0] & 0x08 else 1, "WEBP")


def _webp_orientation(file: _File) -> int:
    """Orientation from the EXIF chunk, which stands after the pixels."""
    offset = 30
    while True:
        kind, length = struct.unpack("<4sI", file.at(offset, 8))
        if kind == b"EXIF":
            return _exif_orientation(file.at(offset + 8, length).removeprefix(b"Exif\0\0"))
        offset += 8 + length + length % 2


def _bmp(file: _File) -> ImageHeader:
    if struct.unpack("<I", file.at(14, 4))[0] == 12:  # the old header with 16-bit sizes
        width_px, height_px = struct.unpack("<HH", file.at(18, 4))
    else:
        width_px, height_px = struct.unpack("<ii", file.at(18, 8))
    return _shown((width_px, abs(height_px)), 1, "BMP")


def _exif_orientation(block: bytes) -> int:
    """Tag 0x0112 of the first directory; 1 (upright) where it is missing or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    start = struct.unpack(order + "I", block[4:8])[0]
    count = struct.unpack(order + "H", block[start : start + 2])[0] if start + 2 <= len(block) else 0
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack(order + "HH", block[at : at + 4])
        if tag == ORIENTATION_TAG:
            value = struct.unpack(order + ("I" if kind == 4 else "H"), block[at + 8 : at + (12 if kind == 4 else 10)])[
                0
            ]
            return value if 1 <= value <= 8 else 1
    return 1


def _through_pillow(path: Path | str, head: bytes) -> ImageHeader:
    try:
        with Image.open(path, formats=_other_formats()) as image:
            # Pillow turns a TIFF itself and gives the turned size.
            orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION_TAG, 1)
            upright = orientation if orientation in range(1, 9) else 1
            return _shown(image.size, upright, image.format or "")
    except UnidentifiedImageError as error:
        raise DatasetError(f"{_what_it_is(head)}. {_REMEDY}", str(path)) from error
    except UNDECODABLE as error:
        raise DatasetError(f"has a damaged header ({error}). {_REMEDY}", str(path)) from error


def _other_formats() -> list[str]:
    Image.init()
    return [name for name in _OTHER_FORMATS if name in Image.OPEN]


def _what_it_is(head: bytes) -> str:
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "is a HEIC picture, which cannot be read here; save it as JPEG or PNG"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not an image; the download went wrong"
    if not any(head):
        return "holds nothing but zeros; copying or downloading it went wrong"
    return "is not an image, whatever its name says"
