"""Loading a preset into the form: what it changes, and what of the user's own it leaves alone.

A recipe says nothing about folders and names. Those are the user's: where a preset leaves one of them at its default,
the form's own value can stay. What came from a shipped preset, such as the demo's pictures, is nobody's own and goes.
So loading A and then B gives what B alone gives, for all shipped presets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from engine.errors import UserError
from engine.preset import BY_PATH, SETTINGS, Preset
from ui import preset_files

Content = Mapping[str, Any]

# What belongs to the user and not to the recipe: the model, pictures and their texts, names, places to write to
YOURS = (
    "model.base", "model.vae", "model.merged_adapters",
    "data.folder", "data.regularization_folder", "data.cache_folder",
    "captions.extension", "captions.second_extension", "captions.trigger",
    "loss.image_weights", "loss.mask_folder",
    "run.name", "run.folder", "sample.prompts", "sample.negative", "validation.folder",
    "logging.folder", "logging.project", "logging.run_name",
    "sharing.title", "sharing.author", "sharing.description", "sharing.license", "sharing.tags",
    "sharing.trigger_phrase", "sharing.usage_hint", "sharing.merged_from", "sharing.thumbnail", "sharing.comment",
    "sharing.hub_repo", "sharing.hub_folder",
)  # fmt: skip
# Files and folders that are the recipe's: they fit its ranks
RECIPE_S = ("adapter.start_from",)


def applied(preset: Preset, present: Content, keep_yours: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The form's content after loading, and the settings that were kept from `present` (as of `form.read_all`)."""
    content = preset.model_dump()
    kept: list[str] = []
    for path in (*YOURS, "author") if keep_yours else ():
        own = value_of(present, path)
        if value_of(content, path) != default_of(path) or own in (default_of(path), None) or own in shipped(path):
            continue
        section, _, name = path.rpartition(".")
        (content[section] if section else content)[name] = own
        kept.append(path)
    return content, tuple(kept)


def changes(present: Content, wanted: Content) -> list[tuple[str, Any, Any]]:
    """What differs, in the order of the form: (path, value now, value then). Values may be faulty."""
    rows = ((item.path, value_of(present, item.path), value_of(wanted, item.path)) for item in SETTINGS)
    return [row for row in rows if row[1] != row[2]]


def value_of(content: Content, path: str) -> Any:
    """The value of "section.name" in nested content; the default where it is missing."""
    section, _, name = path.rpartition(".")
    place = content.get(section) if section else content
    return place.get(name, default_of(path)) if isinstance(place, Mapping) else default_of(path)


def default_of(path: str) -> Any:
    return BY_PATH[path].default if path in BY_PATH else ""


@cache
def shipped(path: str) -> frozenset[Any]:
    """The values that the shipped presets give to a setting of the user's."""
    return frozenset(preset.get(path) if "." in path else getattr(preset, path) for preset in _shipped_presets())


@cache
def _shipped_presets() -> tuple[Preset, ...]:
    return tuple(_readable())


def _readable() -> Iterator[Preset]:
    for item in preset_files.preset_files():
        if not item.own:
            try:
                yield preset_files.load_listed(str(item.path))
            except UserError:  # a broken one is told where it is chosen
                continue
