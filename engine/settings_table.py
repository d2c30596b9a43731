"""docs/settings.md, made from the settings: `python -m engine.settings_table` writes it, a test compares it."""

from __future__ import annotations

from engine.atomic import write_text_whole
from engine.preset import ROOT, SECTIONS, SETTINGS
from engine.settings import Setting

TARGET = ROOT / "docs" / "settings.md"
HEAD = """# All settings

Made from `engine/sections/` by `python -m engine.settings_table`; do not edit by hand. On the command line each is
given as `--set section.name=value`. The last column names the same thing in kohya_ss, or in sd-scripts where
kohya_ss has no key of its own.
"""
COLUMNS = "| setting | default | values | what it does | kohya |\n|---|---|---|---|---|\n"


def table() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for section in SECTIONS:
        parts.append(f"\n## {section}\n\n{COLUMNS}")
        parts += [_row(item) for item in SETTINGS if item.section == section]
    return "".join(parts)


def _row(item: Setting) -> str:
    values = item.limits_text + (f", {item.unit}" if item.unit and item.unit not in item.limits_text else "")
    when = "".join(f" Only with `{path}` = {_shown(value)}." for path, value in item.when)
    level = "" if item.level == "basic" else f" ({item.level})"
    cells = (f"`{item.path}`{level}", _shown(item.default), values, item.help + when, _names(item))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else (str(value) or "empty")


def _names(item: Setting) -> str:
    name = item.kohya or item.sd_scripts
    return f"`{name}`" if name else ""


if __name__ == "__main__":
    from engine.lora_tools import settings_table as lora_tools

    write_text_whole(TARGET, table())
    lora_tools.write()
