"""Captioners that transformers loads: one prompt for all images, a picture in, words out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from captioning.devices import torch_device
from captioning.model_folder import config_of, loading, require_weights
from captioning.protocol import CaptionerSettings
from engine.settings import setting

if TYPE_CHECKING:
    import torch

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_HALVES = ("float16", "bfloat16")


class TorchSettings(CaptionerSettings):
    """Settings of every captioner that computes with PyTorch."""

    precision: Literal["auto", "float32", "float16", "bfloat16", "int8", "nf4"] = setting(
        "auto",
        "Numbers that the model computes with; auto takes 32 bits on a CPU and the 16 bits that suit the model on a "
        "GPU; int8 and nf4 store large models in a half and a quarter of the memory of 16 bits.",
        "精度",
    )


class Describer:
    """A model with `generate` that is shown each image with the same prompt."""

    def __init__(
        self, model: Any, processor: Any, words: Mapping[str, torch.Tensor], limits: Mapping[str, Any]
    ) -> None:
        """`words` are the prompt's inputs of one image, each of shape [1, length]; `limits` go to `generate`."""
        self.model, self.processor, self.words, self.limits = model, processor, words, dict(limits)
        self.finish: Callable[[str], str] = str.strip
        self.side_px = max(dict(processor.image_processor.size).values())

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """[1, 3, height, width] as the model wants it."""
        return self.processor.image_processor(image, return_tensors="pt")["pixel_values"]

    def caption(self, prepared: Sequence[torch.Tensor]) -> list[str]:
        import torch

        device, dtype = self.model.device, float_type(self.model)
        words = {name: ids.repeat(len(prepared), 1).to(device) for name, ids in self.words.items()}
        pixels = torch.cat(list(prepared)).to(device, dtype)
        with torch.inference_mode():
            ids = self.model.generate(pixel_values=pixels, **words, do_sample=False, **self.limits)
        return [self.finish(text) for text in self.processor.batch_decode(ids, skip_special_tokens=True)]


def load_pretrained(folder: Path, kind: str, settings: TorchSettings) -> tuple[Any, Any]:
    """Model (on its device, in its precision) and processor of a folder; `kind` is the model's class in transformers.

    Runs no code of the folder. Raises ModelError where the files are no such model, MissingPackage, UserError.
    """
    device = torch_device(settings.device)
    import transformers

    with loading(folder):
        processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True, "trust_remote_code": False}
        options |= _storage(settings.precision, config_of(folder / "config.json"), device)
        model, report = getattr(transformers, kind).from_pretrained(folder, **options)
    require_weights(folder, report["missing_keys"])
    quantized = "quantization_config" in options or getattr(model, "is_quantized", False)
    return (model if quantized else model.to(device)).eval(), processor


def float_type(model: Any) -> torch.dtype:
    """What a model computes with; int8 and 4-bit weights tell nothing of it."""
    return next(value.dtype for value in model.parameters() if value.dtype.is_floating_point)


def _storage(precision: str, config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained` for a setting of precision."""
    import torch

    if precision in ("int8", "nf4"):
        from transformers import BitsAndBytesConfig

        half = getattr(torch, _half(config, device)) if device.type == "cuda" else torch.float32
        small: dict[str, Any] = {"load_in_8bit": True}
        if precision == "nf4":
            small = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": half}
        return {"quantization_config": BitsAndBytesConfig(**small), "dtype": half, "device_map": {"": device}}
    if precision == "auto":
        precision = _half(config, device) if device.type == "cuda" else "float32"
    return {"dtype": getattr(torch, precision)}


def _half(config: Mapping[str, Any], device: torch.device) -> str:
    """The 16 bits that the weights are stored in, or float16; bfloat16 only where the GPU computes with it."""
    import torch

    stored = str(config.get("dtype") or config.get("torch_dtype"))
    if stored not in _HALVES or (device.type == "cuda" and stored == "bfloat16" and not torch.cuda.is_bf16_supported()):
        return "float16"
    return stored
