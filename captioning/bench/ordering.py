"""Tags put in order: by the alphabet, by how frequent they are, or by a list of groups for structured captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from captioning.bench.filters import whole_match
from captioning.bench.texts import tag_key
from engine.errors import UserError

EVERYTHING_ELSE = "..."

# What an image shows, from what matters most to what matters least: the text encoders weigh the first words most.
GROUPS = """subject: 1girl, 1boy, 2girls, 2boys, *girl, *boy, *woman, *man, person, cat, dog, *animal*, character
action: standing*, sitting*, lying*, running, walking, holding *, looking *, smil*, jumping, dancing, *pose
...
setting: *background, outdoors, indoors, *room, *forest, *street, *city, *beach, sky, night, day, sunset, *landscape
style: *style, photo*, painting, *drawing, sketch, *render, illustration, anime, monochrome, realistic, *lighting
quality: *quality, masterpiece, highres, absurdres, detailed, sharp*, blur*, *resolution"""


def alphabetical(tags: Sequence[str]) -> list[str]:
    return sorted(tags, key=lambda tag: (tag_key(tag), tag))


def by_frequency(tags: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """The most frequent first; `counts` by tag_key. Equal ones keep their order."""
    return sorted(tags, key=lambda tag: -counts.get(tag_key(tag), 0))


def parse_groups(text: str) -> Callable[[str], int]:
    """The rank of a tag in a list of groups, one a line: `setting: *background, indoors`; the name is optional.

    `...` is the line of all tags that no group names; without one they come last. Inside a group the order of the list
    counts. Where several fit, a tag spelled out beats a pattern. Raises UserError for a list that names nothing.
    """
    exact: dict[str, int] = {}
    patterns: list[tuple[Callable[[str], bool], int]] = []
    rank, rest = 0, None
    for line in text.splitlines():
        if line.strip() in (EVERYTHING_ELSE, "…", "*"):
            rank, rest = rank + 1, rank
            continue
        for entry in line.partition(":")[2 if ":" in line else 0].split(","):
            if not (key := tag_key(entry)):
                continue
            if "*" in key:
                patterns.append((whole_match(key), rank))
            else:
                exact.setdefault(key, rank)
            rank += 1
    if not exact and not patterns:
        raise UserError("names no tag. Write one group a line, such as: setting: *background, indoors.", "Tag order")
    unnamed = rank if rest is None else rest

    def rank_of(tag: str) -> int:
        key = tag_key(tag)
        if key in exact:
            return exact[key]
        return next((found for matches, found in patterns if matches(key)), unnamed)

    return rank_of
