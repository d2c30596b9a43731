"""sd-scripts' data-set configuration: [general], [[datasets]], [[datasets.subsets]].

The preset gets what is told of the first subset that is trained. Where other folders have something else of their own,
the file itself becomes the training folder, as an index, and is read for each folder (engine/subset_settings.py); what
a run has only once is told. Order of precedence as there: subset, data set, general.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.folders import repeats_and_name
from engine.data.index import SUFFIX
from engine.errors import UserError
from engine.kohya.receipt import Outcome
from engine.kohya.rules import outcome_of
from engine.kohya.values import ARGUMENTS, Unreadable, Values, clean, documented, same
from engine.subset_settings import OF_FOLDERS

# Key of the data set → argument of the same meaning
DATASET_ARGUMENTS: dict[str, str] = {
    "batch_size": "train_batch_size",
    **{
        name: name
        for name in (
            "resolution", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps",
            "bucket_no_upscale", "resize_interpolation", "validation_seed", "validation_split", "color_aug",
            "face_crop_aug_range", "flip_aug", "random_crop", "shuffle_caption", "keep_tokens",
            "keep_tokens_separator", "secondary_separator", "caption_separator", "enable_wildcard",
            "token_warmup_min", "token_warmup_step", "caption_prefix", "caption_suffix", "caption_extension",
            "cache_info", "caption_dropout_every_n_epochs", "caption_dropout_rate", "caption_tag_dropout_rate",
            "alpha_mask", "conditioning_data_dir",
        )
    },
}  # fmt: skip
OWN_KEYS = (*OF_FOLDERS, "caption_extension")  # what each folder of an index may have for itself
FOLDER_KEYS = ("image_dir", "num_repeats", "is_reg", "class_tokens")
FOLDERS = "`data.folder` or `data.regularization_folder`, where the folders are named like `10_name`"
# Keys without a setting, and why
DATASET_REFUSED: dict[str, str] = {
    "network_multiplier": "Atelier has one strength for all images; loss.image_weights lets some count for more",
    "metadata_file": "Atelier reads captions from text files beside the images: write them out once",
    "custom_attributes": "free notes; the one that is read there keeps the general class, for which Atelier has "
    "data.regularization_folder",
}
_LAYOUT = (
    "Atelier trains folders with captions in files: `python -m captioning arrange` makes such a folder of this file"
)


@dataclass(frozen=True)
class _Place:
    """One table of the file: its name ("datasets[0].subsets[1]") and content; `subset` holds inherited values too."""

    name: str
    content: dict[str, Any]
    subset: dict[str, Any] | None = None


def read_dataset(
    content: Mapping[str, Any], path: Path, with_defaults: bool = True
) -> tuple[dict[str, Any], list[tuple[str, Any, Outcome]]]:
    """Settings and (key, value, outcome) of a parsed file. Where its folders do not fit our naming, it stands for the
    training folder itself, as an index.

    with_defaults: whether what the file leaves out takes its documented default, or stays as it is.
    """
    folder, places = path.parent, list(_places(content))
    subsets = [place.subset for place in places if place.subset is not None]
    trained = [subset for subset in subsets if not subset.get("is_reg")]
    values, unreadable = _values(trained[0] if trained else {}, folder)
    outcomes = {name: outcome_of(values, name) for name in DATASET_ARGUMENTS.values()}
    for name, outcome in outcomes.items():
        if with_defaults or name in values.given:
            values.settings.update(outcome.settings)
    kept = [subset for subset in subsets if subset.get("is_reg")]
    targets = _targets(trained, kept, path)
    for found in targets.values():
        values.settings.update(found)

    lines: list[tuple[str, Any, Outcome]] = []
    for place in places:
        for key, raw in place.content.items():
            name = DATASET_ARGUMENTS.get(key, "")
            if key in FOLDER_KEYS:
                outcome = _folder_outcome(place, key, raw, targets)
            elif name in unreadable and same(raw, unreadable[name]):
                outcome = Outcome("ignored_effect", note="cannot be read; the default there is used")
            elif name:
                by_folder = key in OWN_KEYS and _is_index(targets[bool((place.subset or {}).get("is_reg"))])
                outcome = _line(values, name, raw, outcomes[name], by_folder)
            else:
                outcome = _other_key(key, raw)
            lines.append((f"{place.name}.{key}", raw, outcome))
    return values.settings, lines


def read_dataset_file(path: Path) -> Outcome:
    """The settings of a data-set file that another file names, as one outcome."""
    from engine.kohya.sources import open_source

    try:
        source = open_source(path)
    except UserError as error:
        return Outcome("ignored_effect", note=f"{error}")
    if source.kind != "data set":
        return Outcome("ignored_effect", note="is no data-set configuration")
    settings, lines = read_dataset(source.content, path, with_defaults=False)
    lost = [f"{key} ({outcome.note})" for key, _, outcome in lines if outcome.group == "ignored_effect"]
    if lost:
        return Outcome("ignored_effect", settings, "read as well; not taken over: " + ", ".join(lost))
    return Outcome("converted", settings, "read as well")


def _places(content: Mapping[str, Any]) -> Iterator[_Place]:
    """All tables of the file. Values that stand where a table belongs are told as keys of their own."""
    outside = {key: value for key, value in content.items() if key not in ("general", "datasets")}
    if outside:
        yield _Place("(top)", outside)
    general = _table(content.get("general"))
    yield _Place("general", general)
    for number, dataset in enumerate(_table(entry) for entry in content["datasets"]):
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        yield _Place(f"datasets[{number}]", own)
        subsets = dataset.get("subsets")
        for index, subset in enumerate(_table(entry) for entry in (subsets if isinstance(subsets, list) else [])):
            yield _Place(f"datasets[{number}].subsets[{index}]", subset, {**general, **own, **subset})


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _values(subset: Mapping[str, Any], folder: Path) -> tuple[Values, dict[str, Any]]:
    """The values in force: those of a subset over the documented defaults; and what cannot be read, by argument."""
    effective = {name: documented(fact) for name, fact in ARGUMENTS.items()}
    unreadable: dict[str, Any] = {}
    for key, raw in subset.items():
        name = DATASET_ARGUMENTS.get(key)
        if name is None:
            continue
        try:
            effective[name] = clean(raw, ARGUMENTS[name])
        except Unreadable:
            unreadable[name] = raw
    effective["masked_loss"] = bool(effective["conditioning_data_dir"])  # sd-scripts allows that key with it only
    given = frozenset(DATASET_ARGUMENTS[key] for key in subset if key in DATASET_ARGUMENTS)
    return Values("sd_scripts", effective, given, folder), unreadable


def _line(values: Values, name: str, raw: Any, outcome: Outcome, by_folder: bool) -> Outcome:
    """What becomes of a line whose key's value in force is known. by_folder: it is read of the file for each folder."""
    try:
        value = clean(raw, ARGUMENTS[name])
    except Unreadable as error:
        return Outcome("ignored_effect", note=f"needs {error}")
    if value != values[name] and by_folder:
        return Outcome("converted", note="read from this file for its folders", setting=outcome.shown_setting)
    if value != values[name]:
        what = f"Atelier has one value for the whole data set and uses {values[name]}, the first subset's"
        return Outcome("ignored_effect", note=what, setting=outcome.shown_setting)
    if outcome.group == "honoured" and not same(raw, value):
        return Outcome("converted", outcome.settings, f'"{raw}" is read as {value}')
    return outcome


def _targets(trained: list[dict[str, Any]], kept: list[dict[str, Any]], path: Path) -> dict[bool, Mapping[str, str]]:
    """Where the images are, to train and to keep from forgetting: folders under our naming, or the file as an index."""
    names = {False: "data.folder", True: "data.regularization_folder"}
    everything = {False: trained, True: kept}
    alike = len({str([subset.get(key) for key in OWN_KEYS]) for subset in (*trained, *kept)}) < 2
    found: dict[bool, Mapping[str, str]] = {}
    for kind, subsets in everything.items():
        plain = alike and not _is_index(found.get(False, {}))
        folder = _folder(subsets, path.parent, names[kind]) if plain else {}
        found[kind] = folder or _index(subsets, path, names[kind])
    return found


def _folder(subsets: list[dict[str, Any]], folder: Path, setting: str) -> dict[str, str]:
    """The one folder that holds exactly these subsets under our naming, as a setting; empty if there is none."""
    paths = [Path(str(subset.get("image_dir") or "")) for subset in subsets]
    if not subsets or any(path == Path() for path in paths) or any(subset.get("metadata_file") for subset in subsets):
        return {}
    for subset, path in zip(subsets, paths, strict=True):
        meant = repeats_and_name(path.name)
        if meant is None or meant[0] != subset.get("num_repeats", 1):
            return {}
    if len(paths) == 1:
        return {setting: _text(paths[0], folder)}
    parents = {path.parent for path in paths}
    if len(parents) > 1 or len({path.name for path in paths}) < len(paths):
        return {}
    parent = folder / parents.pop()
    there = {entry.name for entry in parent.iterdir() if entry.is_dir()} if parent.is_dir() else set()
    return {} if there - {path.name for path in paths} else {setting: _text(paths[0].parent, folder)}


def _index(subsets: list[dict[str, Any]], path: Path, setting: str) -> dict[str, str]:
    """The file itself as an index (see engine/data/index.py), where all it names are folders with caption files."""
    usable = bool(subsets) and all(subset.get("image_dir") and not subset.get("metadata_file") for subset in subsets)
    return {setting: str(path.absolute())} if usable else {}


def _text(path: Path, folder: Path) -> str:
    """The path as written; relative ones, which the trainer took from where it was started, from the file."""
    beside = folder / path
    return str(beside) if not path.is_absolute() and beside.is_dir() else str(path)


def _folder_outcome(place: _Place, key: str, raw: Any, targets: Mapping[bool, Mapping[str, str]]) -> Outcome:
    subset = place.subset or {}
    found = targets[bool(subset.get("is_reg"))]
    if (key == "is_reg" and not raw) or (key == "num_repeats" and place.subset is None and raw == 1):
        return Outcome("ignored_default")
    if key == "class_tokens":
        meant = repeats_and_name(Path(str(subset.get("image_dir") or "")).name)
        if found and raw and _is_index(found):
            return Outcome("converted", note="read from this file")
        if not raw or (found and meant and meant[1] == raw):
            return Outcome("ignored_default" if not raw else "converted", note="the folder's name" if raw else "")
        return Outcome("ignored_effect", note=f"the caption of images without one: name the folder 1_{raw}")
    if found or place.subset is None:
        where = "this file" if _is_index(found) else "the folder's name"
        return Outcome("converted", found, f"repeats are read from {where}" if key == "num_repeats" else "")
    return Outcome("ignored_default" if key == "num_repeats" and raw == 1 else "ignored_effect", note=_LAYOUT)


def _is_index(found: Mapping[str, str]) -> bool:
    return any(value.lower().endswith(SUFFIX) for value in found.values())


def _other_key(key: str, raw: Any) -> Outcome:
    if raw in ("", None, False, [], {}) or (key == "network_multiplier" and raw == 1):
        return Outcome("ignored_default")
    return Outcome("ignored_effect", note=DATASET_REFUSED.get(key, "sd-scripts does not know such a key here"))
