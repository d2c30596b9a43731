"""The fused linear is worth its place: fewer operations than LoRA written out or by peft, and nothing kept twice."""

from __future__ import annotations

import pytest
import torch
from adapter_models import run_unet, small
from optimizer_runs import NothingIsRead
from torch import Tensor, nn

from benchmarks.lora_linear import contenders, operations_of
from engine.adapters.attach import Recipe, attach
from engine.adapters.flat import total_norm
from engine.adapters.fused import low_rank_linear


@pytest.mark.parametrize("shape", [(8, 64), (2, 4, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_dispatches_fewer_operations_than_plain_and_peft(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    stacks = contenders(width=64, layers=6, rank=4, dtype=dtype, device="cpu")
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    steps = {name: contender.stepper(x) for name, contender in stacks.items()}
    for step in steps.values():
        step()
    counts = {name: operations_of(step) for name, step in steps.items()}
    assert counts["atelier"] < counts["peft"]
    assert counts["atelier"] < counts["plain"]


@pytest.mark.slow
def test_an_adapter_never_waits_for_the_device() -> None:
    """Forward and backward, where whatever reads a tensor on the host raises."""
    models = {"unet": small(dtype=torch.bfloat16)["unet"]}
    adapter = attach(models, Recipe(rank=4, conv_rank=2))
    with NothingIsRead():
        rows, pooled = torch.randn(2, 77, 96, dtype=torch.bfloat16), torch.randn(2, 64, dtype=torch.bfloat16)
        run_unet(models["unet"], rows, pooled).float().pow(2).mean().backward()
        gradients = [vector.grad for vector in adapter.vectors.values()]
        norm = total_norm([gradient for gradient in gradients if gradient is not None])
    assert [None if gradient is None else gradient.shape for gradient in gradients] == [
        vector.shape for vector in adapter.vectors.values()
    ]
    assert norm.shape == ()


@pytest.mark.slow
def test_the_contenders_train_the_same_matrices() -> None:
    stacks = contenders(width=16, layers=3, rank=4, dtype=torch.float32, device="cpu")
    sizes = {name: sum(p.numel() for p in stack.trained) for name, stack in stacks.items() if name != "atelier"}
    assert sizes["plain"] == sizes["peft"] == 3 * 4 * (16 + 16)
    x = torch.randn(5, 16)
    for stack in stacks.values():
        torch.testing.assert_close(stack.model(x), stacks["no adapter"].model(x))


def test_only_the_input_and_the_small_product_are_kept_for_backward() -> None:
    rows, width, out, rank = 64, 32, 48, 4
    x = torch.randn(2, rows // 2, width)
    weight, bias = nn.Linear(width, out).requires_grad_(False).parameters()
    down, up = torch.randn(rank, width, requires_grad=True), torch.randn(out, rank, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        low_rank_linear(x, weight, bias, down, up, 0.5)
    known = {tensor.data_ptr() for tensor in (x, weight, down, up)}
    assert sum(tensor.numel() for tensor in kept if tensor.data_ptr() not in known) == rows * rank
