"""CLIP's features of pictures and texts, by open_clip, from weights on this computer. Nothing is ever downloaded."""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.compare.scores import Floats, unit
from engine.errors import MissingPackage, ModelError, Problem
from engine.preset import resolve

CONFIG_NAME = "open_clip_config.json"
BATCH = 16
_WHERE = "clip.weights"


def clip_problems(weights: str, model: str) -> list[Problem]:
    """What is wrong with a choice of CLIP, as far as its files tell without loading it. Torch-free."""
    path = resolve(weights)
    if path.is_dir():
        try:
            content = json.loads((path / CONFIG_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            what = f"there is no {CONFIG_NAME} in {path} that can be read. Choose another folder, or a weights file."
            return [Problem(_WHERE, what)]
        if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
            return [Problem(_WHERE, f"{path / CONFIG_NAME} tells no model (model_cfg). Choose another folder.")]
        return _download_problems(content["model_cfg"], path)
    if not path.is_file():
        return [Problem(_WHERE, f"there is no file or folder {path}. Choose another, or leave it empty.")]
    if not model.strip():
        return [Problem("clip.model", "is empty. Write which model the file holds, like ViT-L-14.")]
    known = _known_models()
    if model.strip() not in known:
        near = difflib.get_close_matches(model.strip(), known, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Write one like ViT-L-14."
        return [Problem("clip.model", f"open_clip knows no model of this name (got {model!r}). {hint}")]
    return _download_problems(json.loads(known[model.strip()].read_text(encoding="utf-8")), None)


def _known_models() -> dict[str, Path]:
    """open_clip's own configurations by name, found without importing it, which would load torch."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise MissingPackage("open_clip is not installed. Run ./setup.sh.", _WHERE)
    return {path.stem: path for path in (Path(spec.origin).parent / "model_configs").glob("*.json")}


def _download_problems(config: Mapping[str, Any], folder: Path | None) -> list[Problem]:
    """Models with another text encoder or tokenizer than CLIP's would have to download parts of it."""
    text = config.get("text_cfg", {})
    if text.get("hf_model_name"):
        what = f"this model's text encoder ({text['hf_model_name']}) would have to be downloaded."
        return [Problem(_WHERE, f"{what} Choose a CLIP like ViT-L-14.")]
    if text.get("hf_tokenizer_name") and not (folder and (folder / "tokenizer.json").is_file()):
        what = f"this model's tokenizer ({text['hf_tokenizer_name']}) is not in a folder with it."
        return [Problem(_WHERE, f"{what} Choose a CLIP like ViT-L-14.")]
    return []


class Clip:
    """A loaded CLIP. Raises ModelError where its weights do not fit."""

    def __init__(self, weights: str, model: str, device: Any) -> None:
        import open_clip

        path = resolve(weights)
        if problems := clip_problems(weights, model):
            raise ModelError(problems[0].message, problems[0].where)
        name = f"local-dir:{path}" if path.is_dir() else model.strip()
        before = logging.root.level
        try:
            made = open_clip.create_model_and_transforms(
                name,
                pretrained=None if path.is_dir() else str(path),
                device=device,
                pretrained_text=False,
            )
            self.tokenizer: Any = open_clip.get_tokenizer(name)
        except Exception as error:  # whatever a file of another kind leads to
            raise ModelError(f"{path} cannot be read as a CLIP of open_clip ({_first_line(error)}).", _WHERE) from error
        finally:
            logging.root.setLevel(before)
        self.model: Any = made[0].eval()
        self.transform: Any = made[2]
        self.device = device

    def pictures(self, paths: Iterable[Path]) -> Floats:
        """Features [N, D] of pictures, rows of length 1."""
        import numpy as np
        import torch
        from PIL import Image, ImageOps

        found: list[Floats] = []
        listed = list(paths)
        for at in range(0, len(listed), BATCH):
            batch: list[torch.Tensor] = []
            for path in listed[at : at + BATCH]:
                with Image.open(path) as opened:
                    batch.append(self.transform(ImageOps.exif_transpose(opened).convert("RGB")))
            with torch.no_grad():
                rows = self.model.encode_image(torch.stack(batch).to(self.device))
            found.append(rows.float().cpu().numpy())
        return unit(np.concatenate(found))

    def texts(self, texts: Sequence[str]) -> Floats:
        """Features [N, D] of texts, rows of length 1; what is beyond CLIP's 77 tokens is not read."""
        import torch

        with torch.no_grad():
            return unit(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)).float().cpu().numpy())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
