"""engine/adapters/attach.py: parameters that learn at rates of their own are groups of their own."""

from __future__ import annotations

import torch
from adapter_models import run_unet, small

from engine.adapters.attach import Adapter, Recipe, Site, attach
from engine.adapters.targets import targets

ROWS, POOLED = torch.randn(2, 77, 96), torch.randn(2, 64)


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
