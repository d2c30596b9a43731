"""`python -m engine sample` for drawing presets and models, and `python -m engine draw`: the process that stays."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from engine.drawing.desk import Desk, desk
from engine.drawing.plan import PlannedPicture, plan_drawing
from engine.drawing.settings import DrawingPreset, is_drawing, load
from engine.errors import UserError
from engine.preset import parse_assignments

OUT_OF_MEMORY = 3


def is_for_drawing(target: Path) -> bool:
    """Whether `sample` means a drawing: a drawing preset, or a model to draw with."""
    is_folder_of_model = target.is_dir() and (target / "model_index.json").is_file()
    return is_folder_of_model or target.suffix == ".safetensors" or (target.is_file() and is_drawing(target))


def sample(chosen: argparse.Namespace) -> int:
    """Draw the pictures of a preset; prints each one's path."""
    for preset in presets_of(chosen.target, chosen.assignments, chosen.prompt or (), chosen.lora or ()):
        code = _draw(preset, chosen.out)
        if code:
            return code
    return 0


def presets_of(
    target: Path, assignments: Sequence[str], prompts: Sequence[str], loras: Sequence[str]
) -> list[DrawingPreset]:
    """The preset of a file or for a model, changed as the command line says; one for each prompt."""
    is_preset = target.is_file() and is_drawing(target)
    start = load(target) if is_preset else DrawingPreset()
    values: dict[str, object] = {} if is_preset else {"model.base": str(target.resolve())}
    lines = [f"{file}: {strength}" if mark else text for text in loras for file, mark, strength in [_parts(text)]]
    if lines:
        values["loras.files"] = "\n".join([start.loras.files, *lines]).strip()
    values |= parse_assignments(assignments)
    return [start.changed({**values, "picture.prompt": prompt}) for prompt in prompts] or [start.changed(values)]


def _parts(text: str) -> tuple[str, str, str]:
    file, mark, strength = text.rpartition("=")
    return file, mark, strength


def _draw(preset: DrawingPreset, out: Path | None) -> int:
    plan = plan_drawing(preset)
    from engine.drawing.server import OUT_OF_MEMORY_ADVICE, refuse_beside_training
    from engine.drawing.studio import Studio
    from engine.drawing.work import draw_all
    from engine.memory import is_out_of_memory

    refuse_beside_training(preset)
    try:
        for done in draw_all(plan, Studio(), _Terminal(), out):
            print(done.path, flush=True)
    except KeyboardInterrupt:
        print("Cancelled; finished pictures are whole.", file=sys.stderr)
    except UserError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(OUT_OF_MEMORY_ADVICE, file=sys.stderr)
        return OUT_OF_MEMORY
    return 0


class _Terminal:
    """Shows how far a drawing is where somebody looks at a terminal."""

    def stage(self, name: str) -> None:
        if sys.stderr.isatty():
            print(f"{name} …", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\rstep {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    def previewed(self, planned: PlannedPicture, step: int, picture: Image.Image) -> None:
        """Nothing: a terminal shows no pictures."""

    def is_cancelled(self) -> bool:
        return False


def serve(chosen: argparse.Namespace) -> int:
    """Be the process that draws for a folder, until nobody has asked for a while."""
    from engine.drawing.server import serve as work

    try:
        work(Desk(chosen.folder.resolve()) if chosen.folder else desk())
    except KeyboardInterrupt:
        print("Ended; what waits stays there.", file=sys.stderr)
    return 0
