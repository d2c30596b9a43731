"""The last part of docs/captioning.md, made from the settings: `python -m captioning.settings_table` writes it."""

from __future__ import annotations

from captioning import caption_tool, download
from engine.atomic import write_text_whole
from engine.preset import ROOT
from engine.tools.tool import settings_table

TARGET = ROOT / "docs" / "captioning.md"
HEADING = "## All settings\n"
_TOOLS = {"caption": caption_tool, "download": download}


def table() -> str:
    """What stands below the heading, as Markdown."""
    parts = ["\nMade by `python -m captioning.settings_table`; do not edit below this line.\n"]
    for name, tool in _TOOLS.items():
        parts.append(f"\n### {name}\n\n| `--set` | default | values | what it does |\n|---|---|---|---|\n")
        for key, item in settings_table(name, tool.Settings).items():
            default = str(item.default).lower() if isinstance(item.default, bool) else str(item.default) or "empty"
            cells = (f"`{key}`", default, item.limits_text, item.help)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


def page() -> str:
    """The whole page with a new table."""
    return TARGET.read_text(encoding="utf-8").partition(HEADING)[0] + HEADING + table()


if __name__ == "__main__":
    write_text_whole(TARGET, page())
