"""Wildcards in prompts: `__name__` is a drawn line of the file name.txt, `{red|green}` one of the choices. Torch-free.

The same seed draws the same. Lines may hold further wildcards; empty lines and those that begin with # are left out.
`__animals/cats__` is the file cats.txt in the folder animals; `{{` and `}}` are braces (engine/data/wildcards.py).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from engine.data.wildcards import expand_wildcards
from engine.draws import draw_below
from engine.errors import UserError

MOST_BYTES = 8 * 1024 * 1024  # of one file
MOST_CHARACTERS = 100_000  # of a prompt after drawing
MOST_FILES = 20_000  # that are looked at for names like the missing one
_NAME = re.compile(r"__(?=[^\W_])([\w\-/ .]*?[^\W_])__")


def drawn_wildcards(text: str, seed: int, folder: Path | None) -> str:
    """The prompt with one choice for each wildcard. `folder`: where the .txt files are; None: there are none.

    Raises UserError for a name without a file, a file without lines, wildcards that lead back to themselves, and a
    prompt that grows beyond `MOST_CHARACTERS`.
    """
    places = iter(range(10**9))
    lines: dict[str, list[str]] = {}

    def drawn(part: str, within: tuple[str, ...]) -> str:
        found: list[str] = []
        at = 0
        for mark in _NAME.finditer(part):
            name = mark[1]
            if name in within:
                what = f"the wildcard __{name}__ leads back to itself. Take it out of its own file."
                raise UserError(what, "prompt")
            if name not in lines:
                lines[name] = _lines(name, folder)
            chosen = lines[name][draw_below(len(lines[name]), "wildcard file", seed, next(places))]
            found += [part[at : mark.start()], drawn(chosen, (*within, name))]
            at = mark.end()
            if sum(map(len, found)) > MOST_CHARACTERS:
                what = f"the prompt is longer than {MOST_CHARACTERS:,} characters after its wildcards are drawn."
                raise UserError(f"{what} Use fewer of them.", "prompt")
        return "".join([*found, part[at:]])

    whole = drawn(text, ())
    return expand_wildcards(whole, lambda count, place: draw_below(count, "wildcard", seed, place))


def has_wildcards(text: str) -> bool:
    """Whether drawing would change the text."""
    return bool(_NAME.search(text)) or "{" in text or "}" in text


def _lines(name: str, folder: Path | None) -> list[str]:
    if folder is None:
        what = f"the prompt has the wildcard __{name}__, but no folder of wildcard files is given. Give one."
        raise UserError(what, "prompt")
    path = folder / f"{name}.txt"
    if ".." in Path(name).parts or not path.is_file():
        near = difflib.get_close_matches(name, list(_names(folder)), n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(f'__{other}__' for other in near)}?" if near else "Check the name."
        raise UserError(f"there is no wildcard file {name}.txt. {hint}", str(folder))
    try:
        if path.stat().st_size > MOST_BYTES:
            what = f"this wildcard file is larger than {MOST_BYTES // 1024**2} MB. Split it."
            raise UserError(what, str(path))
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("this wildcard file is not UTF-8 text. Save it as UTF-8.", str(path)) from None
    except OSError as error:
        raise UserError(f"this wildcard file cannot be read ({error.strerror}).", str(path)) from None
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    if not kept:
        raise UserError("this wildcard file has no lines. Write one choice per line.", str(path))
    return kept


def _names(folder: Path) -> Iterator[str]:
    looked = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            looked += 1
            if looked > MOST_FILES:
                return
            if file.endswith(".txt"):
                yield (Path(parent) / file).relative_to(folder).with_suffix("").as_posix()
