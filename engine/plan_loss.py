"""What the loss needs to know before the start: weights and masks of the images, weightings that fit the model.

Torch-free.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence

from engine.data.headers import read_image_header
from engine.data.masks import MaskIndex, has_alpha
from engine.errors import DatasetError, Problem
from engine.plan_images import ImagePlan, is_within
from engine.plan_model import model_kind
from engine.preset import Preset, resolve
from engine.rules.noise import weighting_faults
from engine.sdxl.detect import ModelFacts

_NAMED_AT_MOST = 5
Images = tuple[ImagePlan, ...]


def weighting_problems(preset: Preset, model: ModelFacts | None) -> list[Problem]:
    """Weightings that this model's kind of prediction cannot have."""
    return [] if model is None else list(weighting_faults(preset, *model_kind(preset, model)))


def with_weights_and_masks(preset: Preset, images: Images, problems: list[Problem], warnings: list[Problem]) -> Images:
    """The images with what each counts and where its mask lies."""
    images = _weighted(preset.loss.image_weights, images, problems)
    if preset.loss.mask == "alpha":
        return _with_alpha(images, warnings)
    if preset.loss.mask == "folder" and preset.loss.mask_folder:
        return _with_masks(preset, images, problems, warnings)
    return images


def parse_weights(text: str) -> dict[str, float]:
    """Name → weight of lines like "10_cat/blurry.png: 0.5". Raises ValueError with a sentence."""
    found: dict[str, float] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, colon, number = line.rpartition(":")
        name = name.strip().strip("/").replace("\\", "/")
        try:
            weight = float(number) if colon and name else math.nan
        except ValueError:
            weight = math.nan
        if not 0 <= weight <= 100:
            raise ValueError(f"needs a name and a weight from 0 to 100 (got {line!r}). Write it like 10_cat: 0.5.")
        if name in found:
            raise ValueError(f"names {name} twice (got {found[name]:g} and {weight:g}). Keep one of the lines.")
        found[name] = weight
    return found


def _weighted(text: str, images: Images, problems: list[Problem]) -> Images:
    """Images of the training folder with their weights: of the image itself, else of its sub-folder, else 1."""
    where = "loss.image_weights"
    try:
        weights = parse_weights(text)
    except ValueError as error:
        problems.append(Problem(where, str(error)))
        return images
    if not weights or not images:
        return images
    trained = [image for image in images if not image.is_regularization]
    known = {image.subset for image in trained} | {_name(image) for image in trained}
    unknown = [name for name in weights if name not in known]
    for name in unknown:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else "Write it like 10_cat or 10_cat/photo.png."
        problems.append(Problem(where, f"no sub-folder or image has this name (got {name}). {hint}"))
    weighted = tuple(
        image
        if image.is_regularization
        else dataclasses.replace(image, weight=weights.get(_name(image), weights.get(image.subset, 1.0)))
        for image in images
    )
    if not any(image.weight for image in weighted if not image.is_regularization):
        problems.append(Problem(where, "all images count 0, so nothing would be trained. Give some a weight above 0."))
    return weighted


def _name(image: ImagePlan) -> str:
    return f"{image.subset}/{image.path.name}"


def _with_alpha(images: Images, warnings: list[Problem]) -> Images:
    masked = tuple(
        dataclasses.replace(image, mask=image.path if image.repeats and has_alpha(image.path) else None)
        for image in images
    )
    _warn_of_missing(masked, "loss.mask", "no transparency", warnings)
    return masked


def _with_masks(preset: Preset, images: Images, problems: list[Problem], warnings: list[Problem]) -> Images:
    """Training images with the masks of their names; regularization images count whole."""
    folder, where = resolve(preset.loss.mask_folder), "loss.mask_folder"
    if not folder.is_dir():
        problems.append(Problem(where, f"there is no such folder (got {folder}). Check the path."))
        return images
    if preset.data.folder and is_within(preset.loss.mask_folder, preset.data.folder):
        what = "lies in the training folder or around it, so masks could be trained as pictures. Move one of the two."
        problems.append(Problem(where, what))
        return images
    index = MaskIndex(folder)
    masked: list[ImagePlan] = []
    stretched: list[str] = []
    for image in images:
        mask = None
        if not image.is_regularization:
            try:
                mask = index.find(image.subset, image.path)
                if mask and not _has_proportions(read_image_header(mask).size_px, image.size_px):
                    stretched.append(image.path.name)
            except DatasetError as error:
                problems += error.problems
        masked.append(dataclasses.replace(image, mask=mask))
    if masked and not problems and not any(image.mask for image in masked):
        what = f"holds no mask: none of its pictures has an image's name (got {folder}). Name masks as the images."
        problems.append(Problem(where, what))
    elif not problems:
        _warn_of_missing(masked, where, "no mask", warnings)
    if stretched:
        what = f"{_count(stretched)} a mask of other proportions, which is stretched: {_some(stretched)}."
        warnings.append(Problem(where, what))
    return tuple(masked)


def _has_proportions(mask_px: tuple[int, int], image_px: tuple[int, int]) -> bool:
    """Whether a mask is its image made larger or smaller, to a pixel."""
    across, down = mask_px[0] * image_px[1], mask_px[1] * image_px[0]
    return abs(across - down) <= max(*mask_px, *image_px)


def _warn_of_missing(images: Sequence[ImagePlan], where: str, lacking: str, warnings: list[Problem]) -> None:
    trained = [image for image in images if not image.is_regularization]
    missing = [image.path.name for image in trained if image.mask is None]
    if missing:
        what = f"{len(missing)} of {_count(trained, lacking)} and count whole: {_some(missing)}."
        warnings.append(Problem(where, what))


def _count(things: Sequence[object], lacking: str = "") -> str:
    words = "1 image has" if len(things) == 1 else f"{len(things)} images have"
    return f"{words} {lacking}".strip()


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    return shown if len(names) <= _NAMED_AT_MOST else f"{shown} and {len(names) - _NAMED_AT_MOST} more"
