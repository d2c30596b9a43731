"""Where Atelier keeps what belongs to this user and this machine."""

from __future__ import annotations

import os
from pathlib import Path

from engine.preset import ROOT


def home() -> Path:
    """Atelier's own folder, or the one that ATELIER_HOME names."""
    return Path(os.environ.get("ATELIER_HOME") or ROOT).resolve()
