"""CoCa through open_clip (Yu et al. 2022, arXiv 2205.01917): one sentence an image, found by our own beam search.

open_clip's own `generate` needs parts that transformers 5 no longer has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from captioning.decoding import Search, beam_search
from captioning.devices import torch_device
from captioning.model_folder import config_of, loading, require_files
from captioning.protocol import CaptionerSettings
from engine.errors import ModelError
from engine.settings import setting

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
CONFIG = "open_clip_config.json"


class Settings(CaptionerSettings):
    architecture: Literal["auto", "coca_ViT-B-32", "coca_ViT-L-14"] = setting(
        "auto",
        f"What the weights are for; auto reads it in {CONFIG}, which lies beside them.",
        "架构",
        level="advanced",
    )
    beams: int = setting(6, "Beams of the search: more are slower and blander.", "束宽", ge=1, le=16)
    max_tokens: int = setting(30, "No caption grows longer than this.", "最大长度", ge=1, le=75)


class CoCa:
    def __init__(self, model: Any, transform: Any, tokenizer: Any, settings: Settings) -> None:
        self.model, self.prepare, self.tokenizer = model, transform, tokenizer
        self.side_px = max(np.atleast_1d(model.visual.image_size).tolist())
        longest = min(settings.max_tokens, model.context_length - 1)
        self.search = Search(settings.beams, tokenizer.sot_token_id, tokenizer.eot_token_id, longest)

    def caption(self, prepared: Sequence[Any]) -> list[str]:
        import torch

        device, beams = self.model.logit_scale.device, self.search.beams
        with torch.inference_mode():
            seen = self.model(torch.stack(list(prepared)).to(device))
            pooled, patches = (seen[name].repeat_interleave(beams, 0) for name in ("image_features", "image_embs"))

            def next_logits(ids: torch.Tensor) -> torch.Tensor:
                told = self.model(None, ids.to(device), image_latent=pooled, image_embs=patches, output_labels=False)
                return told["logits"][:, -1]

            found = beam_search(next_logits, len(prepared), self.search)
        return [self.tokenizer.decode(ids).strip() for ids in found]


def load(folder: Path, settings: Settings) -> CoCa:
    told = settings.architecture == "auto"
    weights, *rest = require_files(folder, WEIGHTS, *([(CONFIG,)] if told else []))
    _require_coca(*rest)
    device = torch_device(settings.device)
    import open_clip

    with loading(folder):  # strict: every weight must be in the file
        source: dict[str, Any] = (
            {"model_name": f"local-dir:{folder}"} if told else {"model_name": settings.architecture}
        )
        source |= {} if told else {"pretrained": str(weights)}
        made: Any = open_clip.create_model_from_pretrained(**source, return_transform=True)
    model, transform = made
    return CoCa(model.to(device).eval(), transform, open_clip.tokenizer.SimpleTokenizer(), settings)


def _require_coca(config: Path | None = None) -> None:
    parts = config_of(config).get("model_cfg", {}) if config else {"multimodal_cfg": {}}
    if "multimodal_cfg" not in parts:
        raise ModelError("describes no CoCa: it has no text decoder. Choose a CoCa.", str(config))
    if "hf_model_name" in parts.get("text_cfg", {}):
        what = "its text encoder would have to be downloaded. Choose a CoCa with open_clip's own tokenizer."
        raise ModelError(what, str(config))
