"""What the captions tell about the settings that work on them: told before the start. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from engine.caption_source import caption_rules, steps_of
from engine.data.tags import split_tags
from engine.errors import Problem
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.subset_settings import Own, preset_of

_CHOICE = re.compile(r"(?<!\{)\{[^{}|]+\|[^{}]*\}")
_WEIGHT = re.compile(r"(?<!\\)\([^()]+:\s*\d+(?:\.\d+)?\)")


def caption_warnings(preset: Preset, images: Sequence[ImagePlan], steps: int) -> list[Problem]:
    """Settings that would do nothing with these captions, and marks in them that nothing reads."""
    texts: dict[Own, list[str]] = {}
    for image in images:
        texts.setdefault(image.own, []).extend(text for text in (image.caption, image.second_caption) if text)
    found = [
        row
        for own, those in texts.items()
        if those and steps
        for row in (*_unread_marks(preset_of(preset, own), those), *_idle(preset_of(preset, own), those))
    ]
    found += _beyond_the_end(preset, steps) if steps and any(texts.values()) else ()
    return [Problem(where, message) for where, message in dict.fromkeys(found)]


def _unread_marks(preset: Preset, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    captions = preset.captions
    for on, where, pattern, what in (
        (captions.wildcards, "captions.wildcards", _CHOICE, "choices"),
        (captions.weighted, "captions.weighted", _WEIGHT, "weights"),
    ):
        marks = [match[0] for text in texts if (match := pattern.search(text))]
        if marks and not on:
            yield where, f"is off, so {what} in {_count(len(marks))} are trained as they stand (such as {marks[0]})."


def _idle(preset: Preset, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    captions = preset.captions
    rules = caption_rules(preset, 1)
    keep = captions.keep_separator
    if keep and not _any(texts, lambda text: keep in text):
        yield "captions.keep_separator", f"is in no caption (got {keep!r}), so captions.keep_tokens decides instead."
    group = captions.secondary_separator
    if group and not _any(texts, lambda text: group in text):
        yield "captions.secondary_separator", f"is in no caption (got {group!r}), so it does nothing."
    works = next((name for name in ("shuffle", "tag_dropout", "token_warmup") if getattr(captions, name)), "")
    if works and not _any(texts, lambda text: len(split_tags(text, rules.separator)) > 1):
        what = f"works on tags, and no caption has two of them with {rules.separator!r} between"
        yield f"captions.{works}", f"{what}. Set captions.separator to what stands between your tags."


def _beyond_the_end(preset: Preset, steps: int) -> Iterator[tuple[str, str]]:
    warmup, stop = (
        steps_of(amount, steps) for amount in (preset.captions.token_warmup, preset.adapter.text_encoder_stop)
    )
    if warmup > steps:
        yield "captions.token_warmup", f"ends after the run's {steps} steps (got {warmup}): never are all tags shown."
    if stop >= steps:
        yield "adapter.text_encoder_stop", f"is not before the end of the run's {steps} steps (got {stop}): no stop."


def _any(texts: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return any(holds(text) for text in texts)


def _count(captions: int) -> str:
    return "1 caption" if captions == 1 else f"{captions:,} captions"
