"""A saved file, loaded by diffusers (through peft), reproduces what the adapter computed: others can use our files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_models import predict, run_text, small
from test_adapters_files import trained
from torch import nn

from engine.adapters.files import save_adapter


def diffusers_pipeline(models: dict[str, nn.Module]):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(block_out_channels=(32,), norm_num_groups=32),
        text_encoder=models["text_encoder_1"],  # pyright: ignore[reportArgumentType]
        text_encoder_2=models["text_encoder_2"],  # pyright: ignore[reportArgumentType]
        tokenizer=None,  # pyright: ignore[reportArgumentType]
        tokenizer_2=None,  # pyright: ignore[reportArgumentType]
        unet=models["unet"],  # pyright: ignore[reportArgumentType]
        scheduler=EulerDiscreteScheduler(),  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [{"rank": 4, "alpha": 2}, {"rank": 4, "alpha": 4, "conv_rank": 2, "conv_alpha": 2}])
def test_diffusers_computes_from_our_file_what_we_do(tmp_path: Path, recipe: dict[str, float]) -> None:
    models = small()
    before = predict(models)
    adapter = trained(models, **recipe)
    for vector in adapter.vectors.values():
        vector.data.mul_(0.3)
    with torch.no_grad():
        rows, pooled = run_text(models)
        expected = predict(models)
    save_adapter(tmp_path / "a.safetensors", adapter, "fp32", {})
    adapter.detach()
    pipeline = diffusers_pipeline(models)
    pipeline.load_lora_weights(str(tmp_path / "a.safetensors"), local_files_only=True)
    with torch.no_grad():
        their_rows, their_pooled = run_text(models)
        theirs = predict(models)
    torch.testing.assert_close(their_rows, rows, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(their_pooled, pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs, expected, rtol=1e-5, atol=1e-5)
    assert (expected - before).abs().max() > 0.02
