"""The texts that a picture carries about itself: PNG chunks, and EXIF of JPEG and WebP. Torch-free.

Pictures come from anywhere: only the head of a file is read, nothing is decoded, and every text has a limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from engine.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_CHARACTERS = 4_000_000  # of one text; ComfyUI's graphs are long
_EXIF_IFD, _USER_COMMENT, _DESCRIPTION, _MAKE, _MODEL = 0x8769, 0x9286, 0x010E, 0x010F, 0x0110
_CODES = (b"ASCII\0\0\0", b"UNICODE\0", b"JIS\0\0\0\0\0", b"\0" * 8)


def texts_of(path: Path) -> tuple[dict[str, str], tuple[int, int]]:
    """The texts of a picture by name ("parameters", "prompt", "workflow", "atelier"), and its size (width, height).

    Raises UserError for what is no PNG, JPEG or WebP picture.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            found = {str(name): value for name, value in image.info.items() if isinstance(value, str)}
            if image.format != "PNG":  # there Pillow decodes the whole picture to look for EXIF
                found |= _exif_texts(image)
            size = image.size
    except FileNotFoundError:
        raise UserError("there is no such picture. Check the name.", str(path)) from None
    except Exception as error:  # Pillow raises many kinds on broken files
        what = f"this cannot be read as a PNG, JPEG or WebP picture ({type(error).__name__}). Give another one."
        raise UserError(what, path.name) from None
    return {name: text for name, text in found.items() if 0 < len(text) <= MOST_CHARACTERS}, size


def _exif_texts(image: Image.Image) -> dict[str, str]:
    """A1111 writes `parameters` as user comment; ComfyUI `prompt:{…}` and `workflow:{…}` as model and make."""
    exif = image.getexif()
    found: dict[str, str] = {}
    comment = _comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT))
    if comment:
        found["parameters"] = comment
    for tag in (_MODEL, _MAKE, _DESCRIPTION):
        name, _, rest = str(exif.get(tag) or "").partition(":")
        if name.strip().lower() in ("prompt", "workflow") and rest.lstrip().startswith("{"):
            found[name.strip().lower()] = rest.rstrip("\0 ")
    return found


def _comment(value: Any) -> str:
    if isinstance(value, str):
        return value.strip("\0 ")
    if not isinstance(value, bytes):
        return ""
    code, content = (value[:8], value[8:]) if value[:8] in _CODES else (b"", value)
    if code == b"UNICODE\0":
        # the byte order is not told: Latin letters have their zeros first in one, second in the other
        is_big = content[0::2].count(0) >= content[1::2].count(0)
        return content.decode("utf-16-be" if is_big else "utf-16-le", errors="replace").strip("\0\ufeff ")
    return content.decode("utf-8", errors="replace").strip("\0 ")
