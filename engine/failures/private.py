"""Keeps to oneself what a report must not tell: keys, user names, computers' names, paths, images' names, own texts."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from engine.home import home
from engine.preset import ROOT, SETTINGS, Preset, resolve
from engine.run import RunFolder
from engine.secrets import masked, redacted

# What follows a known folder, blanks included, to the end of a path or the beginning of another one
_TAIL = r"(?:[\\/](?:(?!\s[A-Za-z]:[\\/])[^\n:'\"“”<>|*?,;()\[\]])*)?"
_HOME = r"(?:[^\\/\n:'\"<>|*?]{1,40}(?=[\\/])|[^\\/\s:'\"]+)"  # a user's folder; with blanks where more follows
_HOMES = re.compile(r"(?i)(?:/home/|/Users/|[a-z]:[\\/]+Users[\\/]+)" + _HOME + _TAIL)
_PATHS = re.compile(
    r"(?<![\w<>/.])(?:~?/(?:[\w.@+-]+/)+[\w.@+ -]*|[A-Za-z]:[\\/][^\n:'\"<>|*?,;()]*|\\\\[^\n:'\"<>|*?,;()]+)"
)
_KEPT = re.compile(r"^(?:/proc|/dev|/sys|/usr|/lib|/opt/conda)(?:/|$)")
_IMAGES = re.compile(
    r"[\w@+~-][\w .@+~()-]*\.(?:png|jpe?g|webp|bmp|tiff?|avif|jxl|gif|heic|txt|caption)\b", re.IGNORECASE
)
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,12}$")
_SHORTEST = 3  # shorter names are parts of too many words


class Private:
    """Hides what is private about a run and this machine. `hide` may be given any text, and hides the same alike."""

    def __init__(self, run: RunFolder, preset: Preset) -> None:
        self._folders = sorted(_folders(run, preset), key=lambda pair: -len(pair[0]))
        self._words = sorted(_words(run, preset), key=lambda pair: -len(pair[0]))

    def hide(self, text: str) -> str:
        """The text without anything private."""
        text = masked(redacted(text))
        for folder, mark in self._folders:
            keeps_rest = mark in ("<Atelier>", "<Python>")
            pattern = re.escape(folder) + (r"(?=[\\/\s'\":,;)]|$)" if keeps_rest else _TAIL)
            text = re.sub(pattern, mark if keeps_rest else lambda found, mark=mark: mark + _ending(found[0]), text)
        text = _HOMES.sub(lambda found: "<home>" + _ending(found[0]), text)
        text = _PATHS.sub(_path, text)
        for word, mark in self._words:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", mark, text, flags=re.IGNORECASE)
        return _IMAGES.sub(lambda found: "<file>" + _ending(found[0]), text)


def _path(found: re.Match[str]) -> str:
    return found[0] if _KEPT.match(found[0]) else "<path>" + _ending(found[0])


def _ending(path: str) -> str:
    ending = _ENDING.search(path.rstrip())
    return ending[0] if ending else ""


def _folders(run: RunFolder, preset: Preset) -> Iterator[tuple[str, str]]:
    """Known folders and files, and what stands for them. Those of the program keep what follows them."""
    for path, mark in ((ROOT, "<Atelier>"), (Path(sysconfig.get_path("purelib")), "<Python>")):
        yield from ((text, mark) for text in {str(path), str(path.resolve())})
    places = [(run.path, "<run>"), (home() / "runs", "<runs>"), (Path.home(), "<home>")]
    places += [(resolve(str(preset.get(item.path))), f"<{item.path}>") for item in _paths_of(preset)]
    for path, mark in places:
        yield from ((text, mark) for text in {str(path), str(path.resolve())} if len(text) > _SHORTEST)


def _paths_of(preset: Preset):
    texts = [item for item in SETTINGS if item.type is str and not item.choices and preset.get(item.path)]
    return [
        item for item in texts if re.search(r"[\\/]", str(preset.get(item.path))) and "\n" not in preset.get(item.path)
    ]


def _words(run: RunFolder, preset: Preset) -> Iterator[tuple[str, str]]:
    """Names and own texts, and what stands for them."""
    for name in _user_names():
        yield name, "<user>"
    yield from (
        (name, "<computer>") for name in {platform.node(), platform.node().partition(".")[0]} if len(name) >= _SHORTEST
    )
    for item in SETTINGS:
        value = preset.get(item.path)
        if item.type is str and not item.choices and value != item.default:
            yield from (
                (line.strip(), f"<{item.path}>") for line in value.split("\n") if len(line.strip()) >= _SHORTEST
            )
    yield from (
        (text.strip(), "<own text>") for text in (preset.about, preset.author) if len(text.strip()) >= _SHORTEST
    )
    if len(run.name) >= _SHORTEST:
        yield run.name, "<run>"
    yield from _image_names(run)


def _user_names() -> set[str]:
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")} | {Path.home().name}
    try:
        names.add(getpass.getuser())
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        names.discard("")
    return {name for name in names if len(name) >= _SHORTEST}


def _image_names(run: RunFolder) -> Iterator[tuple[str, str]]:
    """The names of images and subsets, from the run's plan."""
    try:
        plan = json.loads(run.plan.read_text(encoding="utf-8"))
        images = [Path(str(image["path"])) for image in plan.get("images", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for number, image in enumerate(images[:5000], 1):
        yield image.name, f"<image {number}>"
        if len(image.stem) > _SHORTEST and not image.stem.isdecimal():
            yield image.stem, f"<image {number}>"
    for subset in {image.parent.name for image in images}:
        yield subset, "<subset>"
