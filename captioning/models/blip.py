"""BLIP: one sentence an image (Li et al. 2022, arXiv 2201.12086), from a folder as transformers saves it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from captioning.model_folder import require_files, require_type
from captioning.pretrained import PROCESSOR, WEIGHTS, Describer, TorchSettings, load_pretrained
from engine.settings import setting


class Settings(TorchSettings):
    prompt: str = setting("", "Words that every caption begins with; the model goes on from there.", "提示词")
    beams: int = setting(3, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(60, "No caption grows longer than this.", "最大长度", ge=1, le=225)


def load(folder: Path, settings: Settings) -> Describer:
    config, *_ = require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, ("tokenizer.json", "vocab.txt"))
    require_type(config, "blip")
    model, processor = load_pretrained(folder, "BlipForConditionalGeneration", settings)
    words = {}
    if settings.prompt:
        words = dict(processor(images=Image.new("RGB", (32, 32)), text=settings.prompt, return_tensors="pt"))
        del words["pixel_values"]
    return Describer(model, processor, words, {"num_beams": settings.beams, "max_new_tokens": settings.max_tokens})
