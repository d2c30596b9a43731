"""GIT: one sentence an image (Wang et al. 2022, arXiv 2205.14100), from a folder as transformers saves it."""

from __future__ import annotations

from pathlib import Path

from captioning.model_folder import require_files, require_type
from captioning.pretrained import PROCESSOR, WEIGHTS, Describer, TorchSettings, load_pretrained
from engine.settings import setting


class Settings(TorchSettings):
    prompt: str = setting("", "Words that every caption begins with; the model goes on from there.", "提示词")
    beams: int = setting(3, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(50, "No caption grows longer than this.", "最大长度", ge=1, le=225)


def load(folder: Path, settings: Settings) -> Describer:
    config, *_ = require_files(folder, ("config.json",), WEIGHTS, PROCESSOR, ("tokenizer.json", "vocab.txt"))
    require_type(config, "git")
    model, processor = load_pretrained(folder, "GitForCausalLM", settings)
    import torch

    start = processor.tokenizer.cls_token_id
    prompt = processor.tokenizer(settings.prompt, add_special_tokens=False)["input_ids"] if settings.prompt else []
    words = {"input_ids": torch.tensor([[start, *prompt]])}  # no end mark: the model goes on
    return Describer(model, processor, words, {"num_beams": settings.beams, "max_new_tokens": settings.max_tokens})
