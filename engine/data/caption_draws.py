"""From what a caption file says to what an image is shown with: affixes, wildcards, tags kept, shuffled and dropped.

Everything is a function of its arguments (text, rules, seed, image, number of the drawing), never of history: a caption
that is drawn while the run goes on is the one that was drawn when its features were cached. The rules are those of
sd-scripts, the draws our own (see docs/training.md for the differences).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.data.tags import join_tags, split_tags
from engine.data.wildcards import expand_wildcards
from engine.draws import Part, draw_below, draw_fraction, draw_fractions, permutation

Lines = Literal["first", "random", "all"]


@dataclass(frozen=True)
class Caption:
    """What the two text encoders read."""

    one: str
    two: str

    @classmethod
    def of(cls, text: str) -> Caption:
        """The same text for both."""
        return cls(text, text)


EMPTY = Caption.of("")


@dataclass(frozen=True)
class CaptionRules:
    """How captions become what is trained with. The plain rules leave a caption as it is.

    `keep_tokens` counts the tags that stay in front; a `keep_separator` found in the caption decides in its place: what
    stands before it stays in front, what stands behind a second one stays at the end. `warmup_steps`: steps until all
    tags are shown, from `warmup_tags` on.
    """

    lines: Lines = "first"
    trigger: str = ""
    prefix: str = ""
    suffix: str = ""
    wildcards: bool = False
    separator: str = ","
    shuffle: bool = False
    keep_tokens: int = 0
    keep_separator: str = ""
    secondary_separator: str = ""
    tag_dropout: float = 0.0
    never_dropped: frozenset[str] = frozenset()
    warmup_steps: int = 0
    warmup_tags: int = 1
    dropout: float = 0.0
    dropout_every_epochs: int = 0
    weighted: bool = False

    @property
    def is_random(self) -> bool:
        """Whether two drawings of one caption may differ (apart from warm-up and dropped captions)."""
        return self.shuffle or self.tag_dropout > 0 or self.wildcards or self.lines == "random"

    @property
    def drops_captions(self) -> bool:
        return self.dropout > 0 or self.dropout_every_epochs > 0


@dataclass(frozen=True)
class Drawing:
    """Which drawing of which image's caption: the same ones give the same text."""

    seed: int
    image: str
    number: int
    step: int = 0

    def key(self, *about: Part) -> tuple[Part, ...]:
        return ("caption", self.seed, self.image, self.number, *about)


def draw_caption(text: str, rules: CaptionRules, drawing: Drawing) -> str:
    """The caption of one drawing. `text` may hold several lines.

    Line, then affixes, wildcards, tags (kept, warm-up, shuffle, dropout), trigger word, secondary separator.
    """
    line = _line(text, rules, drawing)
    whole = " ".join(part for part in (rules.prefix, line, rules.suffix) if part)
    if rules.wildcards:
        whole = expand_wildcards(whole, lambda count, place: draw_below(count, *drawing.key("wildcard", place)))
    if rules.shuffle or rules.tag_dropout or rules.warmup_steps or rules.trigger or _marked(whole, rules):
        whole = _retagged(whole, rules, drawing)
    if rules.secondary_separator:
        whole = whole.replace(rules.secondary_separator, rules.separator)
    return whole


def is_dropped(rules: CaptionRules, seed: int, image: str, showing: int, epoch: int) -> bool:
    """Whether this showing of the image (counted from 0 over the run) has an empty caption; epochs count from 0.

    With `dropout_every_epochs` n, epochs n, 2n, … counted from 1 are without captions.
    """
    every = rules.dropout_every_epochs
    if every and (epoch + 1) % every == 0:
        return True
    return draw_fraction("caption dropout", seed, image, showing) < rules.dropout


def variant_of(showing: int, variants: int, seed: int, image: str) -> int:
    """Which of an image's `variants` drawings its `showing` (from 0) has.

    Each is shown once before any is shown again, in an order that is drawn anew each time round.
    """
    time_round, place = divmod(showing, variants)
    return permutation(variants, "variants", seed, image, time_round)[place] if time_round else place


def warmup_tag_count(tags: int, rules: CaptionRules, step: int) -> int:
    """How many of the tags that are not kept are shown in step `step` (from 0)."""
    if step >= rules.warmup_steps:
        return tags
    return step * (tags - rules.warmup_tags) // rules.warmup_steps + rules.warmup_tags


def _line(text: str, rules: CaptionRules, drawing: Drawing) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return lines[0] if lines else ""
    if rules.lines == "all":
        return join_tags((line.removesuffix(rules.separator).rstrip() for line in lines), rules.separator)
    return lines[draw_below(len(lines), *drawing.key("line"))] if rules.lines == "random" else lines[0]


def _marked(text: str, rules: CaptionRules) -> bool:
    return bool(rules.keep_separator) and rules.keep_separator in text


def _retagged(text: str, rules: CaptionRules, drawing: Drawing) -> str:
    front, loose, end = _parts(text, rules)
    loose = loose[: warmup_tag_count(len(loose), rules, drawing.step)]
    if rules.shuffle:
        loose = [loose[place] for place in permutation(len(loose), *drawing.key("shuffle"))]
    if rules.tag_dropout:
        chances = draw_fractions(len(loose), *drawing.key("tags"))
        loose = [
            tag
            for tag, chance in zip(loose, chances, strict=True)
            if tag in rules.never_dropped or chance >= rules.tag_dropout
        ]
    if rules.trigger:
        front, loose, end = ([tag for tag in part if tag != rules.trigger] for part in (front, loose, end))
        front = [rules.trigger, *front]
    return join_tags([*front, *loose, *end], rules.separator)


def _parts(text: str, rules: CaptionRules) -> tuple[list[str], list[str], list[str]]:
    """Tags that stay in front, those that are shuffled and dropped, and those that stay at the end."""

    def tags(part: str) -> list[str]:
        return split_tags(part, rules.separator, whole_brackets=rules.weighted)

    if not _marked(text, rules):
        found = tags(text)
        return found[: rules.keep_tokens], found[rules.keep_tokens :], []
    front, *rest = text.split(rules.keep_separator)
    return tags(front), tags(rest[0]), [tag for part in rest[1:] for tag in tags(part)]
