"""A grid of pictures with legends: x above, y on the left, a title for z. Pillow alone; no settings are read here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from engine.atomic import whole_file
from engine.compare.fonts import Font, font_for, wrapped
from engine.errors import UserError

BACKGROUND, INK, QUIET, FAULT = (255, 255, 255), (20, 20, 24), (236, 236, 240), (176, 32, 32)
MOST_PIXELS = 120_000_000
"""360 MB while it is made."""
LIMITS_PX = {"png": 32768, "jpeg": 65000, "webp": 16383}
"""What the kinds of files take."""
NOT_DRAWN = "not drawn"
_GAP_PX = 6
_MOST_LINES = 6
_SMALLEST_CELL_PX = 32

Item = Path | str
"""What a cell shows: a picture, or why there is none."""


@dataclass(frozen=True)
class Legends:
    """Texts above the columns, left of the rows ("" for none), and over the whole grid."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True)
class Look:
    """How a grid is made. 0: a cell keeps the largest picture's size; the legends' size follows the cells'."""

    cell_px: int = 512
    most_px: int = 12000
    text_px: int = 0
    font: str = ""
    format: str = "png"


def grid_picture(items: Mapping[tuple[int, int], Item], legends: Legends, look: Look) -> Image.Image:
    """The grid. `items` by (column, row); missing ones are told as not drawn. RGB.

    Raises UserError where there are too many cells for a picture, or where the font cannot be read.
    """
    sizes = [_size(item) for item in items.values() if isinstance(item, Path)]
    cell = _cell_size([size for size in sizes if size], legends, look)
    text_px = look.text_px or max(12, min(48, round(max(cell) / 16)))
    texts = [*legends.columns, *legends.rows, legends.title, NOT_DRAWN]
    font = font_for([*texts, *(item for item in items.values() if isinstance(item, str))], text_px, look.font)
    sheet = _Sheet(cell, legends, font, text_px)
    for row in range(len(legends.rows)):
        for column in range(len(legends.columns)):
            sheet.put(column, row, items.get((column, row), NOT_DRAWN))
    most = min(look.most_px, LIMITS_PX[look.format])
    if max(sheet.picture.size) > most:  # much text beside small pictures
        sheet.picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    return sheet.picture


def save_grid(picture: Image.Image, path: Path) -> None:
    """Write the grid by its ending (.png, .jpg, .webp), whole or not at all. UserError where the disk refuses."""
    kind = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[path.suffix]
    with whole_file(path) as part:
        if kind == "PNG":
            picture.save(part, format=kind, compress_level=4)
        else:
            picture.save(part, format=kind, quality=92)


def ending(kind: str) -> str:
    """How files of a kind end."""
    return {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[kind]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError):  # it went away or is damaged, which its cell tells
        return None


def _cell_size(sizes: Sequence[tuple[int, int]], legends: Legends, look: Look) -> tuple[int, int]:
    """Width and height of all cells, so that the largest picture fits and the grid stays within its limits."""
    width, height = max((size[0] for size in sizes), default=256), max((size[1] for size in sizes), default=256)
    columns, rows = max(1, len(legends.columns)), max(1, len(legends.rows))
    most = min(look.most_px, LIMITS_PX[look.format])
    scale = min(1.0, look.cell_px / max(width, height)) if look.cell_px else 1.0
    room = [0.88 * most - _GAP_PX * (count + 1) for count in (columns, rows)]  # the rest is for legends
    scale = min(scale, room[0] / (columns * width), room[1] / (rows * height))
    scale = min(max(scale, 0.0), (0.8 * MOST_PIXELS / (columns * rows * width * height)) ** 0.5)
    cell = max(1, round(width * scale)), max(1, round(height * scale))
    if max(cell) < min(_SMALLEST_CELL_PX, width, height):
        what = f"has no room for {columns:,} × {rows:,} pictures. Put one axis on z, or raise it."
        raise UserError(what, "grid.most_px")
    return cell


class _Sheet:
    """The picture with its legends, to put cells on."""

    def __init__(self, cell: tuple[int, int], legends: Legends, font: Font, text_px: int) -> None:
        self.cell, self.font, self.line_px = cell, font, round(text_px * 1.25)
        has_rows, has_columns = any(legends.rows), any(legends.columns)
        row_width = min(max(cell[0], 6 * text_px), 20 * text_px) if has_rows else 0
        in_rows = max(1, min(_MOST_LINES, cell[1] // self.line_px))
        rows = [wrapped(text, font, row_width - 2 * _GAP_PX, in_rows) if row_width else [] for text in legends.rows]
        widest = max((font.getlength(line) for lines in rows for line in lines), default=0)
        self.left = round(widest) + 2 * _GAP_PX if has_rows else 0
        columns = [wrapped(text, font, cell[0], _MOST_LINES) if has_columns else [] for text in legends.columns]
        width = max(self.left + len(columns) * (cell[0] + _GAP_PX) + _GAP_PX, 4 * text_px)
        title = wrapped(legends.title, font, width - 2 * _GAP_PX, _MOST_LINES) if legends.title else []
        title_px = len(title) * self.line_px + (_GAP_PX if title else 0)
        deepest = max((len(lines) for lines in columns), default=0)
        self.top = title_px + deepest * self.line_px + _GAP_PX
        height = self.top + len(rows) * (cell[1] + _GAP_PX) + _GAP_PX
        self.picture = Image.new("RGB", (width, height), BACKGROUND)
        self.pen = ImageDraw.Draw(self.picture)
        self._write(title, (_GAP_PX, _GAP_PX, width - 2 * _GAP_PX, title_px))
        for column, lines in enumerate(columns):
            self._write(lines, (self._x(column), title_px, cell[0], self.top - title_px), is_centred=True)
        for row, lines in enumerate(rows):
            self._write(lines, (_GAP_PX, self._y(row), self.left - 2 * _GAP_PX, cell[1]), is_centred=True)

    def put(self, column: int, row: int, item: Item) -> None:
        """Show a picture in the middle of its cell, or a text in its place."""
        box = (self._x(column), self._y(row), *self.cell)
        if isinstance(item, Path):
            try:
                with Image.open(item) as picture:
                    shown = _fitted(picture.convert("RGB"), self.cell)
                place = box[0] + (self.cell[0] - shown.width) // 2, box[1] + (self.cell[1] - shown.height) // 2
                self.picture.paste(shown, place)
                return
            except (OSError, ValueError) as error:
                item = f"{item.name} cannot be read ({error})."
        self.pen.rectangle((box[0], box[1], box[0] + box[2] - 1, box[1] + box[3] - 1), fill=QUIET)
        most = max(1, box[3] // self.line_px)
        inner = (box[0] + _GAP_PX, box[1], box[2] - 2 * _GAP_PX, box[3])
        ink = INK if item == NOT_DRAWN else FAULT
        self._write(wrapped(item, self.font, max(1, inner[2]), most), inner, is_centred=True, ink=ink)

    def _write(
        self,
        lines: Sequence[str],
        box: tuple[int, int, int, int],
        is_centred: bool = False,
        ink: tuple[int, int, int] = INK,
    ) -> None:
        x, y, width, height = box
        y += (height - len(lines) * self.line_px) // 2 if is_centred else 0
        for number, line in enumerate(lines):
            shift = (width - self.font.getlength(line)) / 2 if is_centred else 0
            self.pen.text((x + shift, y + number * self.line_px), line, fill=ink, font=self.font)

    def _x(self, column: int) -> int:
        return self.left + _GAP_PX + column * (self.cell[0] + _GAP_PX)

    def _y(self, row: int) -> int:
        return self.top + row * (self.cell[1] + _GAP_PX)


def _fitted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """As large as fits into the cell, never larger than it is."""
    scale = min(cell[0] / picture.width, cell[1] / picture.height, 1.0)
    if scale == 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)
