"""Tools for finished LoRAs and checkpoints: one file a tool, one line here. No torch before the work begins."""

from __future__ import annotations

from engine.tools.tool import Program, ToolModule

TOOLS: dict[str, ToolModule] = {}

PROGRAM = Program("engine", TOOLS)
