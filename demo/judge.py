"""Says what a picture shows: colour, form and background, by pixel statistics and mask matching. No network is asked.

The judge knows nothing of the prompt and nothing of the model; tests/test_demo.py proves it on painted pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.pictures import COLOURS, FORMS, form_mask, second_colour

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

UNKNOWN = "unknown"
BORDER_PX = 5
BACKGROUND_SHARE = 0.5  # of the border must have one colour
FOREGROUND_DISTANCE = 34.0  # RGB distance from the background's own tone
SMALLEST_SHARE = 0.01  # of the picture that a form covers
LEAST_OVERLAP = 0.80  # intersection over union with the best template; two melted forms stay below it
GRID = 44  # templates and normalised masks are GRID × GRID
EXTENT = 3.0  # the grid spans EXTENT × √area
CONCEPT_FORM = "blob"
CONCEPT_OVERLAP = 0.75  # less than of other forms, since body and core must also have their colours
CONCEPT_BODY, CONCEPT_CORE = "purple", "yellow"

_NAMES = tuple(COLOURS)
_PALETTE: Floats = np.array([*COLOURS.values(), *(second_colour(c) for c in COLOURS.values())], np.float32)


@dataclass(frozen=True)
class Verdict:
    """What a picture shows; "unknown" where nothing fits. overlap: intersection over union with the form's template."""

    colour: str
    form: str
    background: str
    overlap: float = 0.0


def judge_picture(picture: Image.Image) -> Verdict:
    """Colour and form of the largest thing in a picture, and the colour of its background."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    background, mask = separate(pixels)
    if mask is None:
        return Verdict(UNKNOWN, UNKNOWN, background)
    form, overlap = match_form(mask)
    return Verdict(main_colour(pixels, mask), form if overlap >= LEAST_OVERLAP else UNKNOWN, background, overlap)


def is_concept(picture: Image.Image) -> bool:
    """Whether a picture shows the data set's new concept: a purple three-lobed blob with a yellow core."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    _, mask = separate(pixels)
    if mask is None:
        return False
    form, overlap = match_form(mask)
    if form != CONCEPT_FORM or overlap < CONCEPT_OVERLAP:
        return False
    rows, columns = np.nonzero(mask)
    distances = np.hypot(*np.indices(mask.shape) - np.array([rows.mean(), columns.mean()])[:, None, None])
    unit = np.sqrt(mask.sum())
    core, body = mask & (distances < 0.15 * unit), mask & (distances > 0.35 * unit)
    yellow = (nearest(pixels[core]) == _NAMES.index(CONCEPT_CORE)).mean()
    purple = (nearest(pixels[body]) == _NAMES.index(CONCEPT_BODY)).mean()
    return bool(yellow > 0.6 and purple > 0.6)


def nearest(pixels: Floats, palette: Floats = _PALETTE) -> NDArray[np.intp]:
    """Index of the nearest colour of each pixel, [N, 3] → [N]: the named ones first, then their second colours."""
    return ((palette**2).sum(-1) - 2 * pixels @ palette.T).argmin(-1)


def separate(pixels: Floats) -> tuple[str, Mask | None]:
    """Name of the background's colour, and the mask [H, W] of the largest thing before it (None: there is none)."""
    edge = np.ones(pixels.shape[:2], bool)
    edge[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    border = pixels[edge]
    names = nearest(border, _PALETTE[: len(_NAMES)])
    counts = np.bincount(names, minlength=len(_NAMES))
    best = int(counts.argmax())
    if counts[best] < BACKGROUND_SHARE * len(border):
        return UNKNOWN, None
    tone = np.median(border[names == best], axis=0)
    mask = largest_part(closed(np.linalg.norm(pixels - tone, axis=-1) > FOREGROUND_DISTANCE))
    return _NAMES[best], mask if mask.mean() >= SMALLEST_SHARE else None


def neighbours(mask: NDArray, fill: int) -> NDArray:
    """A mask and its eight shifts by one pixel, stacked: [9, H, W]."""
    padded = np.pad(mask, 1, constant_values=fill)
    height, width = mask.shape
    return np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])


def closed(mask: Mask) -> Mask:
    """Gaps of up to two pixels filled (dilation, then erosion)."""
    grown: Mask = np.logical_or.reduce(neighbours(mask, 0))
    return np.logical_and.reduce(neighbours(grown, 1))


def largest_part(mask: Mask) -> Mask:
    """The largest connected part of a mask: numbers spread through it until none changes."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = np.where(mask, neighbours(labels, 0).max(0), 0)
        for axis in (0, 1):  # whole runs at once: the label of a run's start may travel its length
            spread = np.where(mask, run_maximum(spread, mask, axis), 0)
        if (spread == labels).all():
            break
        labels = spread
    counts = np.bincount(labels[mask], minlength=1)
    return labels == counts.argmax() if counts.any() else mask


def run_maximum(labels: NDArray, mask: Mask, axis: int) -> NDArray:
    """Largest label of each unbroken run along an axis."""
    labels, mask = np.moveaxis(labels, axis, -1), np.moveaxis(mask, axis, -1)
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(mask.shape) * mask
    best = np.zeros(runs.max() + 1, labels.dtype)
    np.maximum.at(best, runs.ravel(), labels.ravel())
    best[0] = 0
    return np.moveaxis(best[runs], -1, axis)


def main_colour(pixels: Floats, mask: Mask) -> str:
    """The named colour whose tone, alone or with its texture's second colour, covers most of the masked part."""
    inside: Mask = np.logical_and.reduce(neighbours(mask, 0))
    counts = np.bincount(nearest(pixels[inside if inside.any() else mask]), minlength=len(_PALETTE))
    plain, second = counts[: len(_NAMES)], counts[len(_NAMES) :]
    return _NAMES[int((plain + np.minimum(plain, second)).argmax())]


def match_form(mask: Mask) -> tuple[str, float]:
    """The form whose template overlaps best, over small turns, scales and shifts; with intersection over union."""
    names, templates = form_templates()
    shape = normalised(mask).ravel()
    shared = templates @ shape
    overlaps = shared / (templates.sum(1) + shape.sum() - shared)
    best = int(overlaps.argmax())
    return names[best], float(overlaps[best])


def normalised(mask: Mask, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Floats:
    """A mask moved to the middle and scaled to one area, on a GRID × GRID grid of 0 and 1; shift in grid cells."""
    rows, columns = np.nonzero(mask)
    side = EXTENT * float(np.sqrt(mask.sum())) * scale
    cell = side / GRID
    left = columns.mean() + 0.5 - side / 2 + shift[0] * cell
    top = rows.mean() + 0.5 - side / 2 + shift[1] * cell
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    flat = image.transform(
        (GRID * 3, GRID * 3),
        Image.Transform.AFFINE,
        (cell / 3, 0, left, 0, cell / 3, top),
        Image.Resampling.BILINEAR,
    )
    return (np.asarray(flat.resize((GRID, GRID), Image.Resampling.BOX)) > 127).astype(np.float32)


@cache
def form_templates() -> tuple[list[str], Floats]:
    """Names [T] and templates [T, GRID²] of every form, turned, scaled and shifted a little."""
    names, templates = [], []
    for form in (*FORMS, CONCEPT_FORM):
        for turn in (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3):
            drawn = np.asarray(form_mask(form, (200, 200), (100, 100), 60, turn)) > 127
            for scale in (0.92, 0.96, 1.0, 1.04, 1.08):
                for shift in ((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)):
                    names.append(form)
                    templates.append(normalised(drawn, scale, shift).ravel())
    return names, np.stack(templates)
