"""The reduced SDXL of the reference figures: all of SDXL's structure, narrow; weights by recipe, so nothing is stored.

For each tensor with name k of part T ("unet." single-file name, "te1."/"te2." transformers names, "vae." diffusers
name): a generator seeded with crc32(T + k); rank ≤ 1: ones for weights, zeros for biases; embeddings: randn × 0.02;
else randn × 0.7 / √(product of shape[1:]); in bf16. Sizes: UNet 64/128/256, context 768, added 2048; text encoders
256 wide with 12 layers and 512 wide with 8; VAE 32/64/128/128.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.sdxl import keys

KEYS_FILE = Path(__file__).resolve().parent / "reference" / "sdxl_checkpoint_keys.json"
TEXT_2_LAYERS = 8
VAE_LEVELS = 4
UNET_NAMES = {"layers_per_block": 2, "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}


def full_size_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a full-size single-file SDXL checkpoint."""
    return {name: tuple(shape) for name, shape in json.loads(KEYS_FILE.read_text())["keys"].items()}


def recipe_tensor(local_name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of the recipe, in bf16."""
    if len(shape) <= 1:
        return (torch.ones if local_name.endswith("weight") else torch.zeros)(shape, dtype=torch.bfloat16)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(local_name.encode())))
    scale = 0.02 if "embedding" in local_name else 0.7 / math.sqrt(math.prod(shape[1:]))
    return (values * scale).to(torch.bfloat16)


def build_tensors() -> dict[str, torch.Tensor]:
    """The reduced model under single-file names."""
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in full_size_shapes().items():
        if name.startswith(keys.UNET_PREFIX):
            tensors[name] = recipe_tensor("unet." + name[len(keys.UNET_PREFIX) :], tuple(map(_unet_width, shape)))
        elif name.startswith(keys.VAE_PREFIX):
            tensors[name] = _vae_tensor(name[len(keys.VAE_PREFIX) :], shape)
        elif name.startswith(keys.TEXT_1_PREFIX):
            reduced = tuple(size // 3 if size % 768 == 0 else size for size in shape)
            tensors[name] = recipe_tensor("te1." + name[len(keys.TEXT_1_PREFIX) :], reduced)
    return tensors | _text_2_tensors()


def build(path: Path) -> Path:
    """Write the reduced model as one .safetensors file."""
    save_file(build_tensors(), path, metadata={"format": "pt"})
    return path


def _unet_width(size: int) -> int:
    if size in (2048, 2816):
        return {2048: 768, 2816: 2048}[size]
    return size // 5 if size % 320 == 0 else size


def _vae_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    reduced = tuple(size // 4 if size % 128 == 0 else size for size in shape)
    linear = ".mid.attn_1." in name and len(shape) == 4
    tensor = recipe_tensor("vae." + keys.vae_from_ldm(name, VAE_LEVELS), reduced[:2] if linear else reduced)
    return tensor[:, :, None, None] if linear else tensor


def _text_2_tensors() -> dict[str, torch.Tensor]:
    width, inner = 512, 2048
    shapes: dict[str, tuple[int, ...]] = {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
        "text_model.final_layer_norm.weight": (width,),
        "text_model.final_layer_norm.bias": (width,),
        "text_projection.weight": (width, width),
    }
    linears = {f"self_attn.{which}": (width, width) for which in ("q_proj", "k_proj", "v_proj", "out_proj")}
    linears |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
    for layer in range(TEXT_2_LAYERS):
        root = f"text_model.encoder.layers.{layer}."
        for name, shape in linears.items():
            shapes[f"{root}{name}.weight"], shapes[f"{root}{name}.bias"] = shape, shape[:1]
        for name in ("layer_norm1", "layer_norm2"):
            shapes[f"{root}{name}.weight"] = shapes[f"{root}{name}.bias"] = (width,)
    tensors: dict[str, torch.Tensor] = {keys.TEXT_2_PREFIX + "logit_scale": torch.tensor(4.6052)}
    stacked: dict[str, list[torch.Tensor]] = {}
    for name, shape in shapes.items():
        source = keys.text_2_source(name)
        tensor = recipe_tensor("te2." + name, shape)
        stacked.setdefault(keys.TEXT_2_PREFIX + source.key, []).append(tensor)  # q, k, v come in this order
    return tensors | {name: torch.cat(parts) if len(parts) > 1 else parts[0] for name, parts in stacked.items()}
