"""Base weights in 8 and 4 bits: how exact they are, that they are what is computed with, and what loading takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_models import run_unet, small
from loaded_model import CPU
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.allocations import Allocations
from engine.adapters.attach import Recipe, attach
from engine.preset import BY_PATH
from engine.sdxl.checkpoint import load_text_encoders, load_unet
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.storage import STORAGES, StoredConv2d, StoredLinear, make_stored
from tests.test_resume import resume_here
from tests.training import losses_of, small_preset, train_here

COMPUTE = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def facts(reduced_model_path: Path) -> ModelFacts:
    return identify(reduced_model_path)


def weight(seed: int = 0, shape: tuple[int, ...] = (96, 40, 3, 3)) -> Tensor:
    """Rows of very different size, as trained weights have them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.logspace(-4, 1, shape[0]).view(-1, *(1 for _ in shape[1:]))
    return torch.randn(shape, generator=generator) * rows


def kept(storage: str, dense: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight after it was stored."""
    kind = STORAGES[storage]
    return kind.unpack(*kind.pack(dense, dtype), dense.shape, dtype)


def stored_layer(layer: nn.Linear | nn.Conv2d, storage: str, dtype: torch.dtype = torch.float32) -> Any:
    """The layer with its weight stored; the given one stays as it is."""
    with torch.device("meta"):
        shell = nn.ModuleDict({"inner": type(layer)(**arguments_of(layer))})
    takers = make_stored(shell, storage, dtype)
    takers["inner.weight"](layer.weight)
    inner: Any = shell["inner"]
    inner.bias = nn.Parameter(layer.get_parameter("bias").to(dtype))
    return inner.requires_grad_(False)


def arguments_of(layer: Any) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups")
    return {name: getattr(layer, name) for name in names}


@pytest.mark.parametrize("dtype", COMPUTE)
def test_fp8_is_within_a_sixteenth_of_each_number_and_a_thousandth_of_the_row(dtype):
    dense = weight()
    error = (kept("fp8", dense, dtype).float() - dense).abs()
    row = dense.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    numbers = torch.finfo(dtype)
    rounding = 2 * numbers.eps * dense.abs() + numbers.tiny * numbers.eps
    assert (error <= torch.maximum(dense.abs() / 16, row * 2.0**-9 / 448) * 1.02 + rounding).all()


@pytest.mark.parametrize("dtype", COMPUTE)
def test_int8_is_within_half_a_step_of_its_row(dtype):
    dense = weight()
    error = (kept("int8", dense, dtype).float() - dense).abs()
    row = dense.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    numbers = torch.finfo(dtype)
    assert (error <= row / 254 * 1.02 + 2 * numbers.eps * row + 127 * numbers.tiny * numbers.eps).all()


def test_nf4_is_within_half_of_its_widest_gap_of_the_largest_of_64_numbers():
    dense = weight(shape=(64, 128))
    blocks = dense.view(-1, 64)
    error = (kept("nf4", dense, torch.float32) - dense).abs().view(-1, 64)
    assert (error <= blocks.abs().amax(1, keepdim=True) * 0.1520).all()  # the gap between −1 and −0.6962, halved


def test_a_scale_for_each_row_beats_a_plain_cast():
    dense = weight(shape=(64, 128))
    plain = (dense.to(torch.float8_e4m3fn).float() - dense).norm(dim=1) / dense.norm(dim=1)
    scaled = (kept("fp8", dense, torch.float32) - dense).norm(dim=1) / dense.norm(dim=1)
    assert scaled.max() < 0.04 and plain.max() > 0.5


@pytest.mark.parametrize("storage", STORAGES)
def test_rows_of_zeros_and_of_one_huge_number_stay_finite(storage):
    dense = torch.zeros(4, 64)
    dense[1, 3], dense[2] = 60000.0, 1e-12
    for dtype in COMPUTE:
        found = kept(storage, dense, dtype).float()
        assert torch.isfinite(found).all() and not found[0].any()
        assert found[1, 3] == pytest.approx(60000, rel=0.01)


def test_8_bits_take_a_byte_and_4_bits_half_a_byte_a_number():
    dense = weight(shape=(640, 640))
    sizes = {name: sum(part.nbytes for part in kind.pack(dense, torch.bfloat16)) for name, kind in STORAGES.items()}
    numbers = dense.numel()
    assert {name: round(size / numbers, 2) for name, size in sizes.items()} == {"fp8": 1.0, "int8": 1.0, "nf4": 0.56}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "layer", [nn.Linear(64, 80), nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.Conv2d(64, 64, 3, groups=2)], ids=str
)
def test_a_stored_layer_computes_and_differentiates_with_its_dense_weight(storage, layer):
    stored = stored_layer(layer, storage)
    plain = type(layer)(**arguments_of(layer)).requires_grad_(False)
    plain.weight.copy_(stored.dense_weight())
    plain.bias.copy_(layer.bias)
    x = torch.randn(2, 3, 64) if isinstance(layer, nn.Linear) else torch.randn(2, layer.in_channels, 9, 8)
    x.requires_grad_()
    gradients = [torch.autograd.grad(each(x).square().sum(), x)[0] for each in (plain, stored)]
    assert torch.equal(plain(x), stored(x))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_4_bits_are_packed_as_bitsandbytes_packs_them():
    """Its kernel unpacks them on GPUs."""
    import bitsandbytes  # noqa: F401

    dense = weight(shape=(30, 70))
    numbers, scales = STORAGES["nf4"].pack(dense, torch.float32)
    wanted_numbers, wanted_scales = torch.ops.bitsandbytes.quantize_4bit(dense, 64, "nf4", torch.uint8)
    assert torch.equal(numbers, wanted_numbers[:, 0]) and torch.equal(scales, wanted_scales)


@pytest.mark.slow
def test_what_is_sensitive_or_small_stays_as_it_is(facts):
    unet = load_unet(facts, torch.float32, CPU, storage="int8")
    stored = {name for name, layer in unet.named_modules() if isinstance(layer, StoredLinear | StoredConv2d)}
    share = sum(dense_numbers(unet.get_submodule(name)) for name in stored)
    others = [(name, tensor) for name, tensor in unet.named_parameters() if name.rpartition(".")[0] not in stored]
    assert share > 0.9 * (share + sum(tensor.numel() for _, tensor in others))
    assert not any(name.startswith(("time_", "add_", "conv_in", "conv_out")) or "norm" in name for name in stored)
    assert {tensor.dtype for _, tensor in others} == {torch.float32} == {unet.dtype}


def dense_numbers(layer: Any) -> int:
    return layer.dense_shape.numel()


def stored_unet(storage: str) -> nn.Module:
    """The small UNet with its weights stored."""
    unet, dense = small()["unet"], small()["unet"]
    for name, take in make_stored(unet, storage, torch.float32).items():
        take(dense.get_parameter(name))
    return unet


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "most"), [("int8", 0.02), ("fp8", 0.1), ("nf4", 0.4)])
def test_the_model_predicts_nearly_the_same(storage, most):
    generator = torch.Generator().manual_seed(0)
    rows, pooled = torch.randn(2, 77, 96, generator=generator), torch.randn(2, 64, generator=generator)
    with torch.no_grad():
        wanted, found = (run_unet(model, rows, pooled) for model in (small()["unet"], stored_unet(storage)))
    assert most / 10 < (found - wanted).norm() / wanted.norm() < most


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_gradients_are_the_same_bit_for_bit_with_checkpointing(storage):
    unet: Any = stored_unet(storage)
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.train()
            unet.enable_gradient_checkpointing()
        rows = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
        run_unet(unet, rows, torch.ones(2, 64)).sum().backward()
        found.append(rows.grad)
    assert torch.equal(found[0], found[1]) and found[0].any()


@pytest.mark.slow
def test_text_encoders_are_stored_too_and_give_nearly_the_same(facts):
    ids = torch.randint(0, 49407, (1, 77), generator=torch.Generator().manual_seed(1))
    ids[0, -1] = 49407
    dense, stored = (load_text_encoders(facts, torch.float32, CPU, storage=kind) for kind in ("same", "int8"))
    assert any(isinstance(layer, StoredLinear) for layer in stored.one.modules())
    wanted, found = dense.two(ids).text_embeds, stored.two(ids).text_embeds
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_loading_never_holds_the_dense_model(facts, storage):
    """The peak is the stored model, one dense layer, and the file's largest tensor; the dense model is far larger."""
    with Allocations() as taken:
        unet = load_unet(facts, torch.float32, CPU, storage=storage)
    kept_bytes = sum(tensor.nbytes for tensor in [*unet.parameters(), *unet.buffers()])
    layers = [layer for layer in unet.modules() if isinstance(layer, StoredLinear | StoredConv2d)]
    largest = max(dense_numbers(layer) for layer in layers) * 4
    dense_bytes = sum(dense_numbers(layer) for layer in layers) * 4
    assert kept_bytes < 0.32 * dense_bytes
    assert kept_bytes * 0.9 < taken.peak_bytes < kept_bytes + 6 * largest < 0.5 * dense_bytes


@pytest.mark.parametrize("storage", STORAGES)
def test_an_adapter_learns_on_stored_layers_as_on_their_dense_copies(storage):
    def gradient(layers: list[Any]) -> Tensor:
        stack: Any = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.Sequential(*layers)})}).requires_grad_(False)
        adapter = attach({"text_encoder_2": stack}, Recipe(rank=4))
        vector = adapter.vectors["text_encoder_2"]
        vector.data += 0.01
        stack["encoder"]["layers"](x).square().mean().backward()
        assert vector.grad is not None
        return vector.grad

    x = torch.randn(5, 64)
    stored: list[Any] = [stored_layer(nn.Linear(64, 64), storage) for _ in range(3)]
    dense = [nn.Linear(64, 64) for _ in stored]
    for plain, layer in zip(dense, stored, strict=True):
        plain.weight.data, plain.bias.data = layer.dense_weight().clone(), layer.bias.data.clone()
    torch.testing.assert_close(gradient(stored), gradient(dense))


@pytest.mark.parametrize("storage", STORAGES)
def test_storing_again_what_was_stored_changes_nothing_but_by_rounding(storage):
    layer = stored_layer(nn.Linear(64, 80), storage)
    before = layer.dense_weight().clone()
    layer.store(before)
    assert torch.allclose(layer.dense_weight(), before, rtol=1e-5, atol=1e-6)


def test_the_settings_offer_every_storage():
    for path in ("memory.unet_storage", "memory.text_encoder_storage"):
        assert BY_PATH[path].choices == ("same", *STORAGES)


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_a_run_on_a_packed_model_follows_the_plain_one_draws_and_resumes_bit_for_bit(tmp_path, storage):
    changes = {"memory__precision": "bf16", "run__steps": 4, "sample__prompts": "a thing", "sample__at_start": False}
    changes["memory__gradient_checkpointing"] = storage == "int8"
    plain = train_here(small_preset(tmp_path, **changes), tmp_path / "plain")
    changes |= {"memory__unet_storage": storage, "run__save_every_steps": 2}
    whole = train_here(small_preset(tmp_path, **changes), tmp_path / "whole")
    assert losses_of(whole) == pytest.approx(losses_of(plain), rel=0.3 if storage == "nf4" else 0.1)
    assert losses_of(whole) != losses_of(plain)
    assert list(whole.samples.glob("step-000004_*.png"))
    before = load_file(whole.checkpoints / "tiny.safetensors")
    (whole.state / "step-00000004.safetensors").unlink()
    (whole.checkpoints / "tiny.safetensors").unlink()
    resume_here(whole)
    after = load_file(whole.checkpoints / "tiny.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)
