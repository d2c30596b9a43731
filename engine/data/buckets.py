"""Aspect-ratio buckets: which size an image is trained at, how it is resized and where it is cut.

Sizes are (width, height) in pixels. The arithmetic gives what sd-scripts gives (tests/reference/buckets.json), but
the cut that is reported is the cut that is made: conditions built from it describe the pixels that were trained.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

from engine.draws import draw_below, draw_fraction
from engine.errors import DatasetError, Problem

Size = tuple[int, int]

LATENT_PX = 8  # one latent cell covers 8 × 8 pixels, so every trained side is a multiple of it


@dataclass(frozen=True)
class BucketRules:
    """How buckets are made. `width_px` × `height_px` bounds the area; one single bucket of that size if not `enabled`.

    With `upscale` an image gets the bucket of the nearest aspect ratio and is enlarged when it is smaller; without,
    it keeps its size (or shrinks to the area) and its bucket is that size rounded down to whole steps, so that
    `min_px` and `max_px` play no part.
    """

    width_px: int = 1024
    height_px: int = 1024
    min_px: int = 256
    max_px: int = 2048
    step_px: int = 64
    upscale: bool = True
    enabled: bool = True

    def problems(self) -> tuple[Problem, ...]:
        """All faults at once; `where` is the setting's name. `place` may be called only when there are none."""
        sides = {"data.width_px": self.width_px, "data.height_px": self.height_px}
        small = [
            Problem(where, f"must be {LATENT_PX} at least (got {px}).") for where, px in sides.items() if px < LATENT_PX
        ]
        if small or not self.enabled:
            return tuple(small or _single_bucket_problems(sides))
        step = "data.bucket_step_px"
        if self.step_px < LATENT_PX or self.step_px % LATENT_PX:
            return (Problem(step, f"must be a multiple of {LATENT_PX} (got {self.step_px}). Use 64 or 32."),)
        if self.upscale:
            return tuple(self._range_problems())
        if self.width_px * self.height_px < self.step_px**2:
            return (Problem(step, f"is larger than the resolution (got {self.step_px}). Use a smaller step."),)
        return ()

    def _range_problems(self) -> list[Problem]:
        low, high = "data.bucket_min_px", "data.bucket_max_px"
        found = []
        for where, value in ((low, self.min_px), (high, self.max_px)):
            if value < self.step_px or value % self.step_px:
                nearest = max(1, round(value / self.step_px)) * self.step_px
                message = f"must be a multiple of the bucket step {self.step_px} (got {value}). Use {nearest}."
                found.append(Problem(where, message))
        if self.min_px > self.max_px:
            return [*found, Problem(low, f"is above the longest side {self.max_px} (got {self.min_px}). Lower it.")]
        short, long = sorted((self.width_px, self.height_px))
        if self.min_px > short:
            found.append(Problem(low, f"is above the resolution's side {short} (got {self.min_px}). Lower it."))
        if self.max_px < long:
            found.append(Problem(high, f"is below the resolution's side {long} (got {self.max_px}). Raise it."))
        return found


def _single_bucket_problems(sides: dict[str, int]) -> list[Problem]:
    need = f"must be a multiple of {LATENT_PX} when buckets are off"
    return [
        Problem(where, f"{need} (got {px}). Use {px // LATENT_PX * LATENT_PX}.")
        for where, px in sides.items()
        if px % LATENT_PX
    ]


@dataclass(frozen=True)
class Placement:
    """An image's way to its bucket: resized to `resized_px`, then `bucket_px` cut out at `crop_left_top_px`."""

    bucket_px: Size
    resized_px: Size
    crop_left_top_px: tuple[int, int]


@lru_cache(maxsize=64)
def bucket_sizes(rules: BucketRules) -> tuple[Size, ...]:
    """All buckets in ascending order; empty without upscaling, where each image brings its own bucket."""
    if not rules.enabled:
        return ((rules.width_px, rules.height_px),)
    if not rules.upscale:
        return ()
    area_px = rules.width_px * rules.height_px
    side_px = math.isqrt(area_px) // rules.step_px * rules.step_px
    sizes = {(side_px, side_px)}
    for width_px in range(rules.min_px, rules.max_px + 1, rules.step_px):
        height_px = min(rules.max_px, area_px // width_px // rules.step_px * rules.step_px)
        if height_px >= rules.min_px:
            sizes |= {(width_px, height_px), (height_px, width_px)}
    return tuple(sorted(sizes))


@lru_cache(maxsize=65536)
def place(size_px: Size, rules: BucketRules) -> Placement:
    """Bucket, resized size and centre cut of an image of `size_px`.

    Raises DatasetError, without the image's name, when the image is too small or too thin for any bucket.
    """
    width_px, height_px = size_px
    if width_px < 1 or height_px < 1:
        raise DatasetError(f"the image has no pixels (got {width_px} × {height_px} px). Leave it out.")
    if rules.enabled and not rules.upscale:
        bucket_px, resized_px = _own_bucket(size_px, rules)
    else:
        bucket_px, resized_px = _nearest_bucket(size_px, rules)
    return Placement(bucket_px, resized_px, _centre_crop(resized_px, bucket_px))


def _nearest_bucket(size_px: Size, rules: BucketRules) -> tuple[Size, Size]:
    """The bucket of the nearest aspect ratio (the first of equals), and the smallest size that covers it."""
    width_px, height_px = size_px
    aspect = width_px / height_px
    bucket_px = size_px if size_px in bucket_sizes(rules) else _nearest_aspect(aspect, rules)
    if aspect > bucket_px[0] / bucket_px[1]:
        scale = bucket_px[1] / height_px
    else:
        scale = bucket_px[0] / width_px
    return bucket_px, (_nearest(width_px * scale), _nearest(height_px * scale))


def _nearest_aspect(aspect: float, rules: BucketRules) -> Size:
    """The bucket whose aspect ratio is nearest; of equals the first in ascending order of sizes."""
    aspects, first_sizes = _by_aspect(rules)
    at = bisect_left(aspects, aspect)
    near = range(max(at - 1, 0), min(at + 1, len(aspects)))
    return min((abs(aspects[n] - aspect), first_sizes[n]) for n in near)[1]


@lru_cache(maxsize=64)
def _by_aspect(rules: BucketRules) -> tuple[tuple[float, ...], tuple[Size, ...]]:
    """The aspect ratios of all buckets in ascending order, and of each the first size that has it."""
    first: dict[float, Size] = {}
    for size in bucket_sizes(rules):
        first.setdefault(size[0] / size[1], size)
    aspects = tuple(sorted(first))
    return aspects, tuple(first[aspect] for aspect in aspects)


def _own_bucket(size_px: Size, rules: BucketRules) -> tuple[Size, Size]:
    """Without upscaling: the image's own size, shrunk to the area where it is larger, rounded down to whole steps."""
    width_px, height_px = size_px
    area_px, step_px = rules.width_px * rules.height_px, rules.step_px
    resized_px = size_px
    if width_px * height_px > area_px:
        resized_px = _shrink_to_area(width_px / height_px, area_px, step_px)
    bucket_px = (resized_px[0] // step_px * step_px, resized_px[1] // step_px * step_px)
    if not all(bucket_px):
        raise DatasetError(_too_thin(size_px, step_px))
    return bucket_px, resized_px


def _shrink_to_area(aspect: float, area_px: int, step_px: int) -> Size:
    """Of the two sizes with one side in whole steps, the one whose rounded aspect ratio is nearer; (0, 0) if none."""
    width = math.sqrt(area_px * aspect)
    height = area_px / width
    across_px = _whole_steps(width, step_px)
    down_px = _whole_steps(height, step_px)
    across_height_px = _whole_steps(across_px / aspect, step_px)
    down_width_px = _whole_steps(down_px * aspect, step_px)
    if not across_height_px or not down_px:
        return 0, 0
    if abs(across_px / across_height_px - aspect) < abs(down_width_px / down_px - aspect):
        return across_px, _nearest(across_px / aspect)
    return _nearest(down_px * aspect), down_px


def _too_thin(size_px: Size, step_px: int) -> str:
    return (
        f"the image is too small or too thin for a bucket (got {size_px[0]} × {size_px[1]} px; each side must keep at "
        f"least the bucket step of {step_px} px). Allow upscaling, lower the step, or leave the image out."
    )


def _nearest(value: float) -> int:
    return int(value + 0.5)


def _whole_steps(value: float, step_px: int) -> int:
    return _nearest(value) // step_px * step_px


def _centre_crop(resized_px: Size, bucket_px: Size) -> tuple[int, int]:
    return (resized_px[0] - bucket_px[0]) // 2, (resized_px[1] - bucket_px[1]) // 2


def random_crop(placement: Placement, seed: int, epoch: int, index: int) -> tuple[int, int]:
    """Left and top of a cut drawn evenly from all that fit: a function of seed, epoch and the image's index."""
    room_px = [resized - bucket for resized, bucket in zip(placement.resized_px, placement.bucket_px, strict=True)]
    left_px = draw_below(room_px[0] + 1, "crop left", seed, epoch, index)
    return left_px, draw_below(room_px[1] + 1, "crop top", seed, epoch, index)


def mirrored(placement: Placement, left_top_px: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a cut in the mirrored image: what was to the right of the cut is then to its left."""
    left_px, top_px = left_top_px
    return placement.resized_px[0] - placement.bucket_px[0] - left_px, top_px


def flip(seed: int, epoch: int, index: int) -> bool:
    """Whether the image is mirrored left to right: a function of seed, epoch and the image's index."""
    return draw_fraction("flip", seed, epoch, index) < 0.5
