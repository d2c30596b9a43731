"""The tool `download`: a captioning model from the hub, after its size and target folder were agreed to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from captioning.catalogue import MODELS, KnownModel
from captioning.hub import HubFile, Stopped, fetch, list_files, user_is_offline
from engine.errors import Problem, UserError
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Downloading a model"
ABOUT = "A captioning model from the hub, only after you agreed to its size and its folder."

FETCH, THERE, CANNOT, LATER = "download", "there already", "cannot", "asked of the hub first"
_IN_THE_WAY = "another file of this name is there and is never written over. Move it away or choose another folder."


class Settings(ToolSettings):
    folder: str = setting(
        "",
        "The folder that the model's files come into; it is made where it is not there.",
        "目标文件夹",
        kind="folder",
    )
    model: Literal[
        "wd-vit-v3", "wd-swinv2-v3", "wd-convnext-v3", "wd-eva02-large-v3", "wd-v1-4-moat", "florence2-base",
        "florence2-large", "blip-base", "blip-large", "blip2-opt-2.7b", "git-large-coco", "coca-vit-l-14",
        "qwen2-vl-2b", "qwen2.5-vl-7b", "joycaption-beta-one", "other",
    ] = setting("wd-swinv2-v3", "Which model; other: the repository that is named below.", "模型")  # fmt: skip
    repository: str = setting(
        "", "Name of another model on the hub: owner/name.", "仓库", when={"download.model": "other"}
    )
    revision: str = setting("main", "Branch, tag or commit of the repository.", "版本", level="advanced")
    network: bool = setting(
        False, "Ask the hub for the files and their sizes; without it nothing leaves this machine.", "允许联网"
    )
    agreed_bytes: int = setting(
        0, "The size that was shown, in bytes: nothing is downloaded before it is repeated here.", "同意的大小", ge=0
    )


def propose(settings: Settings) -> Proposal:
    """What would be downloaded, how large, and where to. Asks the hub only where `network` is set."""
    if not settings.folder:
        raise UserError("is empty. Choose the folder that the model is to come into.", "folder")
    known, folder = _known(settings), Path(settings.folder)
    if not settings.network:
        return _without_network(known, folder)
    if user_is_offline():
        what = "HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it, or copy the files from another machine."
        return Proposal((), "Nothing is asked of the hub.", (Problem("network", what),))
    files = list_files(known.repository, settings.revision)
    rows = tuple(_row(file, folder / file.name) for file in files)
    total_bytes = sum(file.size_bytes for file in files)
    missing_bytes = sum(file.size_bytes for file, row in zip(files, rows, strict=True) if row.action == FETCH)
    summary = (
        f"{counted(len(files), 'file')} of {known.repository}, {size_text(total_bytes)} (licence: {known.licence}); "
    )
    summary += f"{size_text(missing_bytes)} of it to download into {folder}."
    problems = _problems(settings.agreed_bytes, folder, total_bytes, missing_bytes)
    return Proposal(rows, summary, problems, content=files)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Fetch file by file; a stop leaves the part of the file that came in, to be gone on with."""
    files: list[HubFile] = proposal.content
    total_bytes, before_bytes = sum(file.size_bytes for file in files), 0
    for file, row in zip(files, proposal.rows, strict=True):
        if report.is_stop_asked():
            return
        try:
            if row.action == FETCH:
                _fetch(file, Path(row.target), before_bytes, total_bytes, report)
                report.done(row)
            elif row.action == THERE and file.is_whole(Path(row.target)):
                report.done(row, "kept")
            else:
                report.done(row, "failed", _IN_THE_WAY)
        except Stopped:
            return
        except UserError as error:
            report.done(row, "failed", error.problems[0].message)
        before_bytes += file.size_bytes


def size_text(size_bytes: int) -> str:
    """ "1.3 GB (1,300,000,000 bytes)"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit} ({size_bytes:,} bytes)"
    return counted(size_bytes, "byte")


def _fetch(file: HubFile, target: Path, before_bytes: int, total_bytes: int, report: Report) -> None:
    def tell(there_bytes: int) -> None:
        report.progress(before_bytes + there_bytes, total_bytes)
        if report.is_stop_asked():
            raise Stopped

    fetch(file, target, tell)
    report.journal.note_made(target)


def _known(settings: Settings) -> KnownModel:
    if settings.model != "other":
        return MODELS[settings.model]
    if settings.repository.count("/") != 1:
        raise UserError(f"must look like owner/name (got {settings.repository!r}).", "repository")
    return KnownModel(settings.repository, "", None, "see its page on the hub", "")


def _without_network(known: KnownModel, folder: Path) -> Proposal:
    rows = (Row(known.repository, LATER, str(folder)),)
    size = f"about {known.rough_gb:g} GB" if known.rough_gb else "of unknown size"
    summary = f"{known.repository} is {size} (licence: {known.licence}); nothing was asked of the hub yet."
    what = "is off, and only the hub knows the files and their sizes. Switch it on to ask; nothing is downloaded yet."
    return Proposal(rows, summary, (Problem("network", what),))


def _row(file: HubFile, target: Path) -> Row:
    size = size_text(file.size_bytes)
    if target.exists():  # whether it is the same one is looked at later: a checksum of gigabytes takes its time
        is_like = target.is_file() and target.stat().st_size == file.size_bytes
        return Row(file.name, THERE, str(target), size) if is_like else Row(file.name, CANNOT, str(target), _IN_THE_WAY)
    part = file.part(target)
    begun = f", {size_text(part.stat().st_size)} of it are there" if part.is_file() else ""
    return Row(file.name, FETCH, str(target), size + begun)


def _problems(agreed_bytes: int, folder: Path, total_bytes: int, missing_bytes: int) -> tuple[Problem, ...]:
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if (free_bytes := shutil.disk_usage(parent).free) < missing_bytes:
        what = f"the disk has {size_text(free_bytes)} free of {size_text(missing_bytes)}. Free some space."
        return (Problem(str(folder), what),)
    if missing_bytes and agreed_bytes != total_bytes:
        what = f"nothing is downloaded before you agree to {size_text(total_bytes)} in {folder} (got {agreed_bytes})."
        return (Problem("agreed_bytes", f"{what} To agree, set it to {total_bytes}."),)
    return ()
