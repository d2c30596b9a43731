"""The job folder: the only thing that page and tool process share. Torch-free.

jobs/NAME/  job.json  events.jsonl  table.jsonl  log.txt  journal.jsonl  requests/stop  lock
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.home import home
from engine.locks import locked
from engine.run import WorkFolder
from engine.tools.journal import FILE_NAME as JOURNAL_NAME
from engine.tools.tool import Outcome, Row, program_of, values_of

FORMAT = 1
FIRST_PROGRAM = "captioning"
"""Whose jobs those are that do not name their program: it was the only one once."""
PROGRAMS = (FIRST_PROGRAM, "engine")


@dataclass(frozen=True)
class Job:
    """What a job is to do: the tool's name, its values by name, and the digest of the table that the user saw.

    `program`: whose tool it is, as in `python -m PROGRAM run JOB_FOLDER`.
    """

    tool: str
    values: dict[str, Any]
    looked_at: str = ""
    program: str = FIRST_PROGRAM


@dataclass(frozen=True)
class Done:
    """A line of the table: a row and what became of it."""

    row: Row
    outcome: Outcome


@dataclass(frozen=True)
class JobFolder(WorkFolder):
    """Names of everything in a job folder."""

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    @property
    def table(self) -> Path:
        return self.path / "table.jsonl"

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL_NAME

    @property
    def stop_request(self) -> Path:
        return self.requests / "stop"

    def request_stop(self) -> None:
        """Ask the tool to end; it looks between two files."""
        self.stop_request.parent.mkdir(parents=True, exist_ok=True)
        self.stop_request.touch()

    def read_table(self, offset: int = 0) -> tuple[list[Done], int]:
        """Lines of the table after byte `offset`, and the offset to go on from."""
        try:
            with self.table.open("rb") as file:
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return [], 0
        whole = content[: content.rfind(b"\n") + 1]
        return [_done(json.loads(line)) for line in whole.splitlines()], offset + len(whole)

    def load(self) -> Job:
        """What the job is to do. Raises UserError where the folder holds no job."""
        try:
            content = json.loads(self.job.read_text(encoding="utf-8"))
            if content["v"] != FORMAT:
                raise UserError(f"is a job of format {content['v']}, not {FORMAT}. Update Atelier.", str(self.job))
            program = str(content.get("program", FIRST_PROGRAM))
            if program not in PROGRAMS:
                raise UserError(f"is a job of an unknown program (got {program}). Update Atelier.", str(self.job))
            return Job(content["tool"], content["settings"], content.get("looked_at", ""), program)
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                "there is no job in this folder (no job.json). Give a job's folder.", str(self.path)
            ) from None


def program_of_job(folder: Path) -> str:
    """Whose job is in a folder; the first program's where it holds none, which then says so."""
    try:
        return JobFolder(folder).load().program
    except UserError:
        return FIRST_PROGRAM


def jobs_home() -> Path:
    """Where job folders are made: `jobs` in Atelier's own folder, or in the one that ATELIER_HOME names."""
    return home() / "jobs"


def create(tool: str, settings: Any, folder: Path | None = None, looked_at: str = "") -> JobFolder:
    """Make a new job folder. `looked_at`: the digest of the Proposal that the user saw; another one is then refused."""
    if folder is None:
        name = f"{tool}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        names = chain((name,), (f"{name}-{number}" for number in count(2)))
        folder = next(path for path in map(jobs_home().joinpath, names) if not path.exists())
    job = JobFolder(folder.absolute())
    if job.job.exists():
        raise UserError("this folder already holds a job. Give another one.", str(folder))
    about = {"v": FORMAT, "program": program_of(settings), "tool": tool}
    content = {**about, "settings": values_of(settings), "looked_at": looked_at}
    write_text_whole(job.job, json.dumps(content, indent=2) + "\n")
    return job


def jobs_in(folder: Path | None = None) -> list[JobFolder]:
    """All jobs in a folder (default: `jobs_home()`), the last made first."""
    folder = folder or jobs_home()
    if not folder.is_dir():
        return []
    found = [JobFolder(path) for path in folder.iterdir() if (path / "job.json").is_file()]
    return sorted(found, key=lambda job: (job.job.stat().st_mtime_ns, job.name), reverse=True)


@contextlib.contextmanager
def held(job: JobFolder) -> Iterator[None]:
    """Hold the job while working on it. Raises UserError when another process does."""
    with locked(job.lock, 2, "the job folder", "another process works on this job. Wait for it, or stop it."):
        yield


def table_line(done: Done) -> bytes:
    """A line of table.jsonl."""
    return json.dumps({**asdict(done.row), "outcome": done.outcome}, ensure_ascii=True).encode() + b"\n"


def _done(content: dict[str, Any]) -> Done:
    return Done(Row(content["source"], content["action"], content["target"], content["note"]), content["outcome"])
