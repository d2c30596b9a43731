"""The failures in docs/troubleshooting.md: `python -m engine.failures_table` writes them, a test compares them."""

from __future__ import annotations

from engine.atomic import write_text_whole
from engine.failures import CATALOGUE
from engine.preset import ROOT

TARGET = ROOT / "docs" / "troubleshooting.md"
HEADING = "\n## Failures that are recognised\n\n"
INTRO = """Made from `engine/failures/` by `python -m engine.failures_table`; do not edit from here on by hand. The tab
Run shows cause and remedy of a run that failed, was killed or goes badly; where a change of settings may help, a
button starts again with it. **Copy report** copies what somebody who helps needs, without keys, names, texts and paths.

| failure | recognised by | cause | what to do |
|---|---|---|---|
"""


def page() -> str:
    """The whole page: what stands there by hand, then the table."""
    rows = (
        f"| {name.replace('_', ' ')} | {kind.seen} | {kind.cause} | {kind.remedy} |".replace("10_name", "`10_name`")
        for name, kind in CATALOGUE.items()
    )
    by_hand = TARGET.read_text(encoding="utf-8").partition(HEADING)[0].rstrip("\n")
    return f"{by_hand}\n{HEADING}{INTRO}" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    write_text_whole(TARGET, page())
