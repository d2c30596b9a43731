"""The tool `balance`: repeats by which every class is seen equally, carried out by renaming the folders `N_name`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioning.balancing import MOST_REPEATS, balanced_repeats
from captioning.layout import Subset, understand
from captioning.picture_files import name_key, names_in, plain_name
from captioning.rename_order import Renaming, Step, in_order
from engine.data.folders import repeats_and_name
from engine.errors import Problem, UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Balancing"
ABOUT = "Proposes repeats so that every class is seen equally, and renames the folders 10_name to it."

RENAME, KEEP = "rename", "keep"


class Settings(ToolSettings):
    folder: str = setting("", "The training folder, whose sub-folders are classes.", "训练图像文件夹", kind="folder")
    images_per_epoch: int = setting(
        0,
        "How many images an epoch should have in all; 0: as few as balance allows.",
        "每轮图像数",
        ge=0,
        le=10_000_000,
    )


@dataclass(frozen=True)
class Balanced:
    """A subset, its repeats now (1 where its name tells none) and proposed."""

    subset: Subset
    before: int
    after: int


def propose(settings: Settings) -> Proposal:
    """Repeats of each folder, and the effect in images per epoch. Raises UserError where there are no folders."""
    if not settings.folder:
        raise UserError("is empty. Choose the training folder.", "folder")
    layout = understand(Path(settings.folder))
    if layout.shape == "data set":
        what = "is described by a data-set TOML, whose repeats are in that file. Arrange it with balance instead."
        raise UserError(what, str(layout.folder))
    found = balanced(layout.subsets, settings.images_per_epoch)
    renamings = [Renaming((item.subset.folder,), (_target(item),)) for item in found]
    problems = [*_collisions(renamings), *_root_problem(found, layout.folder)]
    rows = [
        Row(str(item.subset.folder), RENAME if source != target else KEEP, str(target), _effect(item, found))
        for item, renaming in zip(found, renamings, strict=True)
        for source, target in zip(renaming.sources, renaming.targets, strict=True)
    ]
    steps = () if problems else tuple(in_order(sorted(renamings, key=_deepest_first)))
    return Proposal(tuple(rows), _summary(found), tuple(problems), (*layout.warnings, *_limits(found)), steps)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Rename the folders."""
    rows = {row.source: row for row in proposal.rows}
    for row in proposal.rows:
        if row.action == KEEP:
            report.done(row, "kept")
    for step in proposal.content:
        if step.may_stop and report.is_stop_asked():
            return
        _move(step, rows[str(step.original)], report)


def balanced(subsets: Sequence[Subset], images_per_epoch: int = 0) -> list[Balanced]:
    """The proposal for each subset; regularization pictures stay as they are."""
    trained = [subset for subset in subsets if not subset.is_regularization]
    repeats = balanced_repeats([(subset.class_word, len(subset.pictures)) for subset in trained], images_per_epoch)
    return [Balanced(subset, subset.repeats or 1, after) for subset, after in zip(trained, repeats, strict=True)]


def _move(step: Step, row: Row, report: Report) -> None:
    try:
        report.journal.move(step.source, step.target)
    except UserError as error:
        report.done(row, "failed", str(error))
        return
    if step.is_last:
        report.done(row)


def _target(item: Balanced) -> Path:
    name = item.subset.folder.name
    meaning = repeats_and_name(name)
    if meaning is None:
        return item.subset.folder.with_name(f"{item.after}_{name}")
    if meaning[0] == item.after:
        return item.subset.folder
    return item.subset.folder.with_name(str(item.after) + name[len(name) - len(name.lstrip("0123456789")) :])


def _deepest_first(renaming: Renaming) -> tuple[int, str]:
    """A folder is renamed before those that it lies in, so that its path still holds."""
    return -len(renaming.sources[0].parts), str(renaming.sources[0])


def _collisions(renamings: Sequence[Renaming]) -> list[Problem]:
    targets = Counter(name_key(item.targets[0]) for item in renamings)
    ours = {item.sources[0] for item in renamings}
    found = []
    for item in renamings:
        source, target = item.sources[0], item.targets[0]
        there = {plain_name(name) for name in names_in(target.parent) if target.parent / name not in ours}
        if targets[name_key(target)] > 1 or (source != target and plain_name(target.name) in there):
            what = f"would be called {target.name}, as another folder. Rename one of them, or put them together."
            found.append(Problem(str(source), what))
    return found


def _root_problem(found: Sequence[Balanced], root: Path) -> list[Problem]:
    """Images that lie directly in the chosen folder: it is not renamed under the user's hands."""
    beside = [item for item in found if item.subset.folder == root]
    if not beside or len(found) == 1:
        what = "has one class only, so there is nothing to balance. Choose the folder above."
        return [Problem(str(root), what)] if len(found) == 1 else []
    what = "holds images directly, beside folders of images. Move them into a folder of their own, or arrange it."
    return [Problem(str(root), what)]


def _limits(found: Sequence[Balanced]) -> list[Problem]:
    what = f"has so few images that {MOST_REPEATS:,} repeats are not enough. Add images to it."
    return [Problem(str(item.subset.folder), what) for item in found if item.after == MOST_REPEATS]


def _effect(item: Balanced, found: Sequence[Balanced]) -> str:
    count = len(item.subset.pictures)
    share = [100 * _showings(each, [item]) / max(_showings(each, found), 1) for each in ("before", "after")]
    return (
        f"{counted(count, 'image')}: {item.before} → {item.after} repeats, {item.before * count:,} → "
        f"{item.after * count:,} an epoch ({share[0]:.0f} % → {share[1]:.0f} %)"
    )


def _showings(when: str, found: Sequence[Balanced]) -> int:
    return sum(getattr(item, when) * len(item.subset.pictures) for item in found)


def _summary(found: Sequence[Balanced]) -> str:
    before, after = _showings("before", found), _showings("after", found)
    changed = sum(item.before != item.after for item in found)
    return f"{counted(changed, 'folder')} with other repeats; {before:,} → {after:,} images per epoch."
