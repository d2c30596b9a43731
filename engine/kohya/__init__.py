"""Presets of kohya_ss and sd-scripts, read into ours with a receipt. `read` is the door; torch-free."""

from __future__ import annotations

from engine.kohya.reading import Import, read
from engine.kohya.receipt import GROUPS, Line, Receipt

__all__ = ["GROUPS", "Import", "Line", "Receipt", "read"]
