"""Who listens to a run's events besides the page: trackers and uploads, where the preset asks for them."""

from __future__ import annotations

from engine.hardware import HardwareWatch
from engine.preset import Preset
from engine.report import Reporter
from engine.trackers import tracking
from engine.uploads import Uploads


def add_listeners(report: Reporter, preset: Preset, first_step: int, card: str = "") -> None:
    """Begin trackers and uploads of a run that goes on at `first_step`, and the watch over its card, if it has one."""
    if card:
        report.listeners.append(HardwareWatch(card, report.log))
    found = tracking(preset, report.run, first_step, report.warn)
    if found is not None:
        report.listeners.append(found)
    if preset.sharing.hub_repo:
        sharing = preset.sharing
        report.say(f"Uploads go to the Hugging Face hub: {sharing.hub_repo} ({sharing.hub_visibility} when it is new)")
        report.listeners.append(Uploads(preset, report.run, report.warn))
