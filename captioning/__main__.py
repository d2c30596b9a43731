"""The command line of the tools: `python -m captioning TOOL [FOLDER] [--set name=value] [--dry-run]`, `undo`, `redo`.

Exit codes: 0 done or stopped, 1 defect, 2 the user's input (a file that could not be worked on, too).
"""

from __future__ import annotations

import argparse
import os
import sys

from captioning.tools import PROGRAM
from engine.errors import UserError
from engine.tools.command import add_parsers, commands
from engine.tools.working import complain


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
    add_parsers(parser.add_subparsers(required=True, metavar=" | ".join(commands(PROGRAM))), PROGRAM)
    return parser


if __name__ == "__main__":
    sys.exit(main())
