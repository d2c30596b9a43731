"""The tab Tools: work on finished LoRAs and on checkpoints. The panel is that of all tools."""

from __future__ import annotations

import gradio as gr

from engine.lora_tools import TOOLS
from ui import tool_panel
from ui.tool_panel import ToolPanel

_ABOUT = (
    "Choose a tool, choose a file, and press Look: it is told what the file holds, or what would be made. Nothing is "
    "changed before you say so, no file is ever written over, and what was made can be undone."
)


def build(timer: gr.Timer) -> ToolPanel:
    """Draw the tab. The timer stands outside of all tabs."""
    gr.HTML(f'<div class="empty"><h3>Finished LoRAs and checkpoints</h3><p>{_ABOUT}</p></div>', elem_id="tools-about")
    return tool_panel.build("lora", list(TOOLS), timer)
