"""The tool `arrange`: any layout becomes a training folder of hard links, or an index; images stay where they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from captioning.balancing import balanced_repeats
from captioning.dataset_toml import dataset_text
from captioning.layout import Layout, Picture, Subset, understand
from captioning.name_patterns import name_fault
from captioning.picture_files import plain_name
from engine.data.folders import stem_and_suffix
from engine.data.index import IndexedFolder
from engine.errors import Problem, UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted, names_of

TITLE = "Arranging"
ABOUT = "Understands any folder layout and makes a training folder of links, or an index; images stay where they are."

LINK, COPY, WRITE = "link", "copy caption", "write"
_NEW_FOLDER = "-arranged"


class Settings(ToolSettings):
    folder: str = setting(
        "", "A folder of images in any layout, a data-set TOML, or a metadata JSON.", "图像文件夹", kind="folder"
    )
    output: str = setting(
        "",
        "The new folder (or index file); empty makes one beside the old, called NAME-arranged.",
        "输出",
        kind="folder",
    )
    form: Literal["links", "index"] = setting(
        "links",
        "links: a new folder with 10_name in it, which needs no room; index: one data-set TOML that names the folders.",
        "形式",
    )
    repeats: int = setting(0, "Repeats of folders that tell none; 0 takes 1.", "重复次数", ge=0, le=10_000)
    class_word: str = setting("", "The class word of all subsets; empty takes the folders' names.", "类别词")
    subsets: str = setting(
        "", "For single folders, one a line: FOLDER = REPEATS CLASS WORD.", "子集", kind="lines", level="advanced"
    )
    balance: bool = setting(
        False, "Choose repeats so that every class is seen equally.", "平衡", label="Balance classes"
    )
    captions_folder: str = setting(
        "", "A tree of captions laid out as the images are, where it is not found by itself.", "标注文件夹",
        kind="folder", level="advanced",
    )  # fmt: skip


@dataclass(frozen=True)
class _Link:
    """An image, its place in the new folder, and its caption's bytes there."""

    source: Path
    target: Path
    caption_source: Path | None
    caption: Path | None
    text: bytes | None


@dataclass(frozen=True)
class _Plan:
    links: tuple[_Link, ...] = ()
    index: Path | None = None
    index_text: str = ""


def propose(settings: Settings) -> Proposal:
    """What was recognised, and where each image would be. Raises UserError where nothing can be recognised."""
    if not settings.folder:
        raise UserError("is empty. Choose a folder of images, a data-set TOML or a metadata JSON.", "folder")
    captions = Path(settings.captions_folder) if settings.captions_folder else None
    layout = understand(Path(settings.folder), captions)
    subsets = chosen_subsets(layout, settings)
    output = _output(layout.folder, settings)
    problems = [*_output_problems(output, layout, subsets, settings.form), *_name_problems(subsets, settings.form)]
    plan = _index_plan(subsets, output) if settings.form == "index" else _Plan(tuple(_links(subsets, output)))
    rows = _rows(plan, layout)
    counts = ", ".join(f"{subset.repeats} × {len(subset.pictures):,} {subset.class_word}".strip() for subset in subsets)
    summary = f"{layout.sentence} It becomes {output}: {counts}."
    lost = _left_behind(layout, subsets) if settings.form == "links" else []
    return Proposal(tuple(rows), summary, tuple(problems), (*layout.warnings, *lost), plan)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Make the folder or the index. Nothing that is there already is touched."""
    plan: _Plan = proposal.content
    rows = iter(proposal.rows)
    if plan.index is not None:
        report.journal.make_folder(plan.index.parent)
        report.journal.write(plan.index, plan.index_text.encode(errors="surrogateescape"), expected=None)
        report.done(next(rows))
        return
    for link in plan.links:
        if report.is_stop_asked():
            return
        row = next(rows)
        try:
            report.journal.make_folder(link.target.parent)
            report.journal.make_link_or_copy(link.source, link.target)
            report.done(row)
        except UserError as error:
            report.done(row, "failed", str(error))
        if link.caption is not None:
            _copy_caption(link, next(rows), report)


def chosen_subsets(layout: Layout, settings: Settings) -> list[Subset]:
    """The subsets with the repeats and class words that the settings choose; repeats are never None."""
    chosen = _lines(settings.subsets, layout)
    found = []
    for subset in layout.subsets:
        repeats, word = chosen.get(subset.name, (subset.repeats or settings.repeats or 1, ""))
        word = word or settings.class_word.strip() or subset.class_word
        found.append(replace(subset, repeats=repeats, class_word=word))
    if not settings.balance:
        return found
    trained = [subset for subset in found if not subset.is_regularization]
    repeats = balanced_repeats([(subset.class_word, len(subset.pictures)) for subset in trained])
    by_name = dict(zip((subset.name for subset in trained), repeats, strict=True))
    return [replace(subset, repeats=by_name.get(subset.name, subset.repeats)) for subset in found]


def _copy_caption(link: _Link, row: Row, report: Report) -> None:
    if link.caption is None or link.text is None:
        report.done(row, "failed", "the caption cannot be read, so the image has none there.")
        return
    try:
        report.journal.write(link.caption, link.text, expected=None)
        report.done(row)
    except UserError as error:
        report.done(row, "failed", str(error))


def _lines(text: str, layout: Layout) -> dict[str, tuple[int, str]]:
    """{subset: (repeats, class word)} of the setting's lines. Raises UserError for a line that cannot be read."""
    names = [subset.name for subset in layout.subsets]
    found: dict[str, tuple[int, str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, mark, rest = line.partition("=")
        number, _, word = rest.strip().partition(" ")
        if not mark or not number.isdecimal() or int(number) < 1:
            raise UserError(f"has a line that cannot be read (got {line!r}). Write FOLDER = 10 class word.", "subsets")
        if name.strip() not in names:
            what = f"names a folder that is not among the subsets (got {name.strip()!r}). There are {names_of(names)}."
            raise UserError(what, "subsets")
        found[name.strip()] = (int(number), word.strip())
    return found


def made_folder(settings: Settings) -> Path:
    """What a job with these settings made to train on: a folder, or an index."""
    chosen = Path(settings.folder)
    output = _output((chosen.parent if chosen.is_file() else chosen).resolve(), settings)
    return output / "train" if (output / "train").is_dir() else output


def made_settings(settings: Settings) -> dict[str, str]:
    """What a preset says besides the training folder, to train what a job with these settings made."""
    if settings.form == "index":
        return {}  # an index tells all of it
    made = made_folder(settings)
    general = made.with_name("regularization")
    is_there = made.name == "train" and general.is_dir()
    return {"captions.extension": ".txt", **({"data.regularization_folder": str(general)} if is_there else {})}


def _output(folder: Path, settings: Settings) -> Path:
    chosen = Path(settings.output) if settings.output else folder.with_name(folder.name + _NEW_FOLDER)
    if settings.form == "index" and chosen.suffix.lower() != ".toml":
        return chosen.with_name(chosen.name + ".toml")
    return chosen


def _output_problems(output: Path, layout: Layout, subsets: Sequence[Subset], form: str) -> list[Problem]:
    if form == "index":
        aside = [p for subset in subsets for p in subset.pictures if p.text or _is_aside(p)]
        found = (
            [Problem("output", f"is there already and is never overwritten (got {output}).")] if output.exists() else []
        )
        if aside:
            what = f"an index cannot tell {counted(len(aside), 'caption')} that lie elsewhere. Choose links."
            found.append(Problem("form", what))
        return found
    if os.path.lexists(output) and not (output.is_dir() and not any(output.iterdir())):
        return [Problem("output", f"is there already and holds files (got {output}). Choose a new folder.")]
    real = Path(os.path.realpath(output))
    if real == layout.folder or layout.folder in real.parents:
        what = f"lies in the folder of the images, so they would be found twice (got {output}). Choose one beside it."
        return [Problem("output", what)]
    return []


def _name_problems(subsets: Sequence[Subset], form: str) -> list[Problem]:
    """Class words that no folder can be called; folders whose names no index can hold."""
    if form == "index":
        what = "has a name that is not valid UTF-8, so no index can hold it. Rename the folder, or choose links."
        return [Problem(repr(s.name), what) for s in subsets if not _is_text(str(s.folder))]
    words = {subset.class_word: subset for subset in subsets}
    faults = {word: name_fault(f"1_{word}") or ("holds a /" if "/" in word else "") for word in words}
    what = "cannot be a folder's name with its class word ({}: {}). Give another class_word."
    return [Problem(words[word].name, what.format(word, fault)) for word, fault in faults.items() if fault]


def _left_behind(layout: Layout, subsets: Sequence[Subset]) -> list[Problem]:
    """What a data set tells besides, and folders of links cannot hold."""
    keys = sorted({key for subset in subsets for key in subset.told if key != "cache_info"})
    what = f"tells {names_of(keys, 5)} of its folders, which folders of links cannot. Choose form = index to keep that."
    return [Problem(str(layout.folder), what)] if keys else []


def _is_text(name: str) -> bool:
    return os.fsencode(name).decode("utf-8", errors="replace") == name


def _is_aside(picture: Picture) -> bool:
    return picture.caption is not None and picture.caption.parent != picture.image.parent


def _index_plan(subsets: Sequence[Subset], output: Path) -> _Plan:
    told = []
    for subset in subsets:
        suffixes = [picture.caption.suffix for picture in subset.pictures if picture.caption]
        extension = max(sorted(set(suffixes)), key=suffixes.count, default=".txt")
        told.append(
            IndexedFolder(
                str(subset.folder),
                subset.repeats or 1,
                subset.class_word,
                subset.is_regularization,
                extension,
                told=subset.told,
            )
        )
    return _Plan(index=output, index_text=dataset_text(told, "Images stay where they are."))


def _links(subsets: Sequence[Subset], output: Path) -> list[_Link]:
    """Each image's place. Subsets of one class and repeats share a folder; a stem that is taken there gets a number,
    and images of one stem and folder keep sharing it, since they share a caption."""
    has_regularization = any(subset.is_regularization for subset in subsets)
    taken: dict[Path, set[str]] = {}
    found = []
    for subset in subsets:
        top = output / ("regularization" if subset.is_regularization else "train") if has_regularization else output
        folder = top / f"{subset.repeats}_{subset.class_word}".removesuffix("_")
        stems: dict[str, str] = {}
        for picture in subset.pictures:
            old = stem_and_suffix(picture.image.name)[0]
            if first := old not in stems:
                stems[old] = _free_stem(old, taken.setdefault(folder, set()))
            found.append(_link(picture, folder, stems[old], first))
    return found


def _free_stem(stem: str, taken: set[str]) -> str:
    number, free = 1, stem
    while plain_name(free) in taken:
        number += 1
        free = f"{stem}_{number}"
    taken.add(plain_name(free))
    return free


def _link(picture: Picture, folder: Path, stem: str, with_caption: bool) -> _Link:
    target = folder / (stem + picture.image.name[len(stem_and_suffix(picture.image.name)[0]) :])
    if not with_caption or not picture.has_caption:
        return _Link(picture.image, target, None, None, None)
    text = picture.text.encode() + b"\n" if picture.text is not None else _bytes(picture.caption)
    return _Link(picture.image, target, picture.caption, folder / f"{stem}.txt", text)


def _bytes(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError:  # told when the row is done
        return None


def _rows(plan: _Plan, layout: Layout) -> list[Row]:
    if plan.index is not None:
        return [Row(str(layout.folder), WRITE, str(plan.index), "the index")]
    rows = []
    for link in plan.links:
        rows.append(Row(str(link.source), LINK, str(link.target)))
        if link.caption is not None:
            note = "" if link.caption_source else "from the metadata file"
            rows.append(Row(str(link.caption_source or link.source), COPY, str(link.caption), note))
    return rows
