"""The captioners by name. A new one is a file in models/, a line here, and its settings in caption_tool.py."""

from __future__ import annotations

from captioning.models import blip, blip2, coca, florence2, git, vlm, wd
from captioning.protocol import CaptionerModule

CAPTIONERS: dict[str, CaptionerModule] = {
    "wd": wd,
    "florence2": florence2,
    "vlm": vlm,
    "blip": blip,
    "blip2": blip2,
    "git": git,
    "coca": coca,
}
