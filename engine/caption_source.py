"""The captions that a run shows: which one each showing of an image has, and all that will be asked for. Torch-free.

A showing is one use of an image in a batch; an image's showings are counted from 0 over the whole run. Live text is
drawn anew for each showing; cached text has K drawings (variants) of each caption, of which each showing takes one.
Caption dropout is drawn for each showing in either case. With as many variants as showings the two are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.data import order
from engine.data.caption_draws import EMPTY, Caption, CaptionRules, Drawing, draw_caption, is_dropped, variant_of
from engine.data.tags import split_tags
from engine.subset_settings import Own, preset_of

if TYPE_CHECKING:
    from engine.plan import Plan
    from engine.plan_images import ImagePlan
    from engine.preset import Preset


def caption_rules(preset: Preset, steps: int) -> CaptionRules:
    """The rules of a preset for a run of so many steps."""
    captions = preset.captions
    return CaptionRules(
        lines=captions.lines,
        trigger=captions.trigger.strip(),
        prefix=captions.prefix.strip(),
        suffix=captions.suffix.strip(),
        wildcards=captions.wildcards,
        separator=captions.separator,
        shuffle=captions.shuffle,
        keep_tokens=captions.keep_tokens,
        keep_separator=captions.keep_separator,
        secondary_separator=captions.secondary_separator,
        tag_dropout=captions.tag_dropout,
        never_dropped=frozenset(split_tags(captions.never_dropped, ",")),
        warmup_steps=steps_of(captions.token_warmup, steps),
        warmup_tags=captions.token_warmup_min,
        dropout=captions.dropout,
        dropout_every_epochs=captions.dropout_every_epochs,
        weighted=captions.weighted,
    )


def rules_of_images(preset: Preset, steps: int) -> Callable[[ImagePlan], CaptionRules]:
    """The rules of each image: those of its folder, without the trigger word where it is a regularization image."""
    known: dict[tuple[Own, bool], CaptionRules] = {}

    def rules_of(image: ImagePlan) -> CaptionRules:
        kind = image.own, image.is_regularization
        if kind not in known:
            rules = caption_rules(preset_of(preset, image.own), steps)
            known[kind] = dataclasses.replace(rules, trigger="") if image.is_regularization else rules
        return known[kind]

    return rules_of


def steady(rules: CaptionRules) -> CaptionRules:
    """The rules with nothing shuffled or left out."""
    return dataclasses.replace(rules, shuffle=False, tag_dropout=0.0, warmup_steps=0)


def steps_of(amount: float, steps: int) -> int:
    """A number of steps; below 1 it is a share of the run."""
    return int(amount * steps) if amount < 1 else int(amount)


def drawings(rules: CaptionRules, variants: int, showings: int) -> int:
    """How many drawings of a caption are cached for an image that is shown so often."""
    return min(variants if rules.is_random else 1, showings)


def cached_texts(preset: Preset, images: Sequence[ImagePlan], epochs: int, steps: int) -> int:
    """How many texts are cached at most; equal ones are kept once, which is counted where nothing is drawn."""
    rules_of = rules_of_images(preset, steps)
    rows = [(image, rules_of(image)) for image in images if image.repeats]
    variants = preset.captions.variants
    count = sum(drawings(rules, variants, image.repeats * epochs) for image, rules in rows if rules.is_random)
    count += len({(image.caption, image.second_caption, image.own) for image, rules in rows if not rules.is_random})
    warmup_steps = max((rules.warmup_steps for _, rules in rows), default=0)
    run = preset.run
    in_warmup = min(warmup_steps, steps) * run.batch_size * run.gpus * run.accumulation
    return count + in_warmup + any(rules.drops_captions for _, rules in rows)


class CaptionSource:
    """The caption of any showing: a function of the plan, the seed and the place in the run, never of history."""

    def __init__(self, preset: Preset, plan: Plan) -> None:
        self.plan = plan
        self.run = preset.run
        self.rules_of = rules_of_images(preset, plan.steps)
        self.validation_seed = preset.validation.seed
        self.variants = preset.captions.variants if preset.captions.cache_text else 0

    def caption(self, index: int, showing: int, step: int) -> Caption:
        """What image number `index` is shown with in step `step` (from 0).

        showing: how often the image was shown before in this epoch.
        """
        image = self.plan.images[index]
        epoch = step // self.plan.steps_per_epoch
        number = epoch * image.repeats + showing
        if is_dropped(self.rules_of(image), self.run.seed, image.key, number, epoch):
            return EMPTY
        if self.variants:
            number = variant_of(number, self.variants, self.run.seed, image.key)
        return self._drawn(image, number, step)

    def all(self) -> list[Caption]:
        """Every caption that the run will ask for, each once."""
        found = dict.fromkeys(self._in_warmup())
        found |= dict.fromkeys(
            self._drawn(image, number, self.rules_of(image).warmup_steps)
            for image in self.plan.images
            for number in range(drawings(self.rules_of(image), self.variants, image.repeats * self.plan.epochs))
        )
        found |= dict.fromkeys(self.steady(image) for image in self.plan.validation)
        if any(self.rules_of(image).drops_captions for image in self.plan.images):
            found[EMPTY] = None
        return list(found)

    def steady(self, image: ImagePlan) -> Caption:
        """What a validation image is measured with: nothing shuffled or left out, and always the same choices."""
        return _caption(image, steady(self.rules_of(image)), Drawing(self.validation_seed, image.key, 0))

    def epoch_steps(self, epoch: int) -> list[tuple[order.Batch, ...]]:
        """The batches of all GPUs together, update by update."""
        run = self.run
        return order.epoch_steps(self.plan.entries, run.batch_size * run.gpus, run.accumulation, run.seed, epoch)

    def _in_warmup(self) -> Iterator[Caption]:
        """Captions of the steps in which not all tags are shown yet: these change from step to step."""
        groups: list[tuple[order.Batch, ...]] = []
        showings: list[tuple[order.Batch, ...]] = []
        last = max((self.rules_of(image).warmup_steps for image in self.plan.images), default=0)
        for step in range(min(last, self.plan.steps)):
            epoch, place = divmod(step, self.plan.steps_per_epoch)
            if place == 0:
                groups = self.epoch_steps(epoch)
                showings = order.showings(groups)
            for batch, numbers in zip(groups[place], showings[place], strict=True):
                for index, showing in zip(batch, numbers, strict=True):
                    yield self.caption(index, showing, step)

    def _drawn(self, image: ImagePlan, number: int, step: int) -> Caption:
        return _caption(image, self.rules_of(image), Drawing(self.run.seed, image.key, number, step))


def _caption(image: ImagePlan, rules: CaptionRules, drawing: Drawing) -> Caption:
    one = draw_caption(image.caption, rules, drawing)
    if image.second_caption is None:
        return Caption.of(one)
    second = dataclasses.replace(drawing, image=f"{image.key} second")
    return Caption(one, draw_caption(image.second_caption, rules, second))
