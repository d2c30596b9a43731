"""The tool `crop`: pictures cut and resized to one size or to buckets, in a new folder. The source is never touched."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import ImageColor

from captioning.cutting import Cut, Focus, Format, Look, Made, begin, make_cut, padded_size
from captioning.faces import face_detector
from captioning.picture_files import listings_of
from engine.data.buckets import BucketRules, Placement, place
from engine.data.captions import CAPTION_SUFFIXES, CaptionIndex
from engine.data.folders import NOT_A_FILE, Listing, stem_and_suffix
from engine.data.headers import read_image_header, refusal_of_size
from engine.data.masks import MaskIndex
from engine.errors import Problem, UserError
from engine.preset import resolve
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Crop and resize"
ABOUT = "Cuts and resizes images to one size or to buckets, into a new folder; captions and masks are copied along."

CROP, ENLARGE, KEEP, LEAVE = "crop", "crop, enlarged", "keep", "leave out"
_AHEAD = 2  # pictures for each process that wait for it


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    target: str = setting(
        "",
        "The new folder; empty: beside the folder, called NAME (cropped). It is never the folder itself.",
        "输出文件夹",
        label="New folder",
        kind="folder",
    )
    shape: Literal["buckets", "one_size"] = setting(
        "buckets", "To the bucket that training would choose for each image, or all to one size.", "裁剪形状"
    )
    width_px: int = setting(
        1024, "Width, or what buckets are made from.", "宽度", ge=64, le=4096, multiple_of=8, unit="px"
    )
    height_px: int = setting(
        1024, "Height, or what buckets are made from.", "高度", ge=64, le=4096, multiple_of=8, unit="px"
    )
    bucket_min_px: int = setting(
        256,
        "Shortest side of a bucket.",
        "分桶最小边长",
        ge=32,
        le=4096,
        unit="px",
        level="expert",
        when={"crop.shape": "buckets"},
    )
    bucket_max_px: int = setting(
        2048,
        "Longest side of a bucket.",
        "分桶最大边长",
        ge=32,
        le=8192,
        unit="px",
        level="expert",
        when={"crop.shape": "buckets"},
    )
    bucket_step_px: int = setting(
        64,
        "Bucket sides are multiples of this.",
        "分桶步长",
        ge=8,
        le=256,
        multiple_of=8,
        unit="px",
        level="expert",
        when={"crop.shape": "buckets"},
    )
    padding: bool = setting(
        False, "Show the whole image on a background instead of cutting anything away.", "填充而不裁剪"
    )
    focus: Focus = setting(
        "centre",
        "Where images are cut: around the centre, the largest face, or what catches the eye (saliency).",
        "裁剪位置",
        when={"crop.padding": False},
    )
    face_model: str = setting(
        "",
        "A YuNet model file (.onnx), which finds more faces; empty: a simple detector for upright frontal faces.",
        "人脸检测模型",
        kind="file",
        level="advanced",
        when={"crop.focus": "face"},
    )
    small_images: Literal["enlarge", "leave_out"] = setting(
        "enlarge", "What becomes of images that are smaller than their new size.", "小图处理"
    )
    alpha: Literal["keep", "flatten"] = setting(
        "keep", "Keep transparency (PNG and WebP), or put the background behind it.", "透明通道"
    )
    background: str = setting(
        "#ffffff",
        "The colour behind transparent and padded parts, as #rrggbb.",
        "背景颜色",
        kind="color",
        level="advanced",
    )
    format: Format = setting(
        "png", "The kind of the new files; png loses nothing, jpg and webp are smaller.", "文件格式"
    )
    quality: int = setting(95, "Of jpg and webp files.", "质量", ge=50, le=100, level="advanced")
    mask_folder: str = setting(
        "",
        "Masks of the images, cut with them into a folder beside the new one, called NAME masks; empty for none.",
        "遮罩文件夹",
        kind="folder",
        level="advanced",
    )
    processes: int = setting(
        0, "How many images are worked on at once; 0: as many as the processor has cores.", "进程数",
        ge=0, le=128, level="expert",
    )  # fmt: skip


@dataclass(frozen=True)
class _Planned:
    """What belongs to a row: the cut, and the captions to copy as (source, target)."""

    cut: Cut
    captions: tuple[tuple[Path, Path], ...]


def propose(settings: Settings) -> Proposal:
    """One row for each image. Raises UserError for settings or a folder that cannot be used."""
    rules = _rules(settings)
    _check_color(settings.background)
    if settings.focus == "face" and not settings.padding:
        face_detector(settings.face_model)  # what is missing is told before the start
    root, listings, unlisted = listings_of(settings.folder)
    target = _target(root, settings.target)
    masks = MaskIndex(resolve(settings.mask_folder)) if settings.mask_folder else None
    rows: list[Row] = []
    content: dict[str, _Planned] = {}
    warnings = list(unlisted)
    for listing in listings:
        warnings += [Problem(str(listing.folder / name), NOT_A_FILE) for name in listing.dead_links]
        names = _new_names(listing.images, settings.format)
        captions = [CaptionIndex(listing.other_files, suffix) for suffix in CAPTION_SUFFIXES]
        for name in listing.images:
            try:
                size_px, placement = _placement(listing.folder / name, rules, settings.padding)
                mask = masks.find(listing.name, Path(name)) if masks else None
            except UserError as error:
                warnings += [Problem(str(listing.folder / name), problem.message) for problem in error.problems]
                continue
            new = target / listing.name / names[name]
            new_mask = target.with_name(f"{target.name} masks") / listing.name / f"{new.stem}.png"
            cut = Cut(listing.folder / name, new, placement, (mask, new_mask) if mask else None)
            rows.append(_row(cut, size_px, settings))
            content[str(cut.source)] = _Planned(cut, tuple(_captions(listing, name, captions, new)))
    counts = Counter(row.action for row in rows)
    if counts[ENLARGE]:
        what = (
            f"{counted(counts[ENLARGE], 'image')} smaller than the new size: they are enlarged, which makes them soft."
        )
        warnings.append(Problem("small_images", what))
    summary = f"{counted(counts[CROP] + counts[ENLARGE], 'image')} to {target}"
    summary += f", {counts[ENLARGE]:,} of them enlarged" if counts[ENLARGE] else ""
    summary += "".join(f"; {counts[a]:,} {words}" for a, words in _LEFT.items() if counts[a])
    return Proposal(tuple(rows), summary + ".", warnings=tuple(warnings), content=content)


_LEFT = {KEEP: "there already", LEAVE: "left out as too small"}


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Cut in several processes; a stop is taken between two pictures, and what was begun is made whole."""
    look = Look(
        focus=settings.focus,
        padding=settings.padding,
        keep_alpha=settings.alpha == "keep",
        background=settings.background,
        format=settings.format,
        quality=settings.quality,
        face_model=settings.face_model,
    )
    work = []
    for row in proposal.rows:
        if row.action in (CROP, ENLARGE):
            work.append((row, proposal.content[row.source]))
        else:
            report.done(row, "kept")
    for (row, planned), made in _made(work, look, settings.processes, report):
        _finish(row, planned, made, report)


_Work = tuple[Row, _Planned]


def _made(work: Sequence[_Work], look: Look, processes: int, report: Report) -> Iterator[tuple[_Work, Made]]:
    """Every piece of work with what was made, in order."""
    count = min(processes or os.cpu_count() or 1, len(work))
    if count <= 1:
        for piece in work:
            if report.is_stop_asked():
                return
            _make_folders(piece[1].cut, report)
            yield piece, make_cut(piece[1].cut, look)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=begin) as pool:
        waiting: deque[tuple[_Work, Future[Made]]] = deque()
        left = deque(work)
        try:
            while left or waiting:
                while left and len(waiting) < count * _AHEAD and not report.is_stop_asked():
                    piece = left.popleft()
                    _make_folders(piece[1].cut, report)
                    waiting.append((piece, pool.submit(make_cut, piece[1].cut, look)))
                if not waiting:
                    return
                piece, future = waiting.popleft()
                yield piece, future.result()
        except BrokenProcessPool:
            what = "a process was ended by the system, most likely for want of memory. Lower the number of processes."
            raise UserError(what, "processes") from None


def _make_folders(cut: Cut, report: Report) -> None:
    for path in (cut.target, *(cut.mask[1:] if cut.mask else ())):
        report.journal.make_folder(path.parent)


def _finish(row: Row, planned: _Planned, made: Made, report: Report) -> None:
    """Note what was made, copy the captions, tell the row."""
    for path in made.files:
        report.journal.note_made(path)
    if made.defect:
        report.defect(made.defect)
    if made.failed:
        report.done(row, "failed", made.note)
        return
    try:
        for source, target in planned.captions:
            if not os.path.lexists(target):
                report.journal.write(target, source.read_bytes(), expected=None)
    except UserError as error:
        report.done(row, "failed", f"its caption: {error.problems[0].message}")
    except OSError as error:
        report.done(row, "failed", f"its caption cannot be read ({error.strerror}).")
    else:
        report.done(row, "done", "; ".join(filter(None, (row.note, made.note))))


def _rules(settings: Settings) -> BucketRules:
    rules = BucketRules(
        width_px=settings.width_px,
        height_px=settings.height_px,
        min_px=settings.bucket_min_px,
        max_px=settings.bucket_max_px,
        step_px=settings.bucket_step_px,
        enabled=settings.shape == "buckets",
    )
    for problem in rules.problems():
        raise UserError(problem.message, problem.where.removeprefix("data."))
    return rules


def _check_color(text: str) -> None:
    try:
        ImageColor.getrgb(text)
    except ValueError:
        raise UserError(f"must be a colour such as #ffffff (got {text!r}).", "background") from None


def _target(root: Path, text: str) -> Path:
    target = resolve(text) if text else root.with_name(f"{root.name} (cropped)")
    if target.is_relative_to(root) or root.is_relative_to(target):
        what = f"is the folder of the images, lies in it or holds it (got {target}). Choose one beside it."
        raise UserError(what, "target")
    return target


def _placement(path: Path, rules: BucketRules, padding: bool) -> tuple[tuple[int, int], Placement]:
    header = read_image_header(path)
    if refusal := refusal_of_size(header):
        raise UserError(refusal, str(path))
    placement = place(header.size_px, rules)
    if padding:
        placement = Placement(placement.bucket_px, padded_size(header.size_px, placement.bucket_px), (0, 0))
    return header.size_px, placement


def _new_names(names: Sequence[str], format: str) -> dict[str, str]:
    """New file names, each once: images that differ in their suffix alone keep it in the name, as "a_jpg.png"."""
    stems = Counter(stem_and_suffix(name)[0].casefold() for name in names)
    found: dict[str, str] = {}
    for name in names:
        stem, suffix = stem_and_suffix(name)
        twin = f"_{suffix[1:]}" if stems[stem.casefold()] > 1 else ""
        found[name] = f"{stem}{twin}.{format}"
    return found


def _captions(listing: Listing, name: str, indexes: Sequence[CaptionIndex], new: Path) -> Iterator[tuple[Path, Path]]:
    for index, suffix in zip(indexes, CAPTION_SUFFIXES, strict=True):
        if caption := index.of(stem_and_suffix(name)[0]):
            yield listing.folder / caption, new.with_name(new.stem + suffix)


def _row(cut: Cut, size_px: tuple[int, int], settings: Settings) -> Row:
    bucket, resized = cut.placement.bucket_px, cut.placement.resized_px
    growth = max(new / old for new, old in zip(resized, size_px, strict=True))
    note = f"{size_px[0]} × {size_px[1]} → {bucket[0]} × {bucket[1]} px"
    action = CROP
    if os.path.lexists(cut.target):
        action, note = KEEP, "is there already"
    elif growth > 1 and settings.small_images == "leave_out":
        action = LEAVE
    elif growth > 1:
        action, note = ENLARGE, f"{note}, enlarged {growth:.2f} times"
    return Row(str(cut.source), action, str(cut.target), note)
