"""Clean-up: what is no use in a training folder is moved to a quarantine folder, never deleted. Torch-free."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captioning.caption_files import caption_text
from engine.data.captions import CAPTION_SUFFIXES
from engine.data.folders import SET_ASIDE, image_suffixes, natural_order, repeats_and_name, stem_and_suffix
from engine.data.headers import read_image_header, refusal_of_size
from engine.data.looks import Look, Looks
from engine.data.near_same import PrintTable
from engine.data.scan_report import folder_fault
from engine.errors import DatasetError, Problem, UserError
from engine.preset import Preset, resolve
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Clean up"
ABOUT = (
    "Moves what is no use to a quarantine folder: system folders, broken and empty files, duplicates, stray captions."
)

# What tools and systems leave behind. Other hidden folders (.git, .venv) are somebody's work: they are never entered.
LEFT_BEHIND_FOLDERS = frozenset((".ipynb_checkpoints", "__macosx", "@eadir", "thumbs", "thumbnails", ".thumbnails"))
LEFT_BEHIND_FILES = frozenset(("thumbs.db", ".ds_store", "desktop.ini", "ehthumbs.db"))
NO_CAPTIONS = frozenset(("readme", "license", "licence", "notes", "metadata", "tags", "captions", "prompts", "todo"))
_SET_ASIDE = "set aside"


class Settings(ToolSettings):
    folder: str = setting("", "The folder to clean up, with all folders in it.", "要清理的文件夹", kind="folder")
    target: str = setting(
        "",
        "The quarantine folder; empty: beside the folder, called NAME (set aside).",
        "隔离文件夹",
        label="Quarantine folder",
        kind="folder",
        level="advanced",
    )
    left_behind: bool = setting(
        True,
        "Set aside what systems and tools leave behind, such as .ipynb_checkpoints, __MACOSX, thumbs and .DS_Store.",
        "系统残留文件",
        label="Leftovers of systems and tools",
    )
    broken: bool = setting(
        True,
        "Set aside images that cannot be decoded, and files of zero bytes; their captions go along.",
        "损坏图像",
        label="Broken images",
    )
    duplicates: bool = setting(
        True, "Of images with the same bytes keep one, the one with a caption first.", "重复图像"
    )
    near_same: bool = setting(
        False,
        "Of nearly the same pictures (resized, saved again) keep the largest; look at the table first.",
        "近似图像",
        label="Nearly the same pictures",
    )
    near_same_bits: int = setting(
        4,
        "In how many of 64 bits two pictures may differ to be nearly the same; more finds more, and more wrongly.",
        "近似位数",
        ge=0,
        le=16,
        unit="bits",
        level="advanced",
        when={"clean.near_same": True},
    )
    stray_captions: bool = setting(
        True, "Set aside caption files without an image of their name, in folders that hold images.", "无图标注"
    )


@dataclass
class _Found:
    """What lies in the folder. `by_folder`: the names of the files of each; `links` are no files of their own, so they
    and what they lead to are never compared."""

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    by_folder: dict[Path, list[str]] = field(default_factory=dict)
    links: set[Path] = field(default_factory=set)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def images(self) -> list[Path]:
        paths = [folder / name for folder, names in self.by_folder.items() for name in names if _is_image(name)]
        return [path for path in paths if path not in self.links]


@dataclass
class _Choice:
    """What is to be set aside, with the reason; and what was left out of it, with the reason."""

    folder: Path
    target: Path
    reasons: dict[Path, str] = field(default_factory=dict)
    kept_instead: dict[Path, Path] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)


def propose(settings: Settings) -> Proposal:
    """One row for each file or folder that would be moved. Raises UserError where the folder cannot be used."""
    folder = _folder(settings.folder)
    choice = _Choice(folder, _target(folder, settings.target))
    found = _Found()
    _walk(folder, choice.target, found)
    choice.warnings += found.warnings
    if settings.left_behind:
        choice.reasons |= dict.fromkeys(found.folders, "left by a system or tool; training passes it over")
        choice.reasons |= dict.fromkeys(found.files, "left by a system or tool")
    looks = _looks(found.images) if settings.broken or settings.duplicates or settings.near_same else {}
    if settings.broken:
        _choose_broken(looks, found, choice)
    if settings.duplicates:
        _choose_duplicates(looks, found, choice)
    if settings.near_same:
        _choose_near_same(looks, settings.near_same_bits, choice)
    _take_captions_along(found, choice)
    if settings.stray_captions:
        _choose_strays(found, choice)
    rows = _rows(choice)
    summary = f"{counted(len(rows), 'item')} of {folder} would be moved to {choice.target}."
    if not rows:
        summary = f"Nothing in {folder} needs to be set aside."
    return Proposal(rows, summary, warnings=tuple(choice.warnings), content=choice)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Move each row; a file that went away or whose kept twin did is left."""
    choice: _Choice = proposal.content
    for row in proposal.rows:
        if report.is_stop_asked():
            return
        source = Path(row.source)
        kept = choice.kept_instead.get(source)
        try:
            if kept is not None and not kept.is_file():
                raise UserError(f"{kept.name}, which was to be kept in its place, is gone. So it stays.", row.source)
            report.journal.make_folder(Path(row.target).parent)
            report.journal.move(source, Path(row.target))
        except UserError as error:
            report.done(row, "failed", error.problems[0].message)
        else:
            report.done(row)


def _folder(text: str) -> Path:
    if not text:
        raise DatasetError("no folder is given. Choose the folder to clean up.", "folder")
    folder = resolve(text)
    if fault := folder_fault(folder, regularization=False):
        raise DatasetError(fault.message, "folder")
    return folder


def _target(folder: Path, text: str) -> Path:
    """The quarantine folder. That of a subset such as 10_cat lies beside the training folder, not in it."""
    outer, below = folder, Path()
    while repeats_and_name(outer.name) and outer.parent != outer.parent.parent:
        outer, below = outer.parent, Path(outer.name) / below
    target = resolve(text) if text else outer.with_name(outer.name + SET_ASIDE) / below
    if target.is_relative_to(folder):
        what = f"lies in the folder that is cleaned up (got {target}). Choose one outside of it, on the same disk."
        raise UserError(what, "target")
    return target


def _walk(folder: Path, target: Path, found: _Found) -> None:
    """Fill `found`. Links to folders, hidden folders of others and quarantine folders are not entered."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: natural_order(entry.name))
    except OSError as error:
        what = f"cannot be opened ({error.strerror}), so it is left. Change its permissions."
        found.warnings.append(Problem(str(folder), what))
        return
    files: list[str] = []
    for entry in listed:
        path, name = folder / entry.name, entry.name.lower()
        if entry.is_dir(follow_symlinks=False):
            if name in LEFT_BEHIND_FOLDERS:
                found.folders.append(path)
            elif not (name.startswith(".") or name.endswith(SET_ASIDE) or path == target):
                _walk(path, target, found)
        elif entry.is_file(follow_symlinks=True):
            if name in LEFT_BEHIND_FILES or (name.startswith("._") and len(name) > 2):
                found.files.append(path)
            elif not name.startswith("."):
                files.append(entry.name)
                if entry.is_symlink():
                    found.links.add(path)
    found.by_folder[folder] = files


def cache_folder() -> Path:
    """Where looks are remembered: with what training remembers of files."""
    return resolve(Preset().data.cache_folder)


def _is_image(name: str) -> bool:
    return name.lower().endswith(tuple(image_suffixes()))


def _looks(images: Sequence[Path]) -> dict[Path, Look]:
    with Looks(cache_folder()) as looks:
        return dict(zip(images, looks.of_all(images), strict=True))


def _choose_broken(looks: dict[Path, Look], found: _Found, choice: _Choice) -> None:
    for path, look in looks.items():
        if look.fault and look.is_certain and not _is_too_large(path):
            choice.reasons[path] = f"broken: {look.fault}"
        elif look.fault:
            choice.warnings.append(Problem(str(path), look.fault))
    for folder, names in found.by_folder.items():
        for path in (folder / name for name in names if not _is_image(name)):
            if stem_and_suffix(path.name)[1] not in CAPTION_SUFFIXES and not path.stat().st_size:
                choice.reasons[path] = "empty: 0 bytes"


def _is_too_large(path: Path) -> bool:
    """Whether the image is whole, as far as its header tells, but more than can be decoded here."""
    try:
        return refusal_of_size(read_image_header(path)) is not None
    except DatasetError:
        return False


def _choose_duplicates(looks: dict[Path, Look], found: _Found, choice: _Choice) -> None:
    """Of each group of equal files all but one, unless two have different captions: that is told instead."""
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path, look in looks.items():
        if look.digest and path not in choice.reasons:
            groups[look.digest].append(path)
    for group in groups.values():
        if len(group) < 2:
            continue
        texts = {path: _captions_text(path, found) for path in group}
        first = min(group, key=lambda path: (not texts[path], group.index(path)))
        for path in group:
            if path == first:
                continue
            if texts[path] and texts[path] != texts[first]:
                what = f"is the same file as {first}, but has another caption, so both stay. Choose one yourself."
                choice.warnings.append(Problem(str(path), what))
            else:
                choice.reasons[path] = f"the same file as {first}"
                choice.kept_instead[path] = first


def _choose_near_same(looks: dict[Path, Look], bits: int, choice: _Choice) -> None:
    """Each picture that is nearly the same as one that is kept; larger pictures are kept first."""
    paths = [path for path, look in looks.items() if look.print is not None and path not in choice.reasons]
    by_size = sorted(paths, key=lambda path: (-_pixels(path), -path.stat().st_size, paths.index(path)))
    prints = [look.print for look in (looks[path] for path in by_size) if look.print is not None]
    table = PrintTable(prints)
    gone: set[int] = set()
    for index, kept in enumerate(by_size):
        if index in gone:
            continue
        near, apart = table.near(index, bits)
        for other, distance in zip(near.tolist(), apart.tolist(), strict=True):
            same_file = looks[by_size[other]].digest == looks[kept].digest
            if other > index and other not in gone and not same_file:
                gone.add(other)
                choice.reasons[by_size[other]] = f"nearly the same picture as {kept} ({distance} of 64 bits differ)"
                choice.kept_instead[by_size[other]] = kept


def _pixels(path: Path) -> int:
    width_px, height_px = read_image_header(path).size_px
    return width_px * height_px


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", stem_and_suffix(name)[0])


def _captions_of(path: Path, found: _Found) -> list[Path]:
    stem = _stem(path.name)
    names = found.by_folder[path.parent]
    return [path.parent / n for n in names if stem_and_suffix(n)[1] in CAPTION_SUFFIXES and _stem(n) == stem]


def _captions_text(path: Path, found: _Found) -> str:
    return "\n".join(text for caption in _captions_of(path, found) if (text := caption_text(caption.read_bytes())))


def _take_captions_along(found: _Found, choice: _Choice) -> None:
    """The captions of images that go, unless another file of that name stays."""
    for path in [path for path in choice.reasons if path.parent in found.by_folder and _is_image(path.name)]:
        others = [
            path.parent / name
            for name in found.by_folder[path.parent]
            if _stem(name) == _stem(path.name) and stem_and_suffix(name)[1] not in CAPTION_SUFFIXES
        ]
        if all(other in choice.reasons for other in others):
            choice.reasons |= dict.fromkeys(_captions_of(path, found), f"the caption of {path.name}")


def _choose_strays(found: _Found, choice: _Choice) -> None:
    for folder, names in found.by_folder.items():
        captions = [name for name in names if stem_and_suffix(name)[1] in CAPTION_SUFFIXES]
        if len(captions) == len(names) or not any(map(_is_image, names)):
            continue  # a folder of captions only may be a mirror of another one
        stems = {_stem(name) for name in names if name not in set(captions)}
        for name in captions:
            if _stem(name) not in stems and _stem(name).lower() not in NO_CAPTIONS:
                choice.reasons.setdefault(folder / name, "a caption without an image of its name")


def _rows(choice: _Choice) -> tuple[Row, ...]:
    taken: set[Path] = set()
    rows = []
    for path in sorted(choice.reasons, key=lambda path: [natural_order(part) for part in path.parts]):
        target = next(name for name in _names(choice.target / path.relative_to(choice.folder)) if name not in taken)
        taken.add(target)
        rows.append(Row(str(path), _SET_ASIDE, str(target), choice.reasons[path]))
    return tuple(rows)


def _names(wanted: Path) -> Iterator[Path]:
    """`wanted`, else the same with a number, of names that nothing has yet."""
    if not os.path.lexists(wanted):
        yield wanted
    number = 2
    while True:
        other = wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        if not os.path.lexists(other):
            yield other
        number += 1
