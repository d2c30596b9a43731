"""What tests of the tools for LoRAs share: random adapters for the micro model, and a tool run in this process."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from micro_model import micro_model
from torch import nn

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.files import save_adapter
from engine.lora_tools import PROGRAM, TOOLS
from engine.sdxl.checkpoint import load_text_encoders, load_unet
from engine.sdxl.detect import identify
from engine.tools import jobs
from engine.tools.tool import Proposal, make_settings
from engine.tools.working import work


def models_of(path: Path, parts: tuple[str, ...] = ("unet",)) -> dict[str, nn.Module]:
    """Parts of a checkpoint in fp32."""
    facts, found = identify(path), {}
    if "unet" in parts:
        found["unet"] = load_unet(facts, torch.float32, "cpu")
    if "text_encoder_1" in parts:
        encoders = load_text_encoders(facts, torch.float32, "cpu")
        found |= {"text_encoder_1": encoders.one, "text_encoder_2": encoders.two}
    return found


@cache
def micro_models() -> dict[str, nn.Module]:
    return models_of(micro_model(), ("unet", "text_encoder_1"))


def filled(adapter: Adapter, seed: int = 3, size: float = 0.1) -> Adapter:
    """Random numbers in the place of start values."""
    generator = torch.Generator().manual_seed(seed)
    for flat in adapter.flat_of.values():
        for name, view in flat.views().items():
            drawn = torch.randn(view.shape, generator=generator) * size
            view.copy_(view + drawn if name.endswith((".dora_scale", ".rescale")) else drawn)
    adapter.changed()
    return adapter


def save_lora(path: Path, recipe: Recipe, parts: tuple[str, ...] = ("unet",), **metadata: str) -> Path:
    models = {part: micro_models()[part] for part in parts}
    adapter = filled(attach(models, recipe, device="cpu"))
    save_adapter(path, adapter, "fp32", metadata)
    adapter.detach()
    return path


def run_unet(model: nn.Module) -> torch.Tensor:
    """The prediction [1, 4, 8, 8] of a UNet of the micro model's widths on fixed noise."""
    generator = torch.Generator().manual_seed(1)
    config: Any = model.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    added = {
        "text_embeds": torch.randn(1, pooled, generator=generator),
        "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]),
    }
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    rows = torch.randn(1, 7, config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return model(latents, torch.tensor([500]), rows, added_cond_kwargs=added).sample


def run_text(models: dict[str, nn.Module]) -> torch.Tensor:
    """Both encoders' rows on fixed tokens, side by side."""
    ids = torch.tensor([[49406, 320, 1125, 539, *[49407] * 73]])
    with torch.no_grad():
        outputs = [models[f"text_encoder_{n}"](ids, output_hidden_states=True) for n in (1, 2)]
    return torch.cat([output.hidden_states[-2] for output in outputs], -1)


def propose(tool: str, **values: Any) -> Proposal:
    return TOOLS[tool].propose(settings(tool, values))


def settings(tool: str, values: dict[str, Any]) -> Any:
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return make_settings(tool, TOOLS[tool].Settings, texts)


def carry_out(folder: Path, tool: str, **values: Any) -> tuple[int, jobs.JobFolder]:
    """Run a tool as a job in this process; exit code and job folder."""
    job = jobs.create(tool, settings(tool, values), folder)
    return work(job, PROGRAM), job


def failure(job: jobs.JobFolder) -> str:
    """The sentence of a job that failed."""
    lines = [json.loads(line) for line in job.events.read_text(encoding="utf-8").splitlines()]
    return next(line["message"] for line in lines if line["kind"] == "failed")
