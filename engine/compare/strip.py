"""A run's way as a strip of pictures, each with its step above, and as an animated WebP. Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from engine.atomic import whole_file
from engine.compare.grid import Item, Legends, Look, grid_picture

_LAST_STAYS = 4
_MOST_FRAME_PX = 1024


def strip_picture(frames: Sequence[tuple[str, Item]], columns: int, look: Look) -> Image.Image:
    """All frames in rows of `columns`, read like a text. Raises UserError where they have no room."""
    rows = [frames[at : at + columns] for at in range(0, len(frames), columns)]
    lines = [_row(row, columns, look, len(rows)) for row in rows]
    sheet = Image.new("RGB", (max(line.width for line in lines), sum(line.height for line in lines)), (255, 255, 255))
    top = 0
    for line in lines:
        sheet.paste(line, (0, top))
        top += line.height
    return sheet


def _row(frames: Sequence[tuple[str, Item]], columns: int, look: Look, rows: int) -> Image.Image:
    """One row with its labels; a short last row has cells as large as the others."""
    labels = tuple(label for label, _ in frames) + ("",) * (columns - len(frames))
    items = {(column, 0): item for column, (_, item) in enumerate(frames)}
    most = max(1, look.most_px // rows) if rows > 1 else look.most_px
    limited = Look(min(look.cell_px or most, most), look.most_px, look.text_px, look.font, look.format)
    picture = grid_picture(items, Legends(labels, ("",)), limited)
    if len(frames) == columns:
        return picture
    end = round(picture.width * len(frames) / columns)
    blank = Image.new("RGB", (picture.width - end, picture.height), (255, 255, 255))
    picture.paste(blank, (end, 0))
    return picture


def save_animation(frames: Sequence[tuple[str, Item]], seconds: float, look: Look, path: Path) -> None:
    """One frame a checkpoint with its label above, again and again; all as large as the largest.

    Raises UserError where the disk refuses or the font cannot be read.
    """
    small = Look(min(look.cell_px or _MOST_FRAME_PX, _MOST_FRAME_PX), look.most_px, look.text_px, look.font, "webp")
    pictures = [grid_picture({(0, 0): item}, Legends((label,), ("",)), small) for label, item in frames]
    size = max(one.width for one in pictures), max(one.height for one in pictures)
    same = [_on_sheet(one, size) for one in pictures]
    stays = [round(seconds * 1000)] * (len(same) - 1) + [round(seconds * 1000 * _LAST_STAYS)]
    with whole_file(path) as part:
        same[0].save(part, format="WEBP", save_all=True, append_images=same[1:], duration=stays, loop=0, quality=85)


def _on_sheet(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    if picture.size == size:
        return picture
    sheet = Image.new("RGB", size, (255, 255, 255))
    sheet.paste(picture, ((size[0] - picture.width) // 2, size[1] - picture.height))
    return sheet
