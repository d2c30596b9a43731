"""The command line of the tools: `python -m captioning TOOL [FOLDER] [--set name=value] [--dry-run]`, `undo`, `redo`.

Exit codes: 0 done or stopped, 1 defect, 2 the user's input (a file that could not be worked on, too).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captioning import jobs, journal
from captioning.journal_entries import Undone
from captioning.tool import Proposal, make_settings, settings_table
from captioning.tools import TOOLS
from captioning.working import complain, shown, work
from engine import events
from engine.errors import UserError
from engine.preset import parse_assignments


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.command(chosen)
    except UserError as error:
        complain(error.problems)
        return error.exit_code
    except KeyboardInterrupt:  # before the first file: nothing was changed
        print("Stopped.")
        return 0
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioning", description="Tools for folders of training images. Everything can be undone."
    )
    parts = parser.add_subparsers(required=True, metavar=" | ".join((*TOOLS, "run", "undo", "redo", "jobs")))
    for name, tool in TOOLS.items():
        _add_tool(parts.add_parser(name, help=tool.ABOUT, description=tool.ABOUT, epilog=_settings_text(name)), name)
    running = parts.add_parser("run", help="carry out a job folder that was prepared")
    running.add_argument("job", type=Path, metavar="JOB_FOLDER")
    running.set_defaults(command=lambda chosen: work(jobs.JobFolder(chosen.job.absolute())))
    for name, about in (("undo", "put back what a job did"), ("redo", "do again what was undone")):
        part = parts.add_parser(name, help=about)
        part.add_argument("journal", type=Path, metavar="JOB_FOLDER|JOURNAL")
        part.add_argument("--json", action="store_true", help="print what was restored as JSON")
        part.set_defaults(command=_repeat, direction=name)
    listing = parts.add_parser("jobs", help="list the jobs that were done, the last first")
    listing.add_argument("folder", nargs="?", type=Path, metavar="JOBS_FOLDER")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(command=_list_jobs)
    return parser


def _add_tool(part: argparse.ArgumentParser, name: str) -> None:
    part.formatter_class = argparse.RawDescriptionHelpFormatter
    part.add_argument("folder", nargs="?", metavar="FOLDER", help="the same as --set folder=FOLDER")
    part.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="change a setting; repeatable",
    )  # fmt: skip
    part.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    part.add_argument("--json", action="store_true", help="print the table as JSON")
    part.add_argument("--job", type=Path, metavar="FOLDER", help="the job folder to make; default: jobs/NAME-TIME")
    part.set_defaults(command=_tool, tool=name)


def _settings_text(name: str) -> str:
    table = settings_table(name, TOOLS[name].Settings)
    lines = [
        f"  {key} ({item.limits_text}; default {item.default!r})\n      {item.help}" for key, item in table.items()
    ]
    return "settings:\n" + "\n".join(lines).replace("%", "%%")


def _tool(chosen: argparse.Namespace) -> int:
    tool, values = TOOLS[chosen.tool], dict(parse_assignments(chosen.assignments))
    if chosen.folder is not None:
        values["folder"] = chosen.folder
    table = settings_table(chosen.tool, tool.Settings)
    paths = [key for key, value in values.items() if key in table and table[key].kind in ("folder", "file") and value]
    values |= {key: str(Path(values[key]).expanduser().absolute()) for key in paths}
    settings = make_settings(chosen.tool, tool.Settings, values)
    proposal = tool.propose(settings)
    if chosen.dry_run or proposal.problems:
        _print_proposal(proposal, chosen.json)
        return UserError.exit_code if proposal.problems else 0
    job = jobs.create(chosen.tool, settings, chosen.job)
    if not chosen.json:
        return work(job)
    with contextlib.redirect_stdout(sys.stderr):  # what is printed here is one JSON object
        code = work(job)
    print(json.dumps(_told(job), indent=2))
    return code


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
        finished = [e.event for e in events.read(job.events)[0] if isinstance(e.event, events.Finished)]
        print(shown(f"{job.path}   {job.status()}   {finished[-1].reason if finished else ''}".rstrip()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
