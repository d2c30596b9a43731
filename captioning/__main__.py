"""The command line: `python -m captioning CAPTIONER --model FOLDER IMAGES_FOLDER`, and `--undo JOURNAL`.

Exit codes: 0 done or stopped by Ctrl-C, 1 defect, 2 the user's input (an image that cannot be read, too).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from captioning import journal
from captioning.caption_files import EXISTING, Survey, survey
from captioning.captioners import CAPTIONERS, make_settings, parse_assignments
from captioning.job import Job, Outcome
from engine.errors import Problem, UserError
from engine.preset import Preset, resolve
from engine.report import time_text

_TELL_EVERY = 20


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    chosen = parser.parse_intermixed_args(arguments)
    lacking = [name for name in ("captioner", "images", "model") if getattr(chosen, name) is None]
    if chosen.undo is None and lacking:
        parser.error(f"not given: {', '.join(lacking)}")
    try:
        return _undo(chosen.undo) if chosen.undo is not None else _caption(chosen)
    except UserError as error:
        _complain(error.problems)
        return error.exit_code
    except KeyboardInterrupt:  # before the first image: nothing was written
        print("Stopped.")
        return 0
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m captioning", description="Write captions for training images.")
    parser.add_argument("captioner", nargs="?", choices=CAPTIONERS, metavar="|".join(CAPTIONERS))
    parser.add_argument("images", nargs="?", type=Path, metavar="IMAGES_FOLDER")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="the folder that the model's files are in")
    parser.add_argument("--extension", default=".txt", metavar=".EXT", help="of caption files; default: .txt")
    parser.add_argument("--existing", choices=EXISTING, default="keep", help="what becomes of captions; default: keep")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--batch", type=_count, default=4, metavar="N", help="images at once; default: 4")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="change a setting of the captioner; repeatable",
    )  # fmt: skip
    parser.add_argument("--undo", type=Path, metavar="JOURNAL", help="restore every caption that a job replaced")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="of journals; default: Atelier's cache folder")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 (got {text!r})")
    return int(text)


def _caption(chosen: argparse.Namespace) -> int:
    values = parse_assignments([*chosen.assignments, *([f"device={chosen.device}"] if chosen.device else [])])
    settings = make_settings(chosen.captioner, values)
    found = survey(chosen.images, chosen.extension, chosen.existing)
    notes = journal.Journal((chosen.cache or resolve(Preset().data.cache_folder)) / journal.FOLDER_NAME)
    start = time.monotonic()
    if found.items:
        notes.prepare()
        try:
            captioner = CAPTIONERS[chosen.captioner].load(chosen.model, settings)
            job = Job(captioner, chosen.existing, notes, chosen.batch, _teller(len(found.items), chosen.batch))
            outcome = job.run(found)
        finally:
            notes.remove_if_empty()
    else:
        outcome = _nothing_to_do(found)
    _tell_outcome(outcome, notes, time.monotonic() - start)
    return outcome.exit_code


def _nothing_to_do(found: Survey) -> Outcome:
    return Outcome(kept=[item.image for item in found.kept], failed=found.failed)


def _teller(total: int, batch: int):
    def tell(done: int) -> None:
        if done // _TELL_EVERY > (done - batch) // _TELL_EVERY and done < total:
            print(f"{done} of {total} images", flush=True)

    return tell


def _tell_outcome(outcome: Outcome, notes: journal.Journal, seconds: float) -> None:
    for defect in outcome.defects[:1]:
        print(defect, file=sys.stderr)
    _complain(outcome.failed)
    if outcome.stopped:
        print("Stopped. What was written before is whole.")
    print(f"written  {len(outcome.written)}   ({time_text(seconds)})\nkept     {len(outcome.kept)}")
    print(f"failed   {len(outcome.failed)}")
    if notes.entries:
        print(f"To undo: python -m captioning --undo {_shown(str(notes.path))}")


def _undo(path: Path) -> int:
    done = journal.undo(path)
    _complain(done.failed)
    print(f"restored {len(done.restored)}\nas before {len(done.already)}\nfailed   {len(done.failed)}")
    return UserError.exit_code if done.failed else 0


def _complain(problems: list[Problem] | tuple[Problem, ...]) -> None:
    for problem in problems:
        print(_shown(str(problem)), file=sys.stderr)


def _shown(text: str) -> str:
    """Names that are no text, as file systems may hold them, can be printed too."""
    return os.fsencode(text).decode("utf-8", errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
