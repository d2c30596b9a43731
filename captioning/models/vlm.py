"""Any vision-language model that transformers loads from a folder: LLaVA (JoyCaption), Qwen-VL, SmolVLM and others.

The model's own chat template asks the question, or one of the user's. No code of a folder is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from captioning.chat import check_template, question, spoken
from captioning.model_folder import require_files
from captioning.pretrained import PROCESSOR, TOKENIZER, WEIGHTS, TorchSettings, float_type, load_pretrained
from engine.settings import setting


class Settings(TorchSettings):
    prompt: str = setting(
        "Write a descriptive caption for this image in a formal tone.",
        "What the model is asked.",
        "提示词",
        kind="lines",
    )
    system: str = setting("", "What the model is told about its part before the question; empty: nothing.", "系统提示")
    template: str = setting(
        "",
        "The whole question as the model reads it, with {image} and {prompt} in it; empty: the model's chat template.",
        "提示模板",
        level="advanced",
    )
    max_tokens: int = setting(300, "No caption grows longer than this.", "最大长度", ge=1, le=4096)
    temperature: float = setting(
        0, "0: always the most probable word; above: drawn ones, for variety.", "温度", ge=0, le=2
    )
    top_p: float = setting(
        0.9, "Words are drawn among the most probable ones that make up this share.", "Top-p", gt=0, le=1
    )
    seed: int = setting(0, "Other draws with another number.", "随机种子", ge=0, level="advanced")
    max_side_px: int = setting(
        1024,
        "Larger images are made smaller first: models such as Qwen-VL need memory by the pixel.",
        "最大边长",
        ge=64,
    )


class VisionLanguageModel:
    def __init__(self, model: Any, processor: Any, settings: Settings) -> None:
        self.model, self.processor, self.settings = model, processor, settings
        self.side_px = settings.max_side_px
        self.text = question(processor, settings.prompt, settings.system, settings.template)
        draws = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": None}
        steady = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        self.limits = {"max_new_tokens": settings.max_tokens, **(draws if settings.temperature else steady)}

    def prepare(self, image: Image.Image) -> Image.Image:
        image.thumbnail((self.side_px, self.side_px), Image.Resampling.LANCZOS)
        return image

    def caption(self, prepared: Sequence[Image.Image]) -> list[str]:
        import torch

        texts = [self.text] * len(prepared)
        inputs = self.processor(images=[[image] for image in prepared], text=texts, padding=True, return_tensors="pt")
        torch.manual_seed(self.settings.seed)
        with torch.inference_mode():
            ids = self.model.generate(**inputs.to(self.model.device, float_type(self.model)), **self.limits)
        answers = ids[:, inputs["input_ids"].shape[1] :]  # the question comes back in front
        return [spoken(text) for text in self.processor.batch_decode(answers, skip_special_tokens=True)]


def check(settings: Settings) -> None:
    check_template(settings.template)


def load(folder: Path, settings: Settings) -> VisionLanguageModel:
    require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, TOKENIZER)
    model, processor = load_pretrained(folder, "AutoModelForImageTextToText", settings)
    processor.tokenizer.padding_side = "left"  # answers begin at one place
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return VisionLanguageModel(model, processor, settings)
