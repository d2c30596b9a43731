"""Synthetic pictures of coloured forms: the world that the demo model was trained on.

A :class:`Scene` says what is shown; :func:`draw_scene` paints it. Everything random comes from the
``random.Random`` that the caller passes, so a picture is a function of its seed. Sizes are (width, height) in pixels.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (50, 165, 70),
    "blue": (45, 85, 220),
    "yellow": (245, 215, 50),
    "orange": (245, 140, 30),
    "purple": (140, 60, 180),
    "pink": (250, 150, 190),
    "brown": (125, 80, 45),
    "black": (25, 25, 25),
    "white": (248, 248, 248),
    "gray": (135, 135, 135),
    "cyan": (70, 205, 215),
}
FORMS = ("circle", "square", "triangle", "star", "diamond", "heart", "ring", "cross")
TEXTURES = ("", "striped", "dotted", "checkered")
RADII = {"small": 0.20, "": 0.30, "large": 0.40}  # of the shorter side
PLACES = {"": (0.5, 0.5), "left": (0.28, 0.5), "right": (0.72, 0.5), "top": (0.5, 0.28), "bottom": (0.5, 0.72)}
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Thing:
    """One form: what the caption can say of it, and where it lies."""

    colour: str
    form: str
    texture: str = ""
    size: str = ""
    place: str = ""


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    background: str
    size_px: tuple[int, int] = (128, 128)


def second_colour(colour: Rgb) -> Rgb:
    """The other colour of a texture: lighter for dark colours, darker for light ones."""
    if sum(colour) / 3 < 160:
        return (lighter(colour[0]), lighter(colour[1]), lighter(colour[2]))
    return (colour[0] * 35 // 100, colour[1] * 35 // 100, colour[2] * 35 // 100)


def lighter(channel: int) -> int:
    return channel + (255 - channel) * 3 // 4


def distance(one: Rgb, two: Rgb) -> float:
    return math.dist(one, two)


def texture_is_visible(colour: str, background: str) -> bool:
    """False where a texture's second colour would vanish in the background."""
    return distance(second_colour(COLOURS[colour]), COLOURS[background]) > 70


def outline(form: str) -> list[list[Point]]:
    """Polygons of a form in units of its radius, y downwards; the second polygon of a ring is its hole."""
    turn = 2 * math.pi
    if form == "circle":
        return [arc(1.0)]
    if form == "ring":
        return [arc(1.0), arc(0.52)]
    if form == "square":
        return [[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]]
    if form == "triangle":
        return [[(0, -1), (0.98, 0.8), (-0.98, 0.8)]]
    if form == "diamond":
        return [[(0, -1.12), (0.72, 0), (0, 1.12), (-0.72, 0)]]
    if form == "star":
        radii = (1.12, 0.45)
        return [[(radii[i % 2] * math.sin(i * turn / 10), -radii[i % 2] * math.cos(i * turn / 10)) for i in range(10)]]
    if form == "cross":
        arm = [(-0.34, -0.34), (-0.34, -1.0), (0.34, -1.0)]  # upwards; the other three are quarter turns of it
        quarters = [arm, [(-y, x) for x, y in arm], [(-x, -y) for x, y in arm], [(y, -x) for x, y in arm]]
        return [[point for quarter in quarters for point in quarter]]
    if form == "heart":
        return [[heart_point(i * turn / 60) for i in range(60)]]
    if form == "blob":
        return [[blob_point(i * turn / 90) for i in range(90)]]
    raise KeyError(form)


def arc(radius: float) -> list[Point]:
    return [(radius * math.sin(i * math.pi / 36), -radius * math.cos(i * math.pi / 36)) for i in range(72)]


def heart_point(t: float) -> Point:
    y = 0.85 * math.cos(t) - 0.34 * math.cos(2 * t) - 0.13 * math.cos(3 * t) - 0.07 * math.cos(4 * t)
    return (1.05 * math.sin(t) ** 3, -y)


def blob_point(t: float) -> Point:
    """The new concept's form: three round lobes, one of them upright."""
    radius = 0.74 + 0.38 * math.cos(3 * t)
    return (radius * math.sin(t), -radius * math.cos(t))


def form_mask(form: str, size_px: tuple[int, int], centre: Point, radius: float, turn: float = 0.0) -> Image.Image:
    """Mask (0 or 255) of a form; centre and radius in pixels, turn in radians."""
    mask = Image.new("L", size_px, 0)
    pen = ImageDraw.Draw(mask)
    cos, sin = math.cos(turn), math.sin(turn)
    for fill, polygon in zip((255, 0), outline(form), strict=False):
        pen.polygon(
            [(centre[0] + radius * (x * cos - y * sin), centre[1] + radius * (x * sin + y * cos)) for x, y in polygon],
            fill=fill,
        )
    return mask


def textured(texture: str, colour: Rgb, size_px: tuple[int, int], period: int, rng: random.Random) -> Image.Image:
    """A picture filled with the colour and, for a texture, its second colour."""
    width, height = size_px
    picture = Image.new("RGB", size_px, colour)
    if not texture:
        return picture
    pen, other, shift = ImageDraw.Draw(picture), second_colour(colour), rng.randrange(period)
    if texture == "striped":
        thick, slant = period // 2, height // 2
        for x in range(shift - height, width + height, period):
            pen.polygon([(x, 0), (x + thick, 0), (x + thick + slant, height), (x + slant, height)], fill=other)
    elif texture == "dotted":
        for row, y in enumerate(range(shift - period, height + period, period)):
            for x in range((row % 2) * period // 2 - period, width + period, period):
                r = period * 0.29
                pen.ellipse([x - r, y - r, x + r, y + r], fill=other)
    else:
        for row, y in enumerate(range(shift - period, height + period, period)):
            for x in range(shift - 2 * period + (row % 2) * period, width + period, 2 * period):
                pen.rectangle([x, y, x + period - 1, y + period - 1], fill=other)
    return picture


def jittered(colour: Rgb, rng: random.Random) -> Rgb:
    r, g, b = (max(0, min(255, channel + rng.randint(-8, 8))) for channel in colour)
    return (r, g, b)


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """Paint a scene, with small random deviations of colour, place, size and turn."""
    width, height = (side * SUPERSAMPLING for side in scene.size_px)
    side = min(width, height)
    picture = Image.new("RGB", (width, height), jittered(COLOURS[scene.background], rng))
    for thing in scene.things:
        across, down = PLACES[thing.place]
        centre = ((across + rng.uniform(-0.03, 0.03)) * width, (down + rng.uniform(-0.03, 0.03)) * height)
        radius = RADII[thing.size] * side * rng.uniform(0.93, 1.07)
        if thing.place:
            radius = min(radius, side * (0.22 if len(scene.things) > 1 else 0.28))
        mask = form_mask(thing.form, (width, height), centre, radius, rng.uniform(-0.12, 0.12))
        period = max(6, round(side / 9))
        fill = textured(thing.texture, jittered(COLOURS[thing.colour], rng), (width, height), period, rng)
        picture.paste(fill, (0, 0), mask)
    return picture.resize(scene.size_px, Image.Resampling.BOX)


def draw_anything(size_px: tuple[int, int], rng: random.Random) -> Image.Image:
    """Smooth random patches in random colours: what only the VAE is trained on, so that it can show new concepts."""
    width, height = (side * SUPERSAMPLING for side in size_px)
    colours = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(6)]
    picture = Image.new("RGB", (width, height), colours[0])
    pen = ImageDraw.Draw(picture)
    for i in range(rng.randint(1, 5)):
        lobes, depth, start = rng.randint(2, 7), rng.uniform(0, 0.4), rng.uniform(0, 6)
        radius, x, y = rng.uniform(0.08, 0.4) * width, rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
        points = []
        for step in range(80):
            t = step * math.pi / 40
            r = radius * (1 - depth + depth * math.cos(lobes * t + start))
            points.append((x + r * math.sin(t), y + r * math.cos(t)))
        pen.polygon(points, fill=rng.choice(colours[1:]) if i else colours[1])
    return picture.resize(size_px, Image.Resampling.BOX)
