"""Faults between settings: captions, text features and the training of text encoders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

_EXTENSION = re.compile(r"\.[^\s./\\]+")
_CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")


def trained_text_is_not_cached(preset: Preset) -> Iterator[Problem]:
    if preset.captions.cache_text and _trains_text(preset):
        yield Problem(
            "captions.cache_text",
            "text features cannot be cached while a text encoder is trained. Switch one of the two off.",
        )


def extension_begins_with_a_dot(preset: Preset) -> Iterator[Problem]:
    if not _EXTENSION.fullmatch(preset.captions.extension):
        yield Problem("captions.extension", f"must look like .txt (got {preset.captions.extension!r}).")


def second_captions_lie_in_other_files(preset: Preset) -> Iterator[Problem]:
    first, second = preset.captions.extension, preset.captions.second_extension
    if second and not _EXTENSION.fullmatch(second):
        yield Problem("captions.second_extension", f"must look like .txt2, or be empty (got {second!r}).")
    elif second and second.lower() == first.lower():
        what = f"is that of the first captions too (got {second}). Use another one, or leave it empty."
        yield Problem("captions.second_extension", what)


def drawn_captions_have_variants(preset: Preset) -> Iterator[Problem]:
    captions = preset.captions
    drawn = [
        name
        for name, on in (
            ("captions.shuffle", captions.shuffle),
            ("captions.tag_dropout", captions.tag_dropout > 0),
            ("captions.wildcards", captions.wildcards),
            ("captions.lines = random", captions.lines == "random"),
        )
        if on
    ]
    if captions.cache_text and captions.variants == 1 and drawn:
        what = f"one cached variant of a caption would be the same each time, so {' and '.join(drawn)} would do nothing"
        yield Problem(
            "captions.variants", f"{what} (got 1). Raise it, for example to 8, or switch captions.cache_text off."
        )


def tags_have_a_separator(preset: Preset) -> Iterator[Problem]:
    if not preset.captions.separator:
        yield Problem("captions.separator", "must not be empty: it tells tags apart. Use a comma.")


def marks_differ_from_each_other(preset: Preset) -> Iterator[Problem]:
    captions = preset.captions
    marks = {
        "captions.separator": captions.separator,
        "captions.keep_separator": captions.keep_separator,
        "captions.secondary_separator": captions.secondary_separator,
    }
    given = [(name, mark) for name, mark in marks.items() if mark]
    for number, (name, mark) in enumerate(given):
        for other, text in given[:number]:
            if mark in text or text in mark:
                what = (
                    f"cannot be told from {other} (got {mark!r} and {text!r}). Use marks that do not hold one another."
                )
                yield Problem(name, what)


def kept_tags_are_kept_from_something(preset: Preset) -> Iterator[Problem]:
    captions = preset.captions
    if captions.keep_tokens and not (captions.shuffle or captions.tag_dropout or captions.token_warmup):
        what = "keeps tags from being shuffled or left out, and nothing does that"
        yield Problem(
            "captions.keep_tokens", f"{what} (got {captions.keep_tokens}). Set it to 0, or switch captions.shuffle on."
        )


def tags_never_dropped_need_tag_dropout(preset: Preset) -> Iterator[Problem]:
    if preset.captions.never_dropped.strip() and not preset.captions.tag_dropout:
        what = "names tags that are never left out, and no tag ever is"
        yield Problem("captions.never_dropped", f"{what}. Empty it, or set captions.tag_dropout above 0.")


def tag_dropout_leaves_something(preset: Preset) -> Iterator[Problem]:
    captions = preset.captions
    kept = captions.keep_tokens or captions.keep_separator or captions.trigger.strip() or captions.never_dropped.strip()
    if captions.tag_dropout == 1 and not kept:
        what = "leaves no tag in any caption (got 1.0). Lower it, keep some tags, or use captions.dropout."
        yield Problem("captions.tag_dropout", what)


def warm_up_is_a_share_or_whole_steps(preset: Preset) -> Iterator[Problem]:
    for name, value in (
        ("captions.token_warmup", preset.captions.token_warmup),
        ("adapter.text_encoder_stop", preset.adapter.text_encoder_stop),
    ):
        if value > 1 and value != int(value):
            yield Problem(name, f"must be a share below 1 or a whole number of steps (got {value:g}).")


def choices_in_affixes_need_wildcards(preset: Preset) -> Iterator[Problem]:
    captions = preset.captions
    for name in ("prefix", "suffix"):
        if not captions.wildcards and (found := _CHOICE.search(getattr(captions, name))):
            what = f"holds choices that would be trained as they stand (got {found[0]}). Switch captions.wildcards on."
            yield Problem(f"captions.{name}", what)


def wildcards_and_marks_use_other_signs(preset: Preset) -> Iterator[Problem]:
    yield from _marks_with(preset, preset.captions.wildcards, "{}|", "captions.wildcards")


def weights_and_marks_use_other_signs(preset: Preset) -> Iterator[Problem]:
    yield from _marks_with(preset, preset.captions.weighted, "()[]:\\", "captions.weighted")


def one_line_is_one_line(preset: Preset) -> Iterator[Problem]:
    for name in ("trigger", "prefix", "suffix"):
        if "\n" in getattr(preset.captions, name).strip():
            yield Problem(f"captions.{name}", "must be one line. Take the line breaks out.")


def only_trained_text_encoders_are_stopped(preset: Preset) -> Iterator[Problem]:
    stop = preset.adapter.text_encoder_stop
    if stop and not _trains_text(preset):
        what = f"no text encoder is trained, so there is nothing to stop (got {stop:g}). Set it to 0."
        yield Problem("adapter.text_encoder_stop", what)
    elif stop and not preset.adapter.unet:
        what = f"nothing would be trained any more from there on (got {stop:g}). Set it to 0, or train the UNet too."
        yield Problem("adapter.text_encoder_stop", what)


def _trains_text(preset: Preset) -> bool:
    return preset.adapter.text_encoder_1 or preset.adapter.text_encoder_2


def _marks_with(preset: Preset, on: bool, signs: str, owner: str) -> Iterator[Problem]:
    for name in ("separator", "keep_separator", "secondary_separator"):
        mark = getattr(preset.captions, name)
        if on and set(mark) & set(signs):
            what = f"holds a sign that {owner} reads (got {mark!r}). Use a mark without any of {' '.join(signs)}"
            yield Problem(f"captions.{name}", f"{what}, or switch {owner} off.")


RULES = (
    trained_text_is_not_cached,
    extension_begins_with_a_dot,
    second_captions_lie_in_other_files,
    drawn_captions_have_variants,
    tags_have_a_separator,
    marks_differ_from_each_other,
    kept_tags_are_kept_from_something,
    tags_never_dropped_need_tag_dropout,
    tag_dropout_leaves_something,
    warm_up_is_a_share_or_whole_steps,
    choices_in_affixes_need_wildcards,
    wildcards_and_marks_use_other_signs,
    weights_and_marks_use_other_signs,
    one_line_is_one_line,
    only_trained_text_encoders_are_stopped,
)
