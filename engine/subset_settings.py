"""Settings that single folders of an index have for themselves: captions, mirroring, resolution. Torch-free.

An index is a data set of sd-scripts (engine/data/index.py). As there, what it tells of a folder goes before the preset.
What a run has only once (its batch size, what is held out …) must be the same in both: else it is a problem, and never
a silent choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.errors import PresetError, Problem
from engine.preset import Preset

Own = tuple[tuple[str, Any], ...]  # "section.name" and value, in order; only what differs from the preset

# Keys that a setting carries as its name there
SAME_IDEA = (
    "shuffle_caption", "keep_tokens", "keep_tokens_separator", "secondary_separator", "caption_separator",
    "caption_prefix", "caption_suffix", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate", "token_warmup_min", "token_warmup_step", "flip_aug", "random_crop", "color_aug",
    "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps",
)  # fmt: skip
# Keys that each folder may have for itself
OF_FOLDERS = (*SAME_IDEA, "resolution", "bucket_no_upscale", "enable_wildcard")
# Keys of which a run has one for all pictures → the setting
OF_THE_RUN = {
    "batch_size": "run.batch_size",
    "resize_interpolation": "data.resampling",
    "validation_split": "validation.share",
    "validation_seed": "validation.seed",
    "alpha_mask": "loss.mask",
    "conditioning_data_dir": "loss.mask_folder",
}


class Told(Protocol):
    """A subset and what an index tells of it, by sd-scripts' keys."""

    @property
    def name(self) -> str: ...
    @property
    def told(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class ToldSettings:
    """What each subset has for itself, in their order; what cannot be done; and what goes before the preset."""

    own: tuple[Own, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def preset_of(preset: Preset, own: Own) -> Preset:
    """The preset as it is for a folder. Raises PresetError where its values do not go together."""
    return preset.changed(dict(own)) if own else preset


def told_settings(preset: Preset, index: Path, subsets: Sequence[Told]) -> ToldSettings:
    """What an index tells of its folders as settings. Subsets of ordinary folders have none of their own."""
    if not any(subset.told for subset in subsets):
        return ToldSettings(tuple(() for _ in subsets))
    from engine.subset_keys import differences, read, shown, together  # reads other trainers' keys, which takes a while

    names = [subset.name for subset in subsets]
    readings = [read(subset.told, preset) for subset in subsets]
    pairs = list(zip(names, readings, strict=True))
    faults = together((fault, name) for name, reading in pairs for fault in reading.faults)
    faults += differences(preset, pairs)
    own: list[Own] = []
    for name, reading in pairs:
        own.append(tuple(sorted((path, new) for path, new in reading.values.items() if new != preset.get(path))))
        try:
            preset_of(preset, own[-1])
        except PresetError as error:
            faults += [f"tells for {name} what does not go with the rest: {fault}" for fault in error.problems]
            own[-1] = ()
    rows = (
        (f"{path} = {shown(value)}", name) for name, values in zip(names, own, strict=True) for path, value in values
    )
    first = together(rows)
    warnings = [f"has settings of its own, which go before the preset's: {'; '.join(first)}."] if first else []
    return ToldSettings(
        tuple(own),
        tuple(Problem(str(index), fault) for fault in faults),
        tuple(Problem(str(index), warning) for warning in warnings),
    )
