"""The tools by name. A new one is a file in this folder and a line here."""

from __future__ import annotations

from captioning import arrange, balance, caption_tool, clean, crop, download, name_captions, rename, similarity
from engine.tools.tool import Program, ToolModule

TOOLS: dict[str, ToolModule] = {
    "caption": caption_tool,
    "arrange": arrange,
    "rename": rename,
    "name_captions": name_captions,
    "clean": clean,
    "crop": crop,
    "balance": balance,
    "similarity": similarity,
    "download": download,
}

PROGRAM = Program("captioning", TOOLS)
