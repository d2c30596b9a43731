"""Tools for finished LoRAs and checkpoints: one file a tool, one line here. No torch before the work begins."""

from __future__ import annotations

from engine.lora_tools import resize
from engine.tools.tool import Program, ToolModule

TOOLS: dict[str, ToolModule] = {
    "resize": resize,
}

PROGRAM = Program("engine", TOOLS)
