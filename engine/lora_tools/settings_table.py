"""The last part of docs/lora-tools.md, made from the settings; `python -m engine.settings_table` writes it too."""

from __future__ import annotations

from engine.atomic import write_text_whole
from engine.lora_tools import TOOLS
from engine.preset import ROOT
from engine.tools.tool import settings_table

TARGET = ROOT / "docs" / "lora-tools.md"
HEADING = "## All settings\n"
_COLUMNS = "\n| `--set` | default | values | what it does |\n|---|---|---|---|\n"


def table() -> str:
    """What stands below the heading, as Markdown."""
    parts = ["\nMade by `python -m engine.settings_table`; do not edit below this line.\n"]
    for name, tool in TOOLS.items():
        parts += [f"\n### {name}\n\n{tool.ABOUT}\n", _COLUMNS]
        for key, item in settings_table(name, tool.Settings).items():
            default = str(item.default).lower() if isinstance(item.default, bool) else str(item.default) or "empty"
            cells = (f"`{key}`", default, item.limits_text, item.help)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


def page() -> str:
    """The whole page with a new table."""
    return TARGET.read_text(encoding="utf-8").partition(HEADING)[0] + HEADING + table()


def write() -> None:
    write_text_whole(TARGET, page())
