"""Find and replace with a regular expression, in a process of its own: an expression that never ends is ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from engine.errors import UserError

LIMIT_SECONDS = 5.0
_WHERE = "Find"
_PROGRAM = """
import json, re, sys
pattern, replacement, flags, texts = json.loads(sys.stdin.buffer.read())
found = re.compile(pattern, flags)
json.dump([found.sub(replacement, text) for text in texts], sys.stdout)
"""


def replaced(texts: Sequence[str], pattern: str, replacement: str, match_case: bool) -> list[str]:
    """The texts with every match replaced; `\\1` or `\\g<name>` in the replacement are the groups of the match.

    Raises UserError for an expression or a replacement that is none, and for one that takes more than LIMIT_SECONDS.
    """
    flags = re.MULTILINE | (0 if match_case else re.IGNORECASE)
    _check(pattern, replacement, flags)
    content = json.dumps([pattern, replacement, flags, list(texts)]).encode()
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        what = f"this regular expression did not end within {LIMIT_SECONDS:.0f} s. Write it without nested repetitions"
        raise UserError(f"{what} such as (a+)+.", _WHERE) from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(f"the regular expression failed ({reason[0]}). Simplify it.", _WHERE)
    return json.loads(done.stdout)


def _check(pattern: str, replacement: str, flags: int) -> None:
    try:
        found = re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"is no regular expression: {error} (got {pattern!r}). Correct it, or take the box “regular” off"
        raise UserError(f"{what}.", _WHERE) from None
    groups = "|".join(["", *(f"(?P<{name}>)" for name in found.groupindex)])
    numbered = "()" * (found.groups - len(found.groupindex))
    try:
        re.sub(f"{groups}{numbered}", replacement, "")
    except (re.error, IndexError) as error:
        what = f"cannot be used: {error} (got {replacement!r}). Groups of the match are written \\1, \\2"
        raise UserError(f"{what}.", "Replace with") from None
