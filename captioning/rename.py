"""The tool `rename`: images are numbered and named after their folders, by a pattern; captions and masks go along."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from captioning.name_patterns import Pattern, class_word, name_fault, parse_pattern
from captioning.picture_files import Group, groups_of, listings_of, name_key, names_in, plain_name
from captioning.rename_order import Renaming, Step, in_order
from engine.data.folders import Listing, stem_and_suffix
from engine.errors import Problem, UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Renaming"
ABOUT = "Names images after their folders, by a pattern; captions and masks go along, and nothing is overwritten."

RENAME, KEEP = "rename", "keep"


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    pattern: str = setting(
        "{path}_{n:02}",
        "How images are called: {path} the folders' names, {class} the last folder, {stem} the old name, {n} a number.",
        "命名规则",
    )
    separator: str = setting("_", "What stands between the folders' names in {path}.", "分隔符", level="advanced")
    from_top: bool = setting(
        True, "Begin {path} with the name of the chosen folder itself.", "包含顶层文件夹", level="advanced"
    )
    first_number: int = setting(
        1, "The number of the first image in each folder.", "起始编号", ge=0, le=1_000_000, level="advanced"
    )
    companions: str = setting(
        "",
        "Other folders, one a line, whose files of the same names go along: masks, or captions in a tree of their own.",
        "附属文件夹",
        kind="lines",
        level="advanced",
    )


def propose(settings: Settings) -> Proposal:
    """New names for all images. Raises UserError for a pattern or folder that cannot be used."""
    pattern = parse_pattern(settings.pattern)
    if fault := name_fault(f"a{settings.separator}a"):
        raise UserError(f"{fault} (got {settings.separator!r}). Use _ or -.", "separator")
    others = [_other_folder(line.strip()) for line in settings.companions.splitlines() if line.strip()]
    root, listings, unlisted = listings_of(settings.folder)
    groups = [(group, path) for listing in listings for group, path in _named(listing, root, pattern, settings, others)]
    renamings = [Renaming(group.files, tuple(_target(file, stem) for file in group.files)) for group, stem in groups]
    problems = [*_faults(groups), *_shared(groups), *_collisions(renamings), *_not_writable(renamings)]
    rows = []
    for (group, _), renaming in zip(groups, renamings, strict=True):
        for source, target in zip(renaming.sources, renaming.targets, strict=True):
            note = "" if source in group.images else "goes along"
            rows.append(Row(str(source), RENAME if source != target else KEEP, str(target), note))
    steps = tuple(in_order(renamings)) if not problems else ()
    changed = sum(row.action == RENAME for row in rows)
    summary = f"{counted(changed, 'file')} to rename, {len(rows) - changed:,} called so already."
    return Proposal(tuple(rows), summary, tuple(problems), tuple(unlisted), steps)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Rename. A stop is taken where no file has a name for the time being."""
    rows = {row.source: row for row in proposal.rows}
    for row in proposal.rows:
        if row.action == KEEP:
            report.done(row, "kept")
    for step in proposal.content:
        if step.may_stop and report.is_stop_asked():
            return
        _move(step, rows[str(step.original)], report)


def _move(step: Step, row: Row, report: Report) -> None:
    try:
        report.journal.move(step.source, step.target)
    except UserError as error:
        report.done(row, "failed", _failure(step, str(error), report))
        return
    if step.is_last:
        report.done(row)


def _failure(step: Step, message: str, report: Report) -> str:
    """Where a file stands under a name for the time being, it gets its old one back, if that is free."""
    if step.source == step.original:
        return message
    try:
        report.journal.move(step.source, step.original)
    except UserError:
        return f"{message} It is called {step.source.name} now; undo the job to put it back."
    return message


def _named(
    listing: Listing, root: Path, pattern: Pattern, settings: Settings, others: list[Path]
) -> Iterator[tuple[Group, str]]:
    """Each group of a folder with its new stem; numbers whose name a foreign file has are left out."""
    groups = groups_of(listing, others)
    ours = {file.name for group in groups for file in group.files if file.parent == listing.folder}
    foreign = {plain_name(stem_and_suffix(name)[0]) for name in names_in(listing.folder) if name not in ours}
    values = _values(listing, root, settings)
    number = settings.first_number
    for group in groups:
        stem = pattern.name({**values, "stem": group.stem, "n": number})
        while pattern.is_numbered and plain_name(stem) in foreign:
            number += 1
            stem = pattern.name({**values, "stem": group.stem, "n": number})
        number += 1
        yield group, stem


def _values(listing: Listing, root: Path, settings: Settings) -> dict[str, str]:
    parts = [part for part in listing.name.split("/") if part]
    if settings.from_top or not parts:
        parts.insert(0, root.name)
    parent = parts[-1]
    return {
        "path": settings.separator.join(class_word(part) for part in parts),
        "class": class_word(parent),
        "parent": parent,
    }


def _target(file: Path, stem: str) -> Path:
    """The new path of a file; its suffix stays as it is written."""
    return file.with_name(stem + file.name[len(stem_and_suffix(file.name)[0]) :])


def _other_folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no such folder (got {text}). Check the path.", "companions")
    return folder.resolve()


def _faults(groups: list[tuple[Group, str]]) -> list[Problem]:
    return [
        Problem(str(group.images[0]), f"{fault} (got {stem!r}). Change the pattern or the folder's name.")
        for group, stem in groups
        if (fault := name_fault(stem))
    ]


def _shared(groups: list[tuple[Group, str]]) -> list[Problem]:
    """Files of other folders that go along with several images cannot be called like all of them."""
    owners: dict[Path, list[str]] = defaultdict(list)
    for group, _ in groups:
        for file in group.companions:
            owners[file].append(f"{group.place}/{group.stem}".lstrip("/"))
    what = "belongs to several images ({}), so it cannot go along. Put it into a folder as the image's is called."
    return [Problem(str(file), what.format(" and ".join(names))) for file, names in owners.items() if len(names) > 1]


def _collisions(renamings: list[Renaming]) -> list[Problem]:
    """Two files for one name, also where only case or Unicode form differ; and names that another file has."""
    by_key: dict[tuple[str, str], list[Path]] = defaultdict(list)
    sources = {source for renaming in renamings for source in renaming.sources}
    for renaming in renamings:
        for source, target in zip(renaming.sources, renaming.targets, strict=True):
            by_key[name_key(target)].append(source)
    taken = _taken(renamings, sources)
    found = []
    for key, files in by_key.items():
        others = sorted({*files, *taken.get(key, [])})
        if len(files) > 1 or key in taken:
            names = " and ".join(path.name for path in others[:4])
            what = f"would be called alike: {names} (as {key[1]}). Use a pattern with {{n}}, or rename one first."
            found.append(Problem(key[0], what))
    return found


def _taken(renamings: list[Renaming], sources: set[Path]) -> dict[tuple[str, str], list[Path]]:
    """Files that stay and so hold their names."""
    folders = {target.parent for renaming in renamings for target in renaming.targets}
    stay = [folder / name for folder in folders for name in names_in(folder) if folder / name not in sources]
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in stay:
        found[name_key(path)].append(path)
    return found


def _not_writable(renamings: list[Renaming]) -> list[Problem]:
    by_effective = os.access in os.supports_effective_ids
    folders = {s.parent for r in renamings for s, t in zip(r.sources, r.targets, strict=True) if s != t}
    return [
        Problem(str(folder), "may not be written to, so its files cannot be renamed. Change its permissions.")
        for folder in sorted(folders)
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=by_effective)
    ]
