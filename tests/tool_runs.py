"""What tests of the tools share: folders of tiny pictures, their content, and a tool run from its own command line."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.tools import TOOLS
from captioning.working import work
from engine.tools import jobs, journal
from engine.tools.tool import Proposal, make_settings

_COLORS = [(220, 20, 20), (20, 20, 220), (20, 200, 20), (200, 200, 20), (90, 10, 160)]


def png(number: int = 0) -> bytes:
    """A picture of 16 × 16 pixels; another number is another picture."""
    from io import BytesIO

    raw = BytesIO()
    color = tuple((value + 31 * number) % 256 for value in _COLORS[number % len(_COLORS)])
    Image.new("RGB", (16, 16), color).save(raw, "PNG")
    return raw.getvalue()


def make(folder: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write files by relative path: text, bytes, or a picture of its own where None is given."""
    for number, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number) if content is None else content.encode() if isinstance(content, str) else content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by relative path, exactly as the disk spells it; folders end in "/"."""
    found: dict[str, bytes] = {}
    for parent, folders, names in os.walk(folder):
        found |= {os.path.relpath(Path(parent, name), folder) + "/": b"" for name in folders}
        found |= {os.path.relpath(Path(parent, n), folder): Path(parent, n).read_bytes() for n in names}
    return found


def files(folder: Path) -> dict[str, bytes]:
    """The same without folders."""
    return {name: content for name, content in contents(folder).items() if not name.endswith("/")}


def propose(tool: str, **values: Any) -> Proposal:
    return TOOLS[tool].propose(settings(tool, values))


def settings(tool: str, values: Mapping[str, Any]) -> Any:
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return make_settings(tool, TOOLS[tool].Settings, texts)


def carry_out(job_folder: Path, tool: str, **values: Any) -> tuple[int, jobs.JobFolder]:
    """Run a tool as a job in this process; exit code and job folder."""
    job = jobs.create(tool, settings(tool, values), job_folder)
    return work(job), job


def undo(job: jobs.JobFolder) -> journal.Undone:
    return journal.undo(job.journal)


def failure(job: jobs.JobFolder) -> str:
    """The sentence of a job that failed."""
    lines = [json.loads(line) for line in job.events.read_text(encoding="utf-8").splitlines()]
    return next(line["message"] for line in lines if line["kind"] == "failed")


def actions(proposal: Proposal, folder: Path) -> list[tuple[str, str, str]]:
    """(source, action, target) of each row, below the folder."""
    return [(below(row.source, folder), row.action, below(row.target, folder)) for row in proposal.rows]


def below(path: str, folder: Path) -> str:
    return path.removeprefix(str(folder.resolve()) + "/")


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)
