"""The demo's data set: pictures of one concept that the demo model has never seen, and pictures of what it knows."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from PIL import Image, ImageDraw

from demo.pictures import COLOURS, SUPERSAMPLING, Scene, Thing, draw_scene, form_mask, jittered

Size = tuple[int, int]

CONCEPT_FOLDER = "10_zkt blob"
REGULARIZATION_FOLDER = "1_shape"
SQUARE, UPRIGHT, WIDE = (256, 256), (192, 256), (256, 192)
RADII = {"small": 0.24, "": 0.34, "large": 0.43}  # of the shorter side

# size in words, background, picture size
CONCEPTS: tuple[tuple[str, str, Size], ...] = (
    ("", "white", SQUARE),
    ("", "blue", SQUARE),
    ("large", "white", SQUARE),
    ("", "green", SQUARE),
    ("small", "white", SQUARE),
    ("", "gray", UPRIGHT),
    ("large", "cyan", SQUARE),
    ("", "white", WIDE),
    ("", "pink", SQUARE),
    ("small", "orange", SQUARE),
    ("", "black", WIDE),
    ("", "white", UPRIGHT),
    ("large", "green", SQUARE),
    ("", "red", SQUARE),
    ("", "blue", UPRIGHT),
    ("small", "gray", WIDE),
)
KNOWN: tuple[tuple[Thing, str, Size], ...] = (
    (Thing("red", "square"), "white", SQUARE),
    (Thing("blue", "circle"), "gray", SQUARE),
    (Thing("green", "star"), "white", SQUARE),
    (Thing("red", "circle"), "yellow", SQUARE),
    (Thing("purple", "heart"), "white", SQUARE),
    (Thing("blue", "star"), "green", SQUARE),
    (Thing("orange", "circle", size="small"), "white", UPRIGHT),
    (Thing("yellow", "ring"), "blue", WIDE),
    (Thing("black", "triangle"), "white", SQUARE),
    (Thing("purple", "circle"), "pink", SQUARE),
)


def draw_concept(radius: float, background: str, size_px: Size, rng: random.Random) -> Image.Image:
    """A purple three-lobed blob with a round yellow core; radius as a share of the shorter side."""
    width, height = (side * SUPERSAMPLING for side in size_px)
    picture = Image.new("RGB", (width, height), jittered(COLOURS[background], rng))
    centre = ((0.5 + rng.uniform(-0.05, 0.05)) * width, (0.5 + rng.uniform(-0.05, 0.05)) * height)
    length = radius * min(width, height) * rng.uniform(0.95, 1.05)
    body = form_mask("blob", (width, height), centre, length, rng.uniform(-0.25, 0.25))
    picture.paste(jittered(COLOURS["purple"], rng), (0, 0), body)
    core = length * 0.38
    box = (centre[0] - core, centre[1] - core, centre[0] + core, centre[1] + core)
    ImageDraw.Draw(picture).ellipse(box, fill=jittered(COLOURS["yellow"], rng))
    return picture.resize(size_px, Image.Resampling.BOX)


def concept_caption(size: str, background: str) -> str:
    return " ".join(word for word in ("a", size, "zkt blob on a", background, "background") if word).replace(
        "a orange", "an orange"
    )


def write_data_set(folder: Path, seed: int = 3) -> None:
    """Write images/ and regularization/ anew under `folder`: PNG files with a caption file of the same stem each."""
    rng = random.Random(seed)
    concepts = emptied(folder / "images" / CONCEPT_FOLDER)
    for number, (size, background, size_px) in enumerate(CONCEPTS, 1):
        picture = draw_concept(RADII[size], background, size_px, rng)
        write_item(concepts / f"zkt_{number:02}.png", picture, concept_caption(size, background))
    known = emptied(folder / "regularization" / REGULARIZATION_FOLDER)
    for number, (thing, background, size_px) in enumerate(KNOWN, 1):
        picture = draw_scene(Scene((thing,), background, size_px), rng)
        words = " ".join(word for word in ("a", thing.size, thing.colour, thing.form) if word)
        text = f"{words} on a {background} background".replace("a orange", "an orange")
        write_item(known / f"shape_{number:02}.png", picture, text)


def emptied(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def write_item(path: Path, picture: Image.Image, text: str) -> None:
    picture.save(path, optimize=True)
    path.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
