"""The tool `caption`: a model writes captions for the images of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from captioning.caption_files import Item, Survey, caption_text, current_bytes, survey
from captioning.captioners import CAPTIONERS
from captioning.job import Captioning
from captioning.models.blip import Settings as BlipSettings
from captioning.models.blip2 import Settings as Blip2Settings
from captioning.models.coca import Settings as CocaSettings
from captioning.models.florence2 import Settings as Florence2Settings
from captioning.models.git import Settings as GitSettings
from captioning.models.vlm import Settings as VlmSettings
from captioning.models.wd import Settings as WdSettings
from captioning.protocol import Captioner
from captioning.wording import Wording
from engine.atomic import write_text_whole
from engine.errors import Problem, UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Writing captions"
ABOUT = "A model looks at each image and writes its caption beside it."

CAPTION, KEEP, CANNOT, PREVIEW = "caption", "keep", "cannot", "preview"
PREVIEW_FILE = "preview.json"


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    captioner: Literal["wd", "florence2", "vlm", "blip", "blip2", "git", "coca"] = setting(
        "wd", "Which kind of model writes: wd writes tags, the others sentences (docs/captioning.md).", "打标器"
    )
    model: str = setting("", "The folder that the model's files are in.", "模型文件夹", kind="folder")
    preview: int = setting(
        0, "Caption only this many images, spread over the folder, and write nothing; 0: caption all.", "预览张数",
        ge=0, le=100,
    )  # fmt: skip
    existing: Literal["only empty", "keep", "append", "prepend", "replace"] = setting(
        "only empty",
        "What becomes of captions that are there: only missing and empty ones are written; every file is kept; or new "
        "words come behind, in front or in their place.",
        "已有标注",
    )
    trigger: str = setting("", "A word put first in every caption that is written, once.", "触发词")
    before: str = setting("", "Tags in front of every caption that is written, separated by commas.", "前置标签")
    after: str = setting("", "Tags behind every caption that is written, separated by commas.", "后置标签")
    extension: str = setting(".txt", "The ending of caption files that are made.", "标注扩展名")
    batch: int = setting(4, "How many images the model sees at once.", "批量大小", ge=1, le=1024, level="advanced")
    wd: WdSettings = WdSettings()
    florence2: Florence2Settings = Florence2Settings()
    vlm: VlmSettings = VlmSettings()
    blip: BlipSettings = BlipSettings()
    blip2: Blip2Settings = Blip2Settings()
    git: GitSettings = GitSettings()
    coca: CocaSettings = CocaSettings()


def propose(settings: Settings) -> Proposal:
    """Which captions are to be written. Raises UserError where the folder or the extension cannot be used."""
    problems = _problems(settings)
    found = survey(_folder(settings), settings.extension, settings.existing)
    if settings.preview:
        chosen = _spread([*found.items, *found.kept], settings.preview)
        rows = [Row(str(item.image), PREVIEW) for item in chosen]
        summary = f"{counted(len(rows), 'image')} to try; nothing is written beside the images."
        return Proposal(tuple(rows), summary, problems, content=Survey(items=chosen))
    rows = [Row(str(item.image), CAPTION, str(item.caption)) for item in found.items]
    rows += [Row(str(item.image), KEEP, str(item.caption), "has a caption") for item in found.kept]
    rows += [Row(problem.where, CANNOT, "", problem.message) for problem in found.failed]
    summary = f"{counted(len(found.items), 'caption')} to write, {len(found.kept):,} kept."
    return Proposal(tuple(rows), summary, problems, content=found)


def _problems(settings: Settings) -> tuple[Problem, ...]:
    """What can be told before the model is loaded."""
    found = [] if settings.model else [Problem("model", "is empty. Give the folder that the model's files are in.")]
    if check := getattr(CAPTIONERS[settings.captioner], "check", None):
        try:
            check(getattr(settings, settings.captioner))
        except UserError as error:
            found += error.problems
    return tuple(found)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Load the captioner and write. Raises ModelError, MissingPackage or UserError where it cannot be loaded."""
    for row in proposal.rows:
        if row.action == KEEP:
            report.done(row, "kept")
        elif row.action == CANNOT:
            report.done(row, "failed")
    found: Survey = proposal.content
    if not found.items:
        return
    if not settings.preview:
        report.journal.prepare()
    report.stage("Loading the model")
    captioner = CAPTIONERS[settings.captioner].load(Path(settings.model), getattr(settings, settings.captioner))
    report.stage(TITLE)
    if settings.preview:
        _preview(captioner, found.items, settings, report)
    else:
        Captioning(captioner, _wording(settings), settings.batch, report).run(found.items)


def _preview(captioner: Captioner, items: list[Item], settings: Settings, report: Report) -> None:
    """Show what would be written, in the table, on the terminal and in preview.json of the job folder."""
    shown: list[dict[str, str]] = []

    def show(item: Item, text: str) -> None:
        old = caption_text(current_bytes(item.caption))
        final = _wording(settings).final(old, text)
        shown.append({"image": str(item.image), "said": text, "old": old, "new": final})
        write_text_whole(report.journal.path.parent / PREVIEW_FILE, json.dumps(shown, indent=2) + "\n")
        report.done(Row(str(item.image), PREVIEW, "", final))
        print(f"{item.image.name}: {final}", flush=True)

    Captioning(captioner, _wording(settings), settings.batch, report, show).run(items)


def _wording(settings: Settings) -> Wording:
    return Wording(settings.existing, settings.before, settings.after, settings.trigger)


def _spread(items: list[Item], count: int) -> list[Item]:
    """`count` of the items, from the first to the last in even steps."""
    count = min(count, len(items))
    return [items[round(number * (len(items) - 1) / max(1, count - 1))] for number in range(count)]


def _folder(settings: Settings) -> Path:
    if not settings.folder:
        raise UserError("is empty. Choose the folder that the images, or folders of images, are in.", "folder")
    return Path(settings.folder)
