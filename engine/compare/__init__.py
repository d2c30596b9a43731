"""Comparing what LoRAs draw: plots over up to three axes, a run's way in pictures, and which checkpoint to take.

Each is a tool (engine/tools/tool.py): its job folder can be stopped, killed and begun again; finished pictures stay.
"""

from __future__ import annotations

from engine.compare import pick, plot, timeline
from engine.tools.tool import ToolModule

COMPARISONS: dict[str, ToolModule] = {
    "compare": plot,
    "timeline": timeline,
    "pick": pick,
}
