"""Florence-2: a caption in three lengths (Xiao et al. 2023, arXiv 2311.06242).

In the form that transformers itself loads: florence-community's. Microsoft's holds program code, which is never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PIL import Image

from captioning.model_folder import config_of, require_files, require_type
from captioning.pretrained import PROCESSOR, TOKENIZER, WEIGHTS, Describer, TorchSettings, load_pretrained
from engine.errors import ModelError
from engine.settings import setting

TASKS = {"short": "<CAPTION>", "detailed": "<DETAILED_CAPTION>", "more detailed": "<MORE_DETAILED_CAPTION>"}


class Settings(TorchSettings):
    detail: Literal["short", "detailed", "more detailed"] = setting(
        "detailed", "One sentence, a few, or a paragraph.", "详细程度"
    )
    beams: int = setting(3, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(512, "No caption grows longer than this.", "最大长度", ge=1, le=1024)


def load(folder: Path, settings: Settings) -> Describer:
    config, *_ = require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, TOKENIZER)
    require_type(config, "florence2")
    if config_of(config).get("vision_config", {}).get("model_type") == "davit":
        what = "these are Microsoft's files, which need their own program code; no code of a model folder is ever run."
        raise ModelError(f"{what} Get the same model from florence-community (docs/captioning.md).", str(folder))
    model, processor = load_pretrained(folder, "Florence2ForConditionalGeneration", settings)
    task = TASKS[settings.detail]
    words = dict(processor(images=Image.new("RGB", (32, 32)), text=task, return_tensors="pt"))
    del words["pixel_values"]
    longest = min(settings.max_tokens, model.config.text_config.max_position_embeddings - 2)
    describer = Describer(model, processor, words, {"num_beams": settings.beams, "max_new_tokens": longest})
    describer.finish = lambda text: processor.post_process_generation(text=text, task=task)[task]
    return describer
