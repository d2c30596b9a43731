"""SDXL's UNet and text encoders for the adapter tests: full size on the meta device, and small enough to run."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def unet(width: int, depths: tuple[int, int], head_width: int, text_width: int, pooled_width: int) -> nn.Module:
    """A UNet of SDXL's structure: three levels, the first without attention; `depths`: blocks in the other two."""
    heads = tuple(max(1, width * factor // head_width) for factor in (1, 2, 4))
    size_width = 8 if width < 320 else 256
    return UNet2DConditionModel(
        block_out_channels=(width, 2 * width, 4 * width),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, *depths),  # pyright: ignore[reportArgumentType]
        attention_head_dim=heads,  # pyright: ignore[reportArgumentType]
        cross_attention_dim=text_width,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=size_width,
        projection_class_embeddings_input_dim=pooled_width + 6 * size_width,
    )


def text_config(width: int, layers: int, projection: int, **more: object) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        projection_dim=projection,
        **more,  # pyright: ignore[reportArgumentType]
    )


def full_size() -> dict[str, nn.Module]:
    """SDXL base without memory: modules on the meta device."""
    with torch.device("meta"):
        models = {
            "unet": unet(320, (2, 10), 64, 2048, 1280),
            "text_encoder_1": CLIPTextModel(text_config(768, 12, 768)),
            "text_encoder_2": CLIPTextModelWithProjection(text_config(1280, 32, 1280, hidden_act="gelu")),
        }
    return {part: model.requires_grad_(False) for part, model in models.items()}


def small(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    """All three parts at a fraction of the width, with random weights (eval, frozen)."""
    torch.manual_seed(seed)
    models = {
        "unet": unet(32, (1, 2), 32, 96, 64),
        "text_encoder_1": CLIPTextModel(text_config(32, 3, 32, vocab_size=1000, bos_token_id=998, eos_token_id=999)),
        "text_encoder_2": CLIPTextModelWithProjection(
            text_config(64, 3, 64, vocab_size=1000, bos_token_id=998, eos_token_id=999, hidden_act="gelu")
        ),
    }
    return {part: model.to(dtype).eval().requires_grad_(False) for part, model in models.items()}


def run_unet(model: nn.Module, text: torch.Tensor, pooled: torch.Tensor, seed: int = 5) -> torch.Tensor:
    """Prediction of a small UNet on fixed random latents [2, 4, 8, 8]."""
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(text.dtype)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    return model(latents, torch.tensor([10, 700]), text, added_cond_kwargs=added).sample


def run_text(models: dict[str, nn.Module], seed: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows [2, 77, 32 + 64], pooled [2, 64]) of the small encoders on fixed random tokens."""
    ids = torch.randint(0, 998, (2, 77), generator=torch.Generator().manual_seed(seed))
    ids[:, 20] = 999
    one = models["text_encoder_1"](ids, output_hidden_states=True)
    two = models["text_encoder_2"](ids, output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds


def predict(models: dict[str, nn.Module]) -> torch.Tensor:
    """Tokens → text rows → UNet: every adapted layer that matters takes part."""
    return run_unet(models["unet"], *run_text(models))
