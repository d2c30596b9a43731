"""The tool `name_captions`: captions from the names of folders and files, for sets whose structure is the label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from captioning.caption_files import Item, current_bytes, is_kept, survey, write_caption
from captioning.name_patterns import class_word
from captioning.wording import Wording, parts_of
from engine.data.captions import decode_caption
from engine.data.folders import stem_and_suffix
from engine.errors import UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Captions from names"
ABOUT = (
    "Writes captions from the names of folders and files, with fixed tags; existing captions stay unless you say so."
)

CAPTION, KEEP, CANNOT = "caption", "keep", "cannot"


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    names: Literal["folders", "file", "both", "none"] = setting(
        "folders",
        "Whose names become keywords: the folders', the image's own, both, or none (only fixed tags).",
        "名称来源",
    )
    separators: str = setting("_", "Each of these signs cuts a name into keywords.", "分隔符")
    drop_numbers: bool = setting(True, "Leave out keywords that are only a number.", "去除数字")
    from_top: bool = setting(False, "Use the name of the chosen folder itself, too.", "包含顶层文件夹")
    before: str = setting("", "Tags in front of the keywords, separated by commas.", "前置标签")
    after: str = setting("", "Tags behind the keywords, separated by commas, such as black background.", "后置标签")
    trigger: str = setting("", "A word put first in every caption that is written, once.", "触发词")
    existing: Literal["only empty", "keep", "append", "prepend", "replace"] = setting(
        "only empty",
        "What becomes of captions that are there: only missing and empty ones are written; every file is kept; or new "
        "words come behind, in front or in their place.",
        "已有标注",
    )
    extension: str = setting(".txt", "The ending of caption files that are made.", "标注扩展名")


@dataclass(frozen=True)
class _Text:
    """What is written for an image before it goes together with what is there."""

    item: Item
    words: str


def propose(settings: Settings) -> Proposal:
    """The caption of each image. Raises UserError where the folder or the extension cannot be used."""
    if not settings.folder:
        raise UserError("is empty. Choose the folder that the images, or folders of images, are in.", "folder")
    found = survey(Path(settings.folder), settings.extension, settings.existing)
    root = Path(settings.folder).resolve()
    rows, texts = [], []
    for item in found.items:
        words = ", ".join(keywords(item.image, root, settings))
        row = _row(item, words, _wording(settings))
        rows.append(row)
        texts.append(_Text(item, words))
    rows += [Row(str(item.image), KEEP, str(item.caption), "has a caption") for item in found.kept]
    rows += [Row(problem.where, CANNOT, "", problem.message) for problem in found.failed]
    written = sum(row.action == CAPTION for row in rows)
    kept = sum(row.action == KEEP for row in rows)
    summary = f"{counted(written, 'caption')} to write, {kept:,} kept."
    return Proposal(tuple(rows), summary, content=tuple(texts))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Write the captions."""
    words = {str(text.item.image): text for text in proposal.content}
    for row in proposal.rows:
        if report.is_stop_asked():
            return
        if row.action != CAPTION:
            report.done(row, "kept" if row.action == KEEP else "failed")
            continue
        text = words[row.source]
        try:
            written = write_caption(text.item, text.words, _wording(settings), report.journal)
            report.done(row, "done" if written else "kept")
        except UserError as error:
            report.done(row, "failed", error.problems[0].message)


def keywords(image: Path, root: Path, settings: Settings) -> list[str]:
    """The keywords of an image with the fixed tags, each once."""
    folders = image.parent.relative_to(root).parts
    if settings.from_top or not folders:
        folders = (root.name, *folders)
    names = [class_word(folder) for folder in folders] if settings.names in ("folders", "both") else []
    if settings.names in ("file", "both"):
        names.append(stem_and_suffix(image.name)[0])
    cut = [word for name in names for word in _cut(name, settings.separators)]
    kept = [word for word in cut if not (settings.drop_numbers and word.isdecimal())]
    return _each_once([*parts_of(settings.before), *kept, *parts_of(settings.after)])


def _cut(name: str, separators: str) -> list[str]:
    for sign in separators:
        name = name.replace(sign, "\n")
    return [" ".join(word.replace(",", " ").split()) for word in name.split("\n") if word.strip(" ,")]


def _each_once(words: Sequence[str]) -> list[str]:
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.lower(), word)
    return list(found.values())


def _wording(settings: Settings) -> Wording:
    return Wording(settings.existing, trigger=settings.trigger)


def _row(item: Item, words: str, wording: Wording) -> Row:
    if os.fsencode(words).decode("utf-8", errors="replace") != words:
        return Row(str(item.image), CANNOT, "", "has a name that is not valid UTF-8, so it is no caption. Rename it.")
    old = current_bytes(item.caption)
    before = decode_caption(old).text if old else ""
    after = wording.final(before, words)
    if not after.strip():
        return Row(str(item.image), CANNOT, "", "has no keyword in its names. Use other names or add tags.")
    if is_kept(old, wording.existing) or (old and after.rstrip() == before.rstrip()):
        return Row(str(item.image), KEEP, str(item.caption), "stays as it is")
    return Row(str(item.image), CAPTION, str(item.caption), after)
