"""The tools' part of a command line: `TOOL [FILE …] [--set name=value] [--dry-run]`, `run`, `undo`, `redo`, `jobs`.

Exit codes: 0 done or stopped, 1 defect, 2 the user's input (a file that could not be worked on, too).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine import event_log, events
from engine.errors import UserError
from engine.preset import parse_assignments
from engine.settings import Setting
from engine.tools import jobs, journal
from engine.tools.journal_entries import Undone
from engine.tools.tool import Program, Proposal, ToolModule, make_settings, settings_table
from engine.tools.working import complain, shown, work

Parts = argparse._SubParsersAction  # what add_subparsers() gives


def commands(program: Program) -> tuple[str, ...]:
    """The names of all commands that `add_parsers` adds."""
    return (*program.tools, "run", "undo", "redo", "jobs")


def add_parsers(parts: Parts[argparse.ArgumentParser], program: Program) -> None:
    """Add a command for each tool of the program, and those for its jobs."""
    for name, tool in program.tools.items():
        part = parts.add_parser(name, help=tool.ABOUT, description=tool.ABOUT, epilog=_settings_text(name, tool))
        _add_tool(part, name, program)
    running = parts.add_parser("run", help="carry out a job folder that was prepared")
    running.add_argument("job", type=Path, metavar="JOB_FOLDER")
    running.set_defaults(command=lambda chosen: work(jobs.JobFolder(chosen.job.absolute()), program))
    for name, about in (("undo", "put back what a job did"), ("redo", "do again what was undone")):
        part = parts.add_parser(name, help=about)
        part.add_argument("journal", type=Path, metavar="JOB_FOLDER|JOURNAL")
        part.add_argument("--json", action="store_true", help="print what was restored as JSON")
        part.set_defaults(command=_repeat, direction=name)
    listing = parts.add_parser("jobs", help="list the jobs that were done, the last first")
    listing.add_argument("folder", nargs="?", type=Path, metavar="JOBS_FOLDER")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_list_jobs)


def _add_tool(part: argparse.ArgumentParser, name: str, program: Program) -> None:
    part.formatter_class = argparse.RawDescriptionHelpFormatter
    tool = program.tools[name]
    names = positional(tool)
    if words := getattr(tool, "WORDS", ""):
        part.add_argument("files", nargs="*", metavar=words, help="what to begin with")
    elif len(names) == 1 and names[0] == "folder":
        part.add_argument("files", nargs="?", metavar="FOLDER", help="the same as --set folder=FOLDER")
    else:
        part.add_argument(
            "files", nargs="*", metavar="FILE", help="the settings " + ", ".join(names) + " in this order"
        )
    part.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="change a setting; repeatable",
    )  # fmt: skip
    part.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    part.add_argument("--json", action="store_true", help="print the table as JSON")
    part.add_argument("--job", type=Path, metavar="FOLDER", help="the job folder to make; default: jobs/NAME-TIME")
    part.set_defaults(command=lambda chosen: _tool(chosen, name, program))


def positional(tool: ToolModule) -> tuple[str, ...]:
    """The settings that words without `--set` fill, in this order; the last takes all that are left, one a line.

    A tool names them in `FILES`; without that it is its first setting.
    """
    return getattr(tool, "FILES", None) or (next(iter(tool.Settings.model_fields)),)


def _settings_text(name: str, tool: ToolModule) -> str:
    table = settings_table(name, tool.Settings)
    lines = [
        f"  {key} ({item.limits_text}; default {item.default!r})\n      {item.help}" for key, item in table.items()
    ]
    return "settings:\n" + "\n".join(lines).replace("%", "%%")


def given_values(name: str, tool: ToolModule, files: Sequence[str], assignments: Sequence[str]) -> dict[str, Any]:
    """The values of a command line by setting; paths of files and folders are made absolute."""
    values, table = dict(parse_assignments(list(assignments))), settings_table(name, tool.Settings)
    if (start := getattr(tool, "start_values", None)) is not None:
        return {**start(list(files)), **_absolute(values, table)}
    names = positional(tool)
    for place, file in enumerate(files):
        key = names[min(place, len(names) - 1)]
        absolute = str(Path(file).expanduser().absolute()) if table[key].kind == "lines" else file
        values[key] = f"{values[key]}\n{absolute}" if place >= len(names) else absolute
    return _absolute(values, table)


def _absolute(values: dict[str, Any], table: dict[str, Setting]) -> dict[str, Any]:
    """Paths of files and folders made absolute."""
    paths = [key for key, value in values.items() if key in table and table[key].kind in ("folder", "file") and value]
    return values | {key: str(Path(values[key]).expanduser().absolute()) for key in paths}


def _tool(chosen: argparse.Namespace, name: str, program: Program) -> int:
    tool = program.tools[name]
    files = [chosen.files] if isinstance(chosen.files, str) else chosen.files or []
    settings = make_settings(name, tool.Settings, given_values(name, tool, files, chosen.assignments))
    proposal = tool.propose(settings)
    if (told := getattr(tool, "told", None)) is not None and (chosen.dry_run or not proposal.rows):
        _print_read(proposal, told(proposal), chosen.json)
        return UserError.exit_code if proposal.problems else 0
    if chosen.dry_run or proposal.problems:
        _print_proposal(proposal, chosen.json)
        return UserError.exit_code if proposal.problems else 0
    job = jobs.create(name, settings, chosen.job)
    if not chosen.json:
        return work(job, program)
    with contextlib.redirect_stdout(sys.stderr):  # what is printed here is one JSON object
        code = work(job, program)
    print(json.dumps(_told(job), indent=2))
    return code


def _print_read(proposal: Proposal, told: tuple[str, dict[str, Any]], as_json: bool) -> None:
    """What a tool found that reads."""
    if as_json:
        print(json.dumps({**proposal.to_dict(), **told[1]}, indent=2, ensure_ascii=False))
        return
    print(shown(told[0]))
    complain(proposal.warnings, "Warning: ")
    complain(proposal.problems)
    print(shown(proposal.summary))


def _print_proposal(proposal: Proposal, as_json: bool) -> None:
    if as_json:
        print(json.dumps(proposal.to_dict(), indent=2))
        return
    for row in proposal.rows:
        arrow = f" → {row.target}" if row.target else ""
        print(shown(f"{row.action}: {row.source}{arrow}" + (f"   ({row.note})" if row.note else "")))
    complain(proposal.warnings, "Warning: ")
    complain(proposal.problems)
    print(shown(proposal.summary))


def _told(job: jobs.JobFolder) -> dict[str, Any]:
    rows, _ = job.read_table()
    return {
        "job": str(job.path),
        "status": job.status(),
        "rows": [{**asdict(done.row), "outcome": done.outcome} for done in rows],
    }


def _repeat(chosen: argparse.Namespace) -> int:
    path = chosen.journal / journal.FILE_NAME if chosen.journal.is_dir() else chosen.journal
    if path is not chosen.journal and not path.exists():
        raise UserError("this job changed nothing, or the folder is no job.", str(chosen.journal))
    with jobs.held(jobs.JobFolder(path.parent)) if (path.parent / "job.json").is_file() else contextlib.nullcontext():
        done: Undone = getattr(journal, chosen.direction)(path)
    complain(done.failed)
    if chosen.json:
        told = {"restored": [str(p) for p in done.restored], "already": [str(p) for p in done.already]}
        print(json.dumps({**told, "failed": [asdict(problem) for problem in done.failed]}, indent=2))
    else:
        print(f"restored {len(done.restored)}\nas before {len(done.already)}\nfailed   {len(done.failed)}")
    return UserError.exit_code if done.failed else 0


def _list_jobs(chosen: argparse.Namespace) -> int:
    found = jobs.jobs_in(chosen.folder)
    if chosen.json:
        listed = [{"job": str(job.path), "tool": job.load().tool, "status": job.status()} for job in found]
        print(json.dumps(listed, indent=2))
        return 0
    for job in found:
        finished = [e.event for e in event_log.read(job.events)[0] if isinstance(e.event, events.Finished)]
        print(shown(f"{job.path}   {job.status()}   {finished[-1].reason if finished else ''}".rstrip()))
    return 0
