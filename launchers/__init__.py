"""How an engine process is started: each launcher takes a run folder and returns the process's id."""

from __future__ import annotations

from launchers import local

LAUNCHERS = {"local": local.start}
