"""BLIP-2: a large language model that looks (Li et al. 2023, arXiv 2301.12597): OPT, FLAN-T5 or another one.

`config.json` names the language model; a decoder (OPT) gives the prompt back in front of its answer, an encoder-decoder
(T5) does not.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from captioning.model_folder import require_files, require_type
from captioning.pretrained import PROCESSOR, TOKENIZER, WEIGHTS, Describer, TorchSettings, load_pretrained
from engine.errors import ModelError
from engine.settings import setting


class Settings(TorchSettings):
    prompt: str = setting(
        "a photo of",
        "What the language model is asked or goes on from, such as “a photo of” or “Question: what is this? Answer:”.",
        "提示词",
    )
    beams: int = setting(3, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(50, "No caption grows longer than this.", "最大长度", ge=1, le=500)


def load(folder: Path, settings: Settings) -> Describer:
    config, *_ = require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, TOKENIZER)
    require_type(config, "blip-2")
    model, processor = load_pretrained(folder, "Blip2ForConditionalGeneration", settings)
    if model.config.image_token_id is None:
        what = "is of an older form: config.json has no image_token_index. Download the folder again."
        raise ModelError(what, str(folder))
    processor.num_query_tokens = model.config.num_query_tokens  # older processor files do not tell it
    words = dict(processor(images=Image.new("RGB", (32, 32)), text=settings.prompt, return_tensors="pt"))
    del words["pixel_values"]
    describer = Describer(model, processor, words, {"num_beams": settings.beams, "max_new_tokens": settings.max_tokens})
    describer.finish = lambda text: text.strip().removeprefix(settings.prompt.strip()).strip()
    return describer
