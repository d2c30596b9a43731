"""The images of a plan: both folders scanned, every image placed into its bucket. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data import buckets, order
from engine.data.held_out import held_out
from engine.data.index import is_index, regularization_in
from engine.data.scan import CaptionReading, Item, Scan, Subset, scan
from engine.errors import DatasetError, Problem
from engine.preset import Preset, resolve
from engine.rules.data import bucket_rules
from engine.subset_settings import Own, preset_of, told_settings

Scanning = Callable[..., Scan]  # as `scan` is; the page has one that remembers


@dataclass(frozen=True)
class SubsetPlan:
    """One folder of pictures. `images` are those that are trained, `held_out` those kept for validation."""

    name: str
    folder: Path
    repeats: int
    images: int
    captioned: int
    is_regularization: bool
    held_out: int = 0


@dataclass(frozen=True)
class ImagePlan:
    """One image and its way to its bucket. `repeats` is how often an epoch draws it (0: surplus regularization).

    `weight` is what it counts in the loss beside others; `mask` the file of its mask, if it has one.
    Captions are as they were read; `second_caption` None: both text encoders read `caption`. `own`: settings that its
    folder has for itself, where they differ from the preset's.
    """

    path: Path
    subset: str
    caption: str
    size_px: tuple[int, int]
    bucket_px: tuple[int, int]
    resized_px: tuple[int, int]
    crop_left_top_px: tuple[int, int]
    repeats: int
    is_regularization: bool
    weight: float = 1.0
    mask: Path | None = None
    second_caption: str | None = None
    own: Own = ()

    def value(self, preset: Preset, path: str) -> Any:
        """What "section.name" is for this image."""
        return dict(self.own).get(path, preset.get(path)) if self.own else preset.get(path)

    @property
    def key(self) -> str:
        """What the image is called in random draws: its place below the training folder, wherever that lies."""
        return f"{'regularization' if self.is_regularization else 'training'}/{self.subset}/{self.path.name}"

    @property
    def placement(self) -> buckets.Placement:
        return buckets.Placement(self.bucket_px, self.resized_px, self.crop_left_top_px)


@dataclass(frozen=True)
class Pictures:
    """What lies in the folders of a preset: subsets, pictures to train, and pictures to measure on.

    `scans`: what was found in the training folder and, if there is one, the regularization folder.
    """

    subsets: tuple[SubsetPlan, ...] = ()
    images: tuple[ImagePlan, ...] = ()
    validation: tuple[ImagePlan, ...] = ()
    scans: tuple[Scan, ...] = ()


def look_at_images(
    preset: Preset,
    without: frozenset[Path],
    problems: list[Problem],
    warnings: list[Problem],
    scanning: Scanning = scan,
) -> Pictures:
    """Scan the training, regularization and validation folders and place every image."""
    data = preset.data
    if not data.folder:
        problems.append(Problem("data.folder", "no training folder is given. Choose the folder that holds 10_name."))
        return Pictures()
    scans = [_scan(preset, data.folder, scanning)]
    if general := _regularization_folder(preset, problems, warnings):
        scans.append(_scan(preset, general, scanning, regularization=True))
    for found in scans:
        problems += found.problems
        warnings += found.warnings
        (problems if data.broken_images == "stop" else warnings).extend(found.broken)
    validation = preset.validation
    kept_out = held_out([item.path for _, item in _items(scans[0])], validation.share, validation.seed)
    placed = [
        _placed(found, folder, preset, without, (problems, warnings))
        for found, folder in zip(scans, (data.folder, general), strict=False)
    ]
    measured = [row for row in placed[0] if row[1].path in kept_out]
    placed[0] = [row for row in placed[0] if row[1].path not in kept_out]
    if validation.folder:
        measured = _validation_folder(preset, without, (problems, warnings), scanning)
    if kept_out and not placed[0]:
        what = f"holds out all {len(measured)} pictures, so none is left to train (got {validation.share:g}). Lower it."
        problems.append(Problem("validation.share", what))
    elif kept_out and not measured:
        what = "none of the held-out pictures can be read. Mend them, or choose another validation.seed."
        problems.append(Problem("validation.share", what))
    repeats = [[row[0].repeats for row in rows] for rows in placed]
    if len(placed) > 1:
        repeats[1] = list(order.regularization_repeats(sum(repeats[0]), repeats[1]))
    images = tuple(
        _image_plan(*row, repeats=count)
        for rows, counts in zip(placed, repeats, strict=True)
        for row, count in zip(rows, counts, strict=True)
    )
    if not images and not problems:
        problems.append(Problem("data.folder", "no image could be used; see the warnings. Mend or replace the images."))
    return Pictures(
        subsets=tuple(_subset_plan(subset, kept_out) for found in scans for subset in found.subsets),
        images=images,
        validation=tuple(_image_plan(*row, repeats=1) for row in measured),
        scans=tuple(scans),
    )


_Row = tuple[Subset, Item, buckets.Placement, Own]


def _regularization_folder(preset: Preset, problems: list[Problem], warnings: list[Problem]) -> str:
    """Where pictures of the general class are: in the folder chosen for them, or in the index that is trained."""
    training, chosen = preset.data.folder, preset.data.regularization_folder
    in_index = regularization_in(resolve(training))
    if not chosen or (chosen == training and is_index(resolve(training))):
        return training if in_index or chosen else ""
    if in_index:
        what = f"{in_index} folders of {resolve(training)} are regularization folders too, and these are not trained."
        warnings.append(Problem("data.regularization_folder", f"{what} Leave this empty to train them."))
    if is_within(chosen, training):
        what = "lies in the training folder, so its pictures would be trained as the subject too. Move one of the two."
        problems.append(Problem("data.regularization_folder", what))
        return ""
    return chosen


def _placed(
    found: Scan, folder: str, preset: Preset, without: frozenset[Path], told: tuple[list[Problem], list[Problem]]
) -> list[_Row]:
    """Every usable image in its bucket. What is wrong, or worth a look, is added to `told`: problems, warnings."""
    problems, warnings = told
    of_subsets = told_settings(preset, resolve(folder), found.subsets)
    problems += of_subsets.problems
    warnings += of_subsets.warnings
    rows: list[_Row] = []
    for subset, own in zip(found.subsets, of_subsets.own, strict=True):
        rules = bucket_rules(preset_of(preset, own))
        for item in subset.items:
            if item.path not in without and (placement := _place(item, rules, problems)):
                rows.append((subset, item, placement, own))
    return rows


def _validation_folder(
    preset: Preset, without: frozenset[Path], told: tuple[list[Problem], list[Problem]], scanning: Scanning
) -> list[_Row]:
    """The pictures of validation.folder, placed like those to train."""
    problems, warnings = told
    folder = preset.validation.folder
    for other in ("data.folder", "data.regularization_folder"):
        if preset.get(other) and is_within(folder, preset.get(other)):
            what = f"lies in {other} or holds it, so trained pictures would be measured too. Move one of the two."
            problems.append(Problem("validation.folder", what))
            return []
    found = _scan(preset, folder, scanning)
    # The scan calls its folder data.folder, whichever it is
    told_here = (problem.message if problem.where == "data.folder" else str(problem) for problem in found.problems)
    problems += [Problem("validation.folder", text) for text in told_here]
    warnings += found.warnings
    (problems if preset.data.broken_images == "stop" else warnings).extend(found.broken)
    rows = _placed(found, folder, preset, without, (problems, warnings))
    if not rows and not found.problems:
        problems.append(Problem("validation.folder", "no picture in it can be used. Mend or replace the pictures."))
    return rows


def is_within(folder: str, outer: str) -> bool:
    """Whether one of the folders is the other or lies in it."""
    first, second = resolve(folder), resolve(outer)
    return first.is_relative_to(second) or second.is_relative_to(first)


def _scan(preset: Preset, folder: str, scanning: Scanning, *, regularization: bool = False) -> Scan:
    captions = preset.captions
    reading = CaptionReading(captions.extension, captions.second_extension, all_lines=captions.lines != "first")
    return scanning(resolve(folder), reading, regularization=regularization)


def _items(found: Scan) -> list[tuple[Subset, Item]]:
    return [(subset, item) for subset in found.subsets for item in subset.items]


def _place(item: Item, rules: buckets.BucketRules, problems: list[Problem]) -> buckets.Placement | None:
    try:
        return buckets.place(item.size_px, rules)
    except DatasetError as error:
        problems += [Problem(str(item.path), problem.message) for problem in error.problems]
        return None


def _image_plan(subset: Subset, item: Item, placement: buckets.Placement, own: Own, repeats: int) -> ImagePlan:
    return ImagePlan(
        path=item.path,
        subset=subset.name,
        caption=item.caption,
        size_px=item.size_px,
        bucket_px=placement.bucket_px,
        resized_px=placement.resized_px,
        crop_left_top_px=placement.crop_left_top_px,
        repeats=repeats,
        is_regularization=subset.is_regularization,
        second_caption=item.second_caption,
        own=own,
    )


def _subset_plan(subset: Subset, kept_out: frozenset[Path]) -> SubsetPlan:
    trained = [item for item in subset.items if item.path not in kept_out]
    return SubsetPlan(
        name=subset.name,
        folder=subset.folder,
        repeats=subset.repeats,
        images=len(trained),
        captioned=sum(item.caption_path is not None for item in trained),
        is_regularization=subset.is_regularization,
        held_out=len(subset.items) - len(trained),
    )
