"""Tools for finished LoRAs and checkpoints: one file a tool, one line here. No torch before the work begins."""

from __future__ import annotations

from engine.lora_tools import (
    caches,
    combine,
    convert,
    cut,
    dylora,
    extract,
    inspect,
    merge,
    merge_checkpoints,
    prune,
    resize,
    verify,
)
from engine.tools.tool import Program, ToolModule

TOOLS: dict[str, ToolModule] = {
    "inspect": inspect,
    "verify": verify,
    "merge": merge,
    "combine": combine,
    "resize": resize,
    "extract": extract,
    "convert": convert,
    "merge_checkpoints": merge_checkpoints,
    "prune": prune,
    "dylora": dylora,
    "cut": cut,
    "caches": caches,
}

PROGRAM = Program("engine", TOOLS)
