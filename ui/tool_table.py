"""All tools that panels of the page can show, by name."""

from __future__ import annotations

from captioning.tools import TOOLS as CAPTIONING_TOOLS
from engine.compare import COMPARISONS
from engine.lora_tools import TOOLS as LORA_TOOLS
from engine.tools.tool import ToolModule

TOOLS: dict[str, ToolModule] = {**CAPTIONING_TOOLS, **LORA_TOOLS, **COMPARISONS}
