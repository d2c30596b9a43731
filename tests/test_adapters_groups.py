"""engine/adapters/attach.py: parameters that learn at rates of their own are groups of their own."""

from __future__ import annotations

import pytest
import torch
from adapter_models import run_unet, small
from training import small_preset, steps_of, train_here

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.site import Site
from engine.adapters.targets import targets
from engine.sdxl.safefile import read_header

ROWS, POOLED = torch.randn(2, 77, 96), torch.randn(2, 64)


@pytest.mark.slow
def test_the_groups_of_lora_plus_learn_as_two_plain_groups_would() -> None:
    """Against AdamW on the single matrices, B at 16 times the rate of A."""
    model = small()["unet"]
    adapter = attach({"unet": model}, Recipe(rank=2, late_rates={"unet": 16.0}), device="cpu")
    assert [(group.name, group.factor) for group in adapter.groups] == [("unet", 1.0), ("unet ×16", 16.0)]
    singles = {
        name: view.clone().requires_grad_() for name, view in adapter.tensors().items() if not name.endswith(".alpha")
    }
    fast = [single for name, single in singles.items() if name.endswith("lora_up.weight")]
    slow = [single for name, single in singles.items() if name.endswith("lora_down.weight")]
    plain = torch.optim.AdamW([{"params": slow, "lr": 1e-3}, {"params": fast, "lr": 16e-3}])
    ours = torch.optim.AdamW([{"params": [g.flat.vector], "lr": 1e-3 * g.factor} for g in adapter.groups])
    for _ in range(3):
        run_unet(model, ROWS, POOLED).pow(2).mean().backward()
        for name, single in singles.items():
            flat = adapter.flat_of[name]
            assert flat.vector.grad is not None
            single.grad = flat.slots[name].of(flat.vector.grad).clone()
        plain.step()
        ours.step()
        ours.zero_grad()
    assert len(fast) == len(slow) > 20
    for name, single in singles.items():
        assert torch.equal(adapter.tensors()[name], single.detach())


@pytest.mark.slow
def test_an_adapter_in_groups_computes_what_it_does_in_one() -> None:
    model = small()["unet"]
    whole = attach({"unet": model}, Recipe(rank=2), device="cpu")
    numbers = {name: torch.randn_like(view) * 0.1 for name, view in whole.tensors().items()}
    whole.load_tensors(numbers)
    expected = run_unet(model, ROWS, POOLED)
    whole.detach()
    rates = (0.5, 1.0, 2.0)
    sites = [Site(target, 2, 16.0, rates[at % 3]) for at, target in enumerate(targets("unet", model, with_conv=False))]
    parted = Adapter(sites, {"unet": 4.0})
    assert [group.factor for group in parted.groups] == [0.5, 1.0, 2.0, 4.0, 8.0]
    parted.load_tensors(numbers)
    parted.install()
    assert torch.equal(run_unet(model, ROWS, POOLED), expected)


@pytest.mark.slow
def test_each_group_of_a_run_learns_and_is_told_at_its_own_rate(tmp_path) -> None:
    values = {"layer_settings": "*attn2*: rate 0.5\n*ff_net*: rate 0", "loraplus_unet_ratio": 16}
    made = train_here(
        small_preset(
            tmp_path, run__steps=2, optimizer__unet_rate=1e-3, optimizer__schedule="constant",
            **{f"adapter__{name}": value for name, value in values.items()},
        )
    )  # fmt: skip
    rates = steps_of(made)[-1].lr
    assert rates == pytest.approx({"unet": 1e-3, "unet ×0.5": 5e-4, "unet ×8": 8e-3, "unet ×16": 16e-3})
    [path] = made.checkpoints.glob("*.safetensors")
    names = list(read_header(path).tensors)
    assert any("attn2" in name for name in names)
    assert not any("ff_net" in name for name in names)
