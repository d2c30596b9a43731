"""LoRA on the reduced SDXL: output, loss, gradients and one AdamW step equal to those of kohya's trainer."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.flat import total_norm
from engine.sdxl.checkpoint import load_unet
from engine.sdxl.detect import identify
from engine.sdxl.noise import add_noise, sdxl_schedule
from engine.sdxl.unet import predict

FIGURES = load_file(REFERENCE / "model_reduced.safetensors")
NOTES = json.loads((REFERENCE / "model_reduced.json").read_text(encoding="utf-8"))
POOLED_WIDTH = 512
RECIPES = {"lora": Recipe(rank=8, alpha=4), "lora_conv": Recipe(rank=8, alpha=4, conv_rank=4, conv_alpha=1)}


@pytest.fixture(scope="module")
def unet(reduced_model_path: Path):
    return load_unet(identify(reduced_model_path), torch.float32, "cpu")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def output(unet) -> Tensor:
    timesteps, vector = torch.tensor([NOTES["lora"]["timestep"]]), drawn(4, 1, 2048) * 0.5
    noisy = add_noise(sdxl_schedule(), drawn(1, 1, 4, 16, 24) * 0.8, drawn(2, 1, 4, 16, 24), timesteps)
    # the figure's size part is random too: put it where the embedding of the size ids would stand
    hook = unet.add_time_proj.register_forward_hook(lambda *_: vector[:, POOLED_WIDTH:].reshape(6, 256))
    try:
        rows = drawn(3, 1, 77, 768) * 0.5
        return predict(unet, noisy, timesteps, rows, vector[:, :POOLED_WIDTH], torch.zeros(1, 6))
    finally:
        hook.remove()


def loss_of(predicted: Tensor) -> Tensor:
    return (predicted - drawn(2, 1, 4, 16, 24)).pow(2).mean()


@pytest.fixture(params=RECIPES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def adapter(unet, kind: str):
    """The figures' adapter: every matrix randn(seed = crc32(its name)) × 0.05."""
    adapter = attach({"unet": unet}, RECIPES[kind])
    values = {name: drawn(zlib.crc32(name.encode()), *view.shape) for name, view in adapter.tensors().items()}
    adapter.load_tensors({name: value * 0.05 for name, value in values.items()})
    yield adapter
    adapter.detach()


@pytest.mark.slow
def test_output_loss_gradients_and_step_equal_the_reference(unet, kind: str, adapter: Adapter) -> None:
    note, vector = NOTES[kind], adapter.vectors["unet"]
    predicted = output(unet)
    loss = loss_of(predicted)
    loss.backward()
    assert vector.grad is not None
    gradients = {name: slot.of(vector.grad) for name, slot in adapter.groups[0].flat.slots.items()}
    norms = {name: gradient.norm().item() for name, gradient in gradients.items()}
    assert_close(predicted, FIGURES[f"{kind}.out"], rtol=1e-5, atol=1e-5)
    assert loss.item() == pytest.approx(note["loss_mse_vs_noise"], rel=1e-6)
    assert len(adapter.sites) == note["num_modules"]
    assert total_norm([vector.grad]).item() == pytest.approx(note["total_grad_norm"], rel=2e-6)
    assert norms == pytest.approx(note["grad_norms"], rel=5e-5)
    for name in (key for key in FIGURES if key.startswith(f"{kind}.grad.")):
        gradient = gradients[name.removeprefix(f"{kind}.grad.")]
        assert (gradient - FIGURES[name]).norm() < 5e-5 * FIGURES[name].norm()
    if kind == "lora":  # the figures hold a step for this one
        torch.nn.utils.clip_grads_with_norm_([vector], 1.0, total_norm([vector.grad]))
        torch.optim.AdamW([vector], lr=1e-4, fused=True).step()
        with torch.no_grad():
            after = loss_of(output(unet)).item()
        assert after == pytest.approx(note["loss_after_one_adamw_step_lr1e-4_clip1"], rel=1e-6)
