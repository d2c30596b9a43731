"""Latents and text features made as a run makes them, by the very functions of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.base_model import open_latents, open_text
from engine.caption_source import CaptionSource
from engine.data.cache import Store
from engine.errors import UserError
from engine.lora_tools.stream import StopAsked
from engine.memory import choose_computation, choose_device
from engine.plan import Plan
from engine.preparing import by_flips, captions_of
from engine.preset import Preset
from engine.tools.tool import Report


def make(preset: Preset, plan: Plan, kind: str, report: Report) -> bool:
    """Encode what the cache lacks; False where it was stopped, what is made then stays. Raises UserError kinds."""
    facts = plan.model
    if facts is None:
        raise UserError("no base model was found. Choose one in the preset.", "model.base")
    device = choose_device(preset)
    computation = choose_computation(preset, facts, device)
    tell = _teller(report)
    try:
        if kind == "latents":
            latents = open_latents(preset, facts, computation, device, report.warn)
            used = [image for image in plan.images if image.repeats]
            for flips, images in (*by_flips(preset, used), ((False,), list(plan.validation))):
                for fault in latents.prepare(images, flips, preset.memory.vae_batch_size, tell):
                    report.warn(fault.message, fault.where)
        else:
            text = open_text(preset, facts, computation, device)
            text.prepare([*CaptionSource(preset, plan).all(), *captions_of(plan.prompts)], tell)
            text.release()
    except StopAsked:
        return False
    return True


def clear(folder: Path, kind: str) -> None:
    """Throw all records of a cache away. UserError where another program is writing to it."""
    with Store.open(folder, kind) as store:
        store.clear()


def _teller(report: Report) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        report.progress(done, total)
        if report.is_stop_asked():
            raise StopAsked

    return tell
