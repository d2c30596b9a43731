"""What can be done to many captions at once. A new operation is one entry of OPERATIONS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from captioning.bench import affixes, ordering, spellings, tag_changes
from captioning.bench.ordering import alphabetical, by_frequency, parse_groups
from captioning.bench.regex_replace import replaced
from captioning.bench.tag_changes import tag_list
from captioning.bench.texts import change_lines, change_tags, without_repeats
from engine.errors import UserError

Change = Callable[[Sequence[str]], list[str]]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Field:
    """One entry of an operation's form. `choices` (value → words) makes it a list to choose from."""

    name: str
    label: str
    kind: Literal["text", "lines", "check", "choice"] = "text"
    default: str | bool = ""
    about: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What an operation may know of the folder: the separator, and how many captions have each spelling of a tag."""

    separator: str
    spelling_counts: Mapping[str, int]


@dataclass(frozen=True)
class Operation:
    """`build` gives the change of a form's values; it raises UserError for values that cannot be used."""

    title: str
    about: str
    fields: tuple[Field, ...]
    build: Callable[[Values, Context], Change]


def each_line(change: Callable[[str], str]) -> Change:
    return lambda texts: [change_lines(text, change) for text in texts]


def each_tags(context: Context, change: Callable[[list[str]], list[str]]) -> Change:
    return lambda texts: [change_tags(text, context.separator, change) for text in texts]


def _text(values: Values, name: str, label: str) -> str:
    """A form's text, which must hold something."""
    text = str(values.get(name) or "")
    if not text.strip():
        raise UserError("is empty. Write something there.", label)
    return text


def _replace_tag(values: Values, context: Context) -> Change:
    olds = tag_list(_text(values, "old", "Tag"), context.separator)
    return each_tags(context, tag_changes.replacing(olds, tag_list(_text(values, "new", "New tag"), context.separator)))


def _delete_tag(values: Values, context: Context) -> Change:
    return each_tags(context, tag_changes.deleting(tag_list(_text(values, "old", "Tags"), context.separator)))


def _add_tag(values: Values, context: Context) -> Change:
    new = tag_list(_text(values, "new", "Tags"), context.separator)
    return each_tags(context, tag_changes.adding(new, at_start=values.get("place") == "start"))


def _trigger(values: Values, context: Context) -> Change:
    words = tag_list(_text(values, "word", "Trigger word"), context.separator)
    if len(words) != 1:
        raise UserError(f"is one tag, without {context.separator!r} in it (got {values['word']!r}).", "Trigger word")
    return each_tags(context, tag_changes.putting_first(words[0]))


def _find_replace(values: Values, context: Context) -> Change:
    find, new = str(values.get("find") or ""), str(values.get("new") or "")
    if not find:
        raise UserError("is empty. Write what is to be found.", "Find")
    match_case = bool(values.get("match_case"))
    if values.get("regular"):
        return lambda texts: replaced(texts, find, new, match_case)
    return lambda texts: [tag_changes.replace_plain(text, find, new, match_case) for text in texts]


def _one_line(values: Values) -> str:
    text = _text(values, "text", "Text")
    if len(f"{text}x".splitlines()) > 1:
        raise UserError(f"is one line (got {text!r}). Take the line break out.", "Text")
    return text


def _prefix(values: Values, context: Context) -> Change:
    text = _one_line(values)
    change = affixes.without_prefix if values.get("mode") == "remove" else affixes.with_prefix
    return each_line(lambda line: change(line, text))


def _suffix(values: Values, context: Context) -> Change:
    text = _one_line(values)
    change = affixes.without_suffix if values.get("mode") == "remove" else affixes.with_suffix
    return each_line(lambda line: change(line, text, context.separator))


def _dedupe(values: Values, context: Context) -> Change:
    return each_tags(context, without_repeats)


def _tidy(values: Values, context: Context) -> Change:
    return each_line(lambda line: tag_changes.tidied(line, context.separator))


def _sort(values: Values, context: Context) -> Change:
    keep = tag_changes.whole_number(values.get("keep"), "Tags that stay in front")
    if values.get("by") == "frequency":
        counts = tag_changes.key_counts(context.spelling_counts)
        return each_tags(context, lambda tags: [*tags[:keep], *by_frequency(tags[keep:], counts)])
    return each_tags(context, lambda tags: [*tags[:keep], *alphabetical(tags[keep:])])


def _order(values: Values, context: Context) -> Change:
    rank = parse_groups(_text(values, "groups", "Tag order"))
    keep = tag_changes.whole_number(values.get("keep"), "Tags that stay in front")
    return each_tags(context, lambda tags: [*tags[:keep], *sorted(tags[keep:], key=rank)])


def _spellings(values: Values, context: Context) -> Change:
    preferred = str(values.get("preferred") or "frequent")
    if preferred not in ("frequent", "blanks", "underscores"):
        raise UserError(f"is one of frequent, blanks, underscores (got {preferred!r}).", "Spelling to keep")
    left_out = {tag.casefold() for tag in tag_list(str(values.get("except") or ""), context.separator)}
    kept: dict[str, str] = {}
    for group in spellings.variants(context.spelling_counts, preferred):
        if not left_out & {spelling.casefold() for spelling, _ in group.spellings}:
            kept |= {spelling: group.kept for spelling, _ in group.spellings}
    return each_tags(context, lambda tags: tag_changes.respelled(tags, kept))


def _set_caption(values: Values, context: Context) -> Change:
    text = str(values.get("text") or "").strip()
    return lambda texts: [text] * len(texts)


_KEEP = Field("keep", "Tags that stay in front", default="0", about="The trigger word, for example: 1.")
_ADD_REMOVE = {"add": "Add where it is missing", "remove": "Remove where it is"}

OPERATIONS: dict[str, Operation] = {
    "replace_tag": Operation(
        "Rename or replace a tag",
        "Every caption that has the tag gets the new one in its place; a tag is never there twice.",
        (
            Field("old", "Tag", about="Several with commas; * stands for any letters."),
            Field("new", "New tag", about="Several with commas split the tag."),
        ),
        _replace_tag,
    ),
    "delete_tag": Operation(
        "Delete tags", "They are taken out of every caption.",
        (Field("old", "Tags", about="With commas between them; * stands for any letters."),), _delete_tag,
    ),
    "add_tag": Operation(
        "Add tags", "Captions that have a tag already keep it where it is.",
        (
            Field("new", "Tags", about="With commas between them."),
            Field("place", "Where", "choice", "end", choices={"start": "At the start", "end": "At the end"}),
        ),
        _add_tag,
    ),
    "find_replace": Operation(
        "Find and replace", "In the whole text of a caption, not tag by tag.",
        (
            Field("find", "Find"),
            Field("new", "Replace with", about="Empty: what is found is removed."),
            Field("regular", "Regular expression", "check", False, "Groups of the match are \\1, \\2 in the new text."),
            Field("match_case", "Match case", "check", False),
        ),
        _find_replace,
    ),
    "trigger": Operation(
        "Trigger word first",
        "The word is put in front of each caption, once, wherever it stood. With shuffling, keep 1 tag in place.",
        (Field("word", "Trigger word"),), _trigger,
    ),
    "prefix": Operation(
        "Text in front", "Twice is once: captions that begin with it stay as they are.",
        (Field("text", "Text", about="As it stands, with its comma or blank at the end."),
         Field("mode", "What", "choice", "add", choices=_ADD_REMOVE)), _prefix,
    ),
    "suffix": Operation(
        "Text at the end", "Twice is once: captions that end with it stay as they are.",
        (Field("text", "Text", about="As it stands, with its comma or blank at the start."),
         Field("mode", "What", "choice", "add", choices=_ADD_REMOVE)), _suffix,
    ),
    "dedupe": Operation("Remove repeated tags", "Each tag stays at its first place.", (), _dedupe),
    "tidy": Operation(
        "Tidy", "Blanks and separators in one form, empty and repeated tags out.", (), _tidy,
    ),
    "sort": Operation(
        "Sort tags", "By the alphabet, or by how many captions of the folder have the tag.",
        (Field("by", "By", "choice", "alphabet", choices={"alphabet": "Alphabet", "frequency": "Frequency"}), _KEEP),
        _sort,
    ),
    "order": Operation(
        "Order tags by groups",
        "One list says which tags come first. One group a line; * stands for any letters, the line ... for all others.",
        (Field("groups", "Tag order", "lines", ordering.GROUPS), _KEEP), _order,
    ),
    "spellings": Operation(
        "Merge spellings", "long_hair, Long Hair and long hair become one tag.",
        (
            Field("preferred", "Spelling to keep", "choice", "frequent", choices={
                "frequent": "The most frequent", "blanks": "It, with blanks", "underscores": "It, with underscores"}),
            Field("except", "Leave alone", about="Tags with commas between them."),
        ),
        _spellings,
    ),
    "set_caption": Operation(
        "Same caption for all", "Replaces the whole text.", (Field("text", "Caption", "lines"),), _set_caption,
    ),
}  # fmt: skip
