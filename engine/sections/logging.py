"""Settings of the section `logging`: what is recorded."""

from __future__ import annotations

from engine.settings import Section, setting


class Logging(Section):
    every_steps: int = setting(
        10,
        "How often losses are read back from the device and shown; every step is recorded all the same.",
        "日志间隔",
        label="Show losses every",
        ge=1,
        le=1000,
        unit="steps",
        level="expert",
    )
