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
from captioning.tagging import TagRules, left_out, parse_order, parse_replacements, read_tags, square_bgr
from engine.errors import ModelError
from engine.settings import setting


class Settings(CaptionerSettings):
    general_threshold: float = setting(0.35, "A tag is written from this probability on.", "通用阈值", ge=0, le=1)
    character_threshold: float = setting(0.85, "The same for names of characters.", "角色阈值", ge=0, le=1)
    rating_threshold: float = setting(
        0, "The same for the most probable rating, if the order names it.", "分级阈值", ge=0, le=1, level="advanced"
    )
    order: str = setting(
        "general, character",
        "Kinds of tags that are written and their order: general, character, rating (sensitive and the like).",
        "类别顺序",
    )
    underscores: bool = setting(False, "Write long_hair instead of long hair.", "保留下划线")
    escape: bool = setting(
        False, "Write \\( and \\) for brackets, which are weights in prompts and weighted captions.", "转义括号"
    )
    leave_out: str = setting("", "Tags that are never written, separated by commas.", "排除标签")
    replace: str = setting(
        "",
        "Tags that become others: a line (or part before a semicolon) such as: long hair, very long hair -> long hair; "
        "nothing behind the arrow takes them out.",
        "替换标签",
        kind="lines",
    )


class WdTagger:
    def __init__(self, session: Any, tags: list[tuple[str, str]], rules: TagRules) -> None:
        self.session, self.tags, self.rules, self.input = session, tags, rules, session.get_inputs()[0]
        self.side_px = self.input.shape[1]

    def prepare(self, image: Image.Image) -> np.ndarray:
        return square_bgr(image, self.side_px)

    def caption(self, prepared: Sequence[np.ndarray]) -> list[str]:
        pixels = np.stack(prepared)
        one_by_one = isinstance(self.input.shape[0], int)  # some exports take no batches
        runs = np.split(pixels, len(pixels)) if one_by_one else [pixels]
        found = [row for run in runs for row in self.session.run(None, {self.input.name: run})[0]]
        return [self.rules.text(self.tags, row) for row in found]


def rules_of(settings: Settings) -> TagRules:
    """Raises UserError for an order or a replacement that cannot be read."""
    thresholds = {"general": settings.general_threshold, "character": settings.character_threshold}
    return TagRules(
        order=parse_order(settings.order),
        thresholds={**thresholds, "rating": settings.rating_threshold},
        underscores=settings.underscores,
        escape=settings.escape,
        leave_out=left_out(settings.leave_out),
        replace=parse_replacements(settings.replace),
    )


check = rules_of


def load(folder: Path, settings: Settings) -> WdTagger:
    rules = rules_of(settings)
    weights, table = require_files(folder, ("model.onnx",), ("selected_tags.csv",))
    with loading(folder):
        tags, session = read_tags(table), onnx_session(weights, settings.device)
    if isinstance(width := session.get_outputs()[0].shape[-1], int) and width != len(tags):
        raise ModelError(f"names {len(tags)} tags, model.onnx gives {width}. Download both again.", str(table))
    return WdTagger(session, tags, rules)
