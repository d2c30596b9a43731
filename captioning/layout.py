"""What a folder of pictures is: any layout is recognised and told before anything is done. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from captioning.dataset_toml import find_dataset
from captioning.layout_captions import CaptionFinder
from captioning.metadata_json import find_metadata
from captioning.name_patterns import class_word
from captioning.picture_files import listings_of
from engine.data.folders import Listing, list_folders, repeats_and_name, stem_and_suffix
from engine.data.index import IndexedFolder, read_index
from engine.errors import DatasetError, Problem, UserError
from engine.tools.tool import counted, names_of

Shape = Literal["training folder", "one subset", "deeper", "flat", "classes", "mixed", "data set", "metadata"]
_REGULARIZATION = frozenset(("reg", "regularization", "regularisation", "reg_images", "class_images"))
_SD_SCRIPTS_EXTENSION = ".caption"  # where a data set tells none
_MASKS = frozenset(("mask", "masks", "conditioning", "alpha_masks"))
_SHAPES: dict[Shape, str] = {
    "training folder": "a training folder: {folders} named like 10_name",
    "one subset": "one subset: its name tells the repeats",
    "deeper": "a folder above a training folder: {folders} named like 10_name lie deeper, in {where}",
    "flat": "a flat folder: images without repeats",
    "classes": "a tree of classes: {folders} without repeats",
    "mixed": "a mixed folder: some of {folders} are named like 10_name, others are not",
    "data set": "an sd-scripts data set ({where}) of {folders}",
    "metadata": "images with a metadata file ({where})",
}


@dataclass(frozen=True)
class Picture:
    """An image and its caption: a file beside it or elsewhere, a text of a metadata file, or neither."""

    image: Path
    caption: Path | None = None
    text: str | None = None

    @property
    def has_caption(self) -> bool:
        return self.caption is not None or self.text is not None


@dataclass(frozen=True)
class Subset:
    """Images of one folder. `repeats` is None where nothing tells it; `name` is the path below the chosen folder.

    `told`: what a data set tells of it besides, by sd-scripts' keys.
    """

    name: str
    folder: Path
    repeats: int | None
    class_word: str
    pictures: tuple[Picture, ...]
    is_regularization: bool = False
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Layout:
    """`sentence`: what was recognised, in words. `is_trainable`: Atelier can train `training_folder` as it is."""

    folder: Path
    shape: Shape
    sentence: str
    subsets: tuple[Subset, ...]
    extension: str
    is_trainable: bool
    training_folder: Path | None
    warnings: tuple[Problem, ...] = ()


def understand(folder: Path, captions_folder: Path | None = None) -> Layout:
    """Recognise the layout of a folder, of an sd-scripts data-set TOML, or of a kohya metadata JSON.

    captions_folder: a tree with the captions, laid out as the images are. Raises DatasetError or UserError where
    nothing is there to recognise.
    """
    if folder.is_file():
        return _of_file(folder)
    root, listings, unlisted = listings_of(str(folder))
    dataset, doubts = find_dataset(root)
    if dataset is not None and captions_folder is None:
        return _of_dataset(dataset, doubts)
    images = [listing for listing in listings if listing.images]
    listings, masks = _without_masks(images)
    finder = CaptionFinder(root, listings, captions_folder)
    metadata, doubts = find_metadata(root, listings)
    subsets = tuple(_subset(listing, root, finder, metadata.texts if metadata else {}) for listing in listings)
    shape = _shape(subsets, root)
    if metadata and any(picture.text for subset in subsets for picture in subset.pictures):
        shape = "metadata" if shape == "flat" else shape
    where = metadata.path.name if metadata else _parents(subsets, root)
    return _layout(root, shape, subsets, where, (*unlisted, *masks, *doubts))


def _of_file(path: Path) -> Layout:
    if path.suffix.lower() == ".toml":
        return _of_dataset(path, [])
    if path.suffix.lower() == ".json":
        root, listings, unlisted = listings_of(str(path.parent))
        metadata, _ = find_metadata(root, listings, path)
        texts = metadata.texts if metadata else {}
        finder = CaptionFinder(root, listings, None)
        subsets = tuple(_subset(listing, root, finder, texts, True) for listing in listings if listing.images)
        return _layout(root, "metadata", subsets, path.name, unlisted)
    what = f"is a file, not a folder (got {path}). Choose a folder of images, a data-set TOML or a metadata JSON."
    raise DatasetError(what, "folder")


def _of_dataset(path: Path, doubts: Sequence[Problem]) -> Layout:
    found = [_dataset_subset(entry, path.parent) for entry in read_index(path)]
    subsets = tuple(subset for subset in found if isinstance(subset, Subset))
    faults = [subset for subset in found if isinstance(subset, Problem)]
    if not subsets:
        raise DatasetError("; ".join(map(str, faults)) or "names no folder with images.", str(path))
    return _layout(path.parent.resolve(), "data set", subsets, path.name, (*doubts, *faults))


def _dataset_subset(entry: IndexedFolder, base: Path) -> Subset | Problem:
    folder = base / entry.image_dir
    if not folder.is_dir():
        return Problem(str(folder), "is named in the data set, but is not there. Correct the path.")
    listing = next((found for found in list_folders(folder)[0] if found.name == "" and found.images), None)
    if listing is None:
        return Problem(str(folder), "is named in the data set, but holds no images.")
    finder = CaptionFinder(folder, [listing], None, entry.caption_extension or _SD_SCRIPTS_EXTENSION)
    texts: dict[Path, str] = {}
    if entry.metadata_file:
        metadata, _ = find_metadata(folder, [listing], base / entry.metadata_file)
        texts = metadata.texts if metadata else {}
    subset = _subset(listing, folder, finder, texts, bool(entry.metadata_file))
    name = folder.name
    word = entry.class_tokens or (class_word(name) if repeats_and_name(name) else "")
    told = {"repeats": entry.repeats, "class_word": word, "is_regularization": entry.is_regularization}
    return replace(subset, name=name, told=entry.told, **told)


def _subset(
    listing: Listing, root: Path, finder: CaptionFinder, texts: dict[Path, str], are_chosen: bool = False
) -> Subset:
    """The images of a folder. Texts of a metadata file that was chosen go before caption files; of one that lies there,
    behind them."""
    name = listing.name or root.name
    parts = name.split("/")
    meaning = repeats_and_name(parts[-1])
    own = [part for part in parts if part.lower() not in _REGULARIZATION]
    word = meaning[1] if meaning else " ".join(class_word(part) for part in own)
    pictures = []
    for image in listing.images:
        path = listing.folder / image
        caption, text = finder.find(listing, stem_and_suffix(image)[0]), texts.get(path)
        if caption and text:
            caption, text = (None, text) if are_chosen else (caption, None)
        pictures.append(Picture(path, caption, text))
    is_regularization = any(part.lower() in _REGULARIZATION for part in listing.name.split("/"))
    return Subset(name, listing.folder, meaning[0] if meaning else None, word, tuple(pictures), is_regularization)


def _without_masks(listings: list[Listing]) -> tuple[list[Listing], list[Problem]]:
    """Folders called masks, whose pictures are all called like others, are no pictures to train."""
    masks = [item for item in listings if {part.lower() for part in item.name.split("/")} & _MASKS]
    rest = [item for item in listings if item not in masks]
    stems = {stem_and_suffix(name)[0] for item in rest for name in item.images}
    masks = [item for item in masks if all(stem_and_suffix(name)[0] in stems for name in item.images)]
    told = [
        Problem(str(item.folder), "holds masks, which are left where they are (loss.mask_folder).") for item in masks
    ]
    return [item for item in listings if item not in masks], told


def _shape(subsets: Sequence[Subset], root: Path) -> Shape:
    told = [subset.repeats is not None for subset in subsets]
    if len(subsets) == 1 and subsets[0].folder == root:
        return "one subset" if told[0] else "flat"
    if all(told):
        return "training folder" if all(subset.folder.parent == root for subset in subsets) else "deeper"
    return "mixed" if any(told) else "classes"


def _parents(subsets: Sequence[Subset], root: Path) -> str:
    parents = sorted({str(subset.folder.parent.relative_to(root)) for subset in subsets if subset.folder != root})
    return names_of(parents, 3)


def _layout(root: Path, shape: Shape, subsets: Sequence[Subset], where: str, warnings: Sequence[Problem]) -> Layout:
    if not subsets:
        raise UserError("holds no images to train. Choose the folder that they are in.", str(root))
    pictures = [picture for subset in subsets for picture in subset.pictures]
    files = [picture.caption for picture in pictures if picture.caption]
    suffixes = sorted(
        {path.suffix for path in files}, key=lambda suffix: (-sum(p.suffix == suffix for p in files), suffix)
    )
    aside = [path for picture in pictures if (path := picture.caption) and path.parent != picture.image.parent]
    texts = sum(picture.text is not None for picture in pictures)
    folder_text = _SHAPES[shape].format(folders=counted(len(subsets), "folder"), where=where)
    captions = _caption_words(len(files), suffixes, sorted({str(path.parent) for path in aside}), texts, len(pictures))
    plain = shape in ("training folder", "one subset", "deeper") and not any(s.is_regularization for s in subsets)
    is_trainable = plain and not aside and not texts and len(suffixes) <= 1
    extension = suffixes[0] if suffixes else ""
    setting = f" with captions.extension set to {extension}" if extension not in ("", ".txt") else ""
    verdict = (
        f"Atelier can train it as it is{setting}."
        if is_trainable
        else "To train it, arrange it: images stay where they are."
    )
    sentence = f"This is {folder_text}; {counted(len(pictures), 'image')}, {captions}. {verdict}"
    return Layout(
        root, shape, sentence, tuple(subsets), extension, is_trainable, root if is_trainable else None, tuple(warnings)
    )


def _caption_words(files: int, suffixes: list[str], aside: list[str], texts: int, images: int) -> str:
    if not files and not texts:
        return "no captions"
    found = []
    if files:
        place = f"in {names_of([Path(path).name for path in aside], 3)}" if aside else "beside them"
        found.append(f"{files:,} with captions ({', '.join(suffixes)}) {place}")
    if texts:
        found.append(f"{texts:,} with captions in the metadata file")
    lacking = images - files - texts
    return ", ".join(found) + (f", {lacking:,} without" if lacking else "")
