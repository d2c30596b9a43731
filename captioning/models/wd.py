"""WD tagger (v1.4 and v3 families): tags an image, from a folder with model.onnx and selected_tags.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioning.devices import onnx_session
from captioning.model_folder import loading, require_files
from captioning.protocol import CaptionerSettings
from captioning.tagging import read_tags, spaced, square_bgr
from engine.errors import ModelError
from engine.settings import setting

GENERAL, CHARACTER = "0", "4"  # Danbooru's category numbers; 9 is the rating, which is no tag


class Settings(CaptionerSettings):
    general_threshold: float = setting(0.35, "A tag is written from this probability on.", "通用阈值", ge=0, le=1)
    character_threshold: float = setting(0.85, "The same for names of characters.", "角色阈值", ge=0, le=1)
    underscores: bool = setting(False, "Write long_hair instead of long hair.", "保留下划线")
    leave_out: str = setting("", "Tags that are never written, separated by commas.", "排除标签")


class WdTagger:
    def __init__(self, session: Any, tags: list[tuple[str, str]], settings: Settings) -> None:
        self.session, self.tags, self.input = session, tags, session.get_inputs()[0]
        self.threshold = {GENERAL: settings.general_threshold, CHARACTER: settings.character_threshold}
        self.shown = [name if settings.underscores else spaced(name) for name, _ in tags]
        self.left_out = {spaced(name.strip().lower()) for name in settings.leave_out.split(",")}

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        pixels = np.stack([square_bgr(image, self.input.shape[1]) for image in images])
        one_by_one = isinstance(self.input.shape[0], int)  # some exports take no batches
        runs = np.split(pixels, len(pixels)) if one_by_one else [pixels]
        return [self._text(row) for run in runs for row in self.session.run(None, {self.input.name: run})[0]]

    def _text(self, probabilities: np.ndarray) -> str:
        """Tags above their category's threshold: general ones first, in each category the most probable first."""
        order = sorted(range(len(self.tags)), key=lambda n: (self.tags[n][1] == CHARACTER, -probabilities[n]))
        said = [n for n in order if probabilities[n] >= self.threshold.get(self.tags[n][1], 2)]
        return ", ".join(self.shown[n] for n in said if spaced(self.tags[n][0].lower()) not in self.left_out)


def load(folder: Path, settings: Settings) -> WdTagger:
    weights, table = require_files(folder, ("model.onnx",), ("selected_tags.csv",))
    with loading(folder):
        tags, session = read_tags(table), onnx_session(weights, settings.device)
    if isinstance(width := session.get_outputs()[0].shape[-1], int) and width != len(tags):
        raise ModelError(f"names {len(tags)} tags, model.onnx gives {width}. Download both again.", str(table))
    return WdTagger(session, tags, settings)
