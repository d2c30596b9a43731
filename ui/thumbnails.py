"""Small copies of pictures for the page, made once and kept in a cache folder, so that no 20 MB original is sent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageOps

from engine.atomic import write_whole
from engine.errors import UserError
from engine.home import home

SIDE_PX = 320
LARGE_PX = 1280
_SMALL_BYTES = 64_000  # a sample this small is served as it is
_MOST_PIXELS = 120_000_000  # larger ones are not opened for a preview

_pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="thumbnail")
_large_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preview")  # never behind a page of small ones
_pending: dict[Path, Future[Path | None]] = {}
_lock = threading.Lock()


def folder() -> Path:
    return home() / "cache" / "thumbnails"


def url(path: Path) -> str:
    """The address under which the page gets a file of an allowed folder; changes when the file does."""
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return f"gradio_api/file={quote(str(path))}?v={stamp}"


def of_all(paths: Iterable[Path]) -> list[Path | None]:
    """The thumbnails of these pictures, made now where missing; None for what cannot be shown."""
    futures = [_ask(path) for path in paths]
    return [future.result() for future in futures]


def soon(paths: Iterable[Path], seconds: float) -> list[tuple[Path | None, bool]]:
    """For each picture its thumbnail and whether it is there yet; (None, True) for what cannot be shown.

    Waits `seconds` for all together. The rest are made meanwhile, and will be where their path says.
    """
    below = folder()
    asked = [(_target(path, SIDE_PX, below), _ask(path, below=below)) for path in paths]
    wait([future for _, future in asked], timeout=seconds)
    return [(future.result(), True) if future.done() else (target, False) for target, future in asked]


def if_ready(path: Path) -> Path | None:
    """The picture itself if it is small, else its thumbnail; None while that is still being made."""
    try:
        if path.stat().st_size <= _SMALL_BYTES:
            return path
    except OSError:
        return None
    future = _ask(path)
    return future.result() if future.done() else None


def asked_for(paths: Iterable[Path]) -> list[tuple[bool, Path | None]]:
    """For each picture whether its making came to its end, and the thumbnail; None then is what cannot be shown."""
    below = folder()
    futures = [_ask(path, below=below) for path in paths]
    return [(future.done(), future.result() if future.done() else None) for future in futures]


def large(path: Path) -> Path | None:
    """A copy of up to LARGE_PX a side, made now where missing; None for what cannot be shown."""
    return _ask(path, LARGE_PX).result()


def _ask(path: Path, side_px: int = SIDE_PX, below: Path | None = None) -> Future[Path | None]:
    target = _target(path, side_px, below or folder())
    with _lock:
        future = _pending.get(target)
        if future is None:
            future = (_pool if side_px == SIDE_PX else _large_pool).submit(_make, path, target, side_px)
            if len(_pending) > 20_000:
                _pending.clear()
            _pending[target] = future
        return future


def _target(path: Path, side_px: int, below: Path) -> Path:
    try:
        facts = path.stat()
        key = f"{path}|{facts.st_mtime_ns}|{facts.st_size}|{side_px}"
    except OSError:
        key = f"{path}|missing"
    return below / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.webp"


def _make(path: Path, target: Path, side_px: int) -> Path | None:
    if target.exists():
        return target
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.draft("RGB", (side_px * 2, side_px * 2))
            small = ImageOps.exif_transpose(image)
            small.thumbnail((side_px, side_px))
            small = _flat(small)
        write_whole(target, lambda part: small.save(part, "WEBP", quality=80, method=2))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, UserError):
        return None
    return target


def _flat(image: Image.Image) -> Image.Image:
    """RGB, with what was transparent on white; 16-bit grey is scaled to 8."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
