"""The captioners by name. A new one is a file in this folder, a line here, and its settings in caption_tool.py."""

from __future__ import annotations

from captioning import blip, wd
from captioning.protocol import CaptionerModule

CAPTIONERS: dict[str, CaptionerModule] = {
    "blip": blip,
    "wd": wd,
}
