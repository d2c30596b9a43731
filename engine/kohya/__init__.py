"""Presets of kohya_ss and sd-scripts, read into ours with a receipt, and ours written back. Torch-free.

`read` and `export` are the doors.
"""

from __future__ import annotations

from engine.kohya.export import Export, Lost, export
from engine.kohya.reading import Import, read
from engine.kohya.receipt import GROUPS, Line, Receipt

__all__ = ["GROUPS", "Export", "Import", "Line", "Lost", "Receipt", "export", "read"]
