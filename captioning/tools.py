"""The tools by name. A new one is a file in this folder and a line here."""

from __future__ import annotations

from captioning import arrange, balance, caption_tool, clean, name_captions, rename
from captioning.tool import ToolModule

TOOLS: dict[str, ToolModule] = {
    "caption": caption_tool,
    "clean": clean,
    "rename": rename,
    "name_captions": name_captions,
    "arrange": arrange,
    "balance": balance,
}
