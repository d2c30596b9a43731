"""BLIP: one sentence an image (Li et al. 2022, arXiv 2201.12086), from a folder as transformers saves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.devices import torch_device
from captioning.model_folder import loading, require_files, require_type, require_weights
from captioning.protocol import CaptionerSettings
from engine.settings import setting

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")


class Settings(CaptionerSettings):
    prompt: str = setting("", "Words that every caption begins with; the model goes on from there.", "提示词")
    beams: int = setting(3, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(60, "No caption grows longer than this.", "最大长度", ge=1, le=225)


class Blip:
    def __init__(self, model: Any, processor: Any, settings: Settings) -> None:
        self.model, self.processor, self.settings = model, processor, settings

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        import torch

        prompts = {"text": [self.settings.prompt] * len(images)} if self.settings.prompt else {}
        inputs = self.processor(images=list(images), return_tensors="pt", **prompts)
        limits = {"num_beams": self.settings.beams, "max_new_tokens": self.settings.max_tokens}
        with torch.inference_mode():
            ids = self.model.generate(**inputs.to(self.model.device, self.model.dtype), do_sample=False, **limits)
        return self.processor.batch_decode(ids, skip_special_tokens=True)


def load(folder: Path, settings: Settings) -> Blip:
    config, *_ = require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, ("tokenizer.json", "vocab.txt"))
    require_type(config, "blip")
    device = torch_device(settings.device)
    import torch
    from transformers import BlipForConditionalGeneration, BlipProcessor

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    with loading(folder):
        processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
        options: Any = {"dtype": dtype, "local_files_only": True, "output_loading_info": True}
        model, report = BlipForConditionalGeneration.from_pretrained(folder, **options)  # type: ignore[misc]
    require_weights(folder, report["missing_keys"])
    return Blip(model.to(device).eval(), processor, settings)
