"""The tool `caption`: a model writes captions for the images of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from captioning.blip import Settings as BlipSettings
from captioning.caption_files import Existing, survey
from captioning.captioners import CAPTIONERS
from captioning.job import Captioning
from captioning.tool import Proposal, Report, Row, ToolSettings, counted
from captioning.wd import Settings as WdSettings
from engine.errors import Problem, UserError
from engine.settings import setting

TITLE = "Writing captions"
ABOUT = "A model looks at each image and writes its caption beside it."

CAPTION, KEEP, CANNOT = "caption", "keep", "cannot"


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    captioner: Literal["blip", "wd"] = setting(
        "wd", "Which kind of model writes: wd writes tags, blip a sentence.", "打标器"
    )
    model: str = setting("", "The folder that the model's files are in.", "模型文件夹", kind="folder")
    extension: str = setting(".txt", "The ending of caption files that are made.", "标注扩展名")
    existing: Literal["keep", "append", "replace"] = setting(
        "keep", "What becomes of captions that are there already.", "已有标注"
    )
    batch: int = setting(4, "How many images the model sees at once.", "批大小", ge=1, le=1024, level="advanced")
    blip: BlipSettings = BlipSettings()
    wd: WdSettings = WdSettings()


def propose(settings: Settings) -> Proposal:
    """Which captions are to be written. Raises UserError where the folder or the extension cannot be used."""
    problems = () if settings.model else (Problem("model", "is empty. Give the folder that the model's files are in."),)
    found = survey(_folder(settings), settings.extension, settings.existing)
    rows = [Row(str(item.image), CAPTION, str(item.caption)) for item in found.items]
    rows += [Row(str(item.image), KEEP, str(item.caption), "has a caption") for item in found.kept]
    rows += [Row(problem.where, CANNOT, "", problem.message) for problem in found.failed]
    summary = f"{counted(len(found.items), 'caption')} to write, {len(found.kept):,} kept."
    return Proposal(tuple(rows), summary, problems, content=found)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Load the captioner and write. Raises ModelError, MissingPackage or UserError where it cannot be loaded."""
    for row in proposal.rows:
        if row.action == KEEP:
            report.done(row, "kept")
        elif row.action == CANNOT:
            report.done(row, "failed")
    found = proposal.content
    if not found.items:
        return
    report.journal.prepare()
    report.stage("Loading the model")
    captioner = CAPTIONERS[settings.captioner].load(Path(settings.model), getattr(settings, settings.captioner))
    report.stage(TITLE)
    existing: Existing = settings.existing
    Captioning(captioner, existing, settings.batch, report).run(found.items)


def _folder(settings: Settings) -> Path:
    if not settings.folder:
        raise UserError("is empty. Choose the folder that the images, or folders of images, are in.", "folder")
    return Path(settings.folder)
