"""engine/adapters/dropout.py: what is left out, that it follows (seed, step, place) only, and that it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from adapter_models import run_text, run_unet, small
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from training import small_preset, steps_of, train_here

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.dropout import Dropout
from engine.errors import PresetError
from engine.preset import Preset
from engine.report import Reporter
from engine.run import held
from engine.state import list_states, load_state
from engine.stopping import Stopping
from engine.train import train


@dataclass(frozen=True)
class Drawn:
    """A batch as dropout knows it."""

    latents: Tensor
    place: int = 0
    first: int = 0
    whole: int = 0


LATENTS = torch.zeros(2, 4, 8, 8)
ROWS, POOLED = torch.randn(2, 77, 96), torch.randn(2, 64)


def adapted(models: dict[str, nn.Module], dropout: Dropout, **recipe: Any) -> Adapter:
    adapter = attach(models, Recipe(rank=8, alpha=8, dropout=dropout, seed=3, **recipe), device="cpu")
    generator = torch.Generator().manual_seed(1)
    numbers = {name: torch.randn(view.shape, generator=generator) * 0.1 for name, view in adapter.tensors().items()}
    adapter.load_tensors(numbers)
    return adapter


def layer(adapter: Adapter, end: str) -> tuple[nn.Module, dict[str, Tensor], str]:
    site = next(site for site in adapter.sites if site.target.name.endswith(end))
    return site.target.module, adapter.parameters_of(site.target.name), site.target.name


def changes(adapter: Adapter, end: str, x: Tensor) -> Tensor:
    """What the adapter adds at one layer."""
    module = layer(adapter, end)[0]
    with torch.no_grad(), adapter.disabled():
        plain = module(x)
    with torch.no_grad():
        return module(x) - plain


@pytest.mark.slow
def test_rank_dropout_leaves_ranks_out_for_each_image_and_scales_up_the_others() -> None:
    adapter = adapted({"unet": small()["unet"]}, Dropout(rank=0.5))
    x = torch.randn(2, 5, 64)
    _, parameters, name = layer(adapter, "attn1_to_q")
    down, up = (parameters[f"lora_{which}.weight"] for which in ("down", "up"))
    adapter.dropout.draw(7, Drawn(LATENTS))
    mask = adapter.dropout._buffers["gates"][:, adapter.dropout.span[name]]
    assert set(mask.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(mask[0], mask[1])
    x = torch.randn(2, 5, down.shape[1])
    expected = ((x @ down.T) * mask[:, None]) @ up.T
    torch.testing.assert_close(changes(adapter, "attn1_to_q", x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_network_dropout_leaves_single_numbers_out_and_scales_up_the_others() -> None:
    adapter = adapted({"unet": small()["unet"]}, Dropout(network=0.25), conv_rank=8, conv_alpha=8)
    adapter.dropout.draw(7, Drawn(LATENTS))
    for end in ("attn1_to_q", "in_layers_2"):
        module, parameters, _ = layer(adapter, end)
        down, up = (parameters[f"lora_{which}.weight"] for which in ("down", "up"))
        x = torch.randn(2, 300, down.shape[1]) if down.dim() == 2 else torch.randn(2, down.shape[1], 8, 8)
        found = changes(adapter, end, x)
        hidden = x @ down.T if down.dim() == 2 else nn.functional.conv2d(x, down, padding=module.padding)  # pyright: ignore
        context = adapter.dropout.context(_context(adapter, module), layer(adapter, end)[2], x)
        assert context.elements is not None
        kept = context.elements.kept(hidden)
        assert torch.equal(kept[kept != 0], hidden[kept != 0])
        assert (kept == 0).float().mean() == pytest.approx(0.25, abs=0.05)
        expected = kept @ up.T if up.dim() == 2 else nn.functional.conv2d(kept, up)
        torch.testing.assert_close(found, expected / 0.75, rtol=1e-4, atol=1e-5)


def _context(adapter: Adapter, module: nn.Module) -> Any:
    return next(forward.context for base, forward in adapter._installed if base.module is module)


@pytest.mark.slow
def test_elements_are_left_out_independently() -> None:
    """The share of pairs of ranks, rows and layers that are left out together is the product of the shares."""
    adapter = adapted({"unet": small()["unet"]}, Dropout(network=0.5))
    adapter.dropout.draw(0, Drawn(torch.zeros(4, 4, 32, 32)))
    ones, share = torch.ones(4, 1024, 8), []
    names = list(adapter.dropout.span)[:40]
    masks = [adapter.dropout.context(_context_of(adapter), name, ones).elements.kept(ones) == 0 for name in names]  # type: ignore[union-attr]
    flat = torch.stack([mask.view(-1, 8) for mask in masks]).float()
    assert flat.mean() == pytest.approx(0.5, abs=0.01)
    share.append((flat[..., 0] * flat[..., 1]).mean())
    share.append((flat[:, :-1] * flat[:, 1:]).mean())
    share.append((flat[:-1] * flat[1:]).mean())
    assert [float(each) for each in share] == pytest.approx([0.25] * 3, abs=0.02)


def _context_of(adapter: Adapter) -> Any:
    return adapter._installed[0][1].context


@pytest.mark.slow
def test_module_dropout_leaves_whole_layers_out_unscaled() -> None:
    adapter = adapted({"unet": small()["unet"]}, Dropout(module=0.5))
    adapter.dropout.draw(7, Drawn(LATENTS))
    out = []
    for site in adapter.sites:
        x = torch.randn(2, 3, site.place.inputs)
        change = changes(adapter, site.target.name, x)
        adapter.dropout.clear()
        whole = changes(adapter, site.target.name, x)
        adapter.dropout.draw(7, Drawn(LATENTS))
        out.append(not change.any())
        assert out[-1] or torch.equal(change, whole)
    assert 0.3 < sum(out) / len(out) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [Dropout(0.3, 0.3, 0.3), Dropout(network=0.3), Dropout(module=0.5)], ids=str)
def test_masks_follow_seed_step_and_place_only_and_end_with_the_batch(dropout: Dropout) -> None:
    models = small()
    adapter = adapted(models, dropout)
    plain = run_unet(models["unet"], ROWS, POOLED)

    def drawn(step: int, place: int) -> Tensor:
        adapter.dropout.draw(step, Drawn(LATENTS, place))
        return run_unet(models["unet"], ROWS, POOLED)

    first = drawn(5, 0)
    assert not torch.equal(first, plain)
    assert not torch.equal(drawn(6, 0), first)
    assert not torch.equal(drawn(5, 1), first)
    assert torch.equal(drawn(5, 0), first)
    adapter.end_batch()
    assert torch.equal(run_unet(models["unet"], ROWS, POOLED), plain)
    adapter.dropout.seed = 4
    assert not torch.equal(drawn(5, 0), first)


def test_text_of_other_length_and_count_than_the_images_is_masked_too() -> None:
    models = small()
    adapter = adapted(models, Dropout(0.2, 0.2, 0.2))
    plain = run_text(models)[0]
    adapter.dropout.draw(1, Drawn(LATENTS[:1, :, :2, :2]))  # one image, two texts
    assert not torch.equal(run_text(models)[0], plain)


@pytest.mark.parametrize("dropout", [Dropout(rank=0.5), Dropout(network=0.3)], ids=str)
def test_the_chunks_of_a_caption_have_the_masks_of_their_image(dropout: Dropout) -> None:
    """So that they are the same however many processes share the batch."""
    adapter = adapted({"unet": small()["unet"]}, dropout)
    x = torch.randn(4, 5, 64)  # two images, two chunks each
    adapter.dropout.draw(5, Drawn(torch.zeros(2, 4, 8, 8)))
    whole = changes(adapter, "attn1_to_q", x)
    adapter.dropout.draw(5, Drawn(torch.zeros(1, 4, 8, 8), first=1, whole=2))
    torch.testing.assert_close(changes(adapter, "attn1_to_q", x[2:]), whole[2:], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [Dropout(0.3, 0.3, 0.3), Dropout(network=0.3)], ids=str)
def test_a_share_of_a_batch_has_the_masks_of_its_images(dropout: Dropout) -> None:
    adapter = adapted({"unet": small()["unet"]}, dropout)
    x = torch.randn(4, 5, 64)
    adapter.dropout.draw(5, Drawn(torch.zeros(4, 4, 8, 8)))
    whole = changes(adapter, "attn1_to_q", x)
    adapter.dropout.draw(5, Drawn(torch.zeros(2, 4, 8, 8), first=2, whole=4))
    torch.testing.assert_close(changes(adapter, "attn1_to_q", x[2:]), whole[2:], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradient_checkpointing_sees_the_same_masks() -> None:
    models = {"unet": small()["unet"]}
    adapter = adapted(models, Dropout(0.3, 0.3, 0.3))

    def gradient() -> Tensor:
        adapter.dropout.draw(2, Drawn(LATENTS))
        [found] = torch.autograd.grad(
            run_unet(models["unet"], ROWS, POOLED).pow(2).mean(), list(adapter.vectors.values())
        )
        return found

    plain = gradient()
    models["unet"].train()
    models["unet"].enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(gradient(), plain, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_dropout_never_waits_for_the_device() -> None:
    models = {"unet": small()["unet"]}
    adapter = attach(models, Recipe(rank=4, conv_rank=4, dropout=Dropout(0.2, 0.2, 0.2)))
    adapter.dropout.draw(1, Drawn(LATENTS))
    modules = [layer(adapter, end)[0] for end in ("attn1_to_q", "in_layers_2")]
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = (torch.randn(2, 5, modules[0].in_features), torch.randn(2, modules[1].in_channels, 8, 8))  # pyright: ignore
        loss = sum(module(x).pow(2).mean() for module, x in zip(modules, inputs, strict=True))
        assert isinstance(loss, Tensor)
        loss.backward()
    assert all(vector.grad is not None for vector in adapter.vectors.values())


@pytest.mark.slow
def test_without_dropout_nothing_is_drawn() -> None:
    adapter = adapted({"unet": small()["unet"]}, Dropout())
    adapter.dropout.draw(1, Drawn(LATENTS))
    assert not adapter.dropout.is_active
    context = _context_of(adapter)
    assert adapter.dropout.context(context, "any", LATENTS) is context
    assert replace(context) == context


@pytest.mark.slow
def test_a_run_with_all_dropouts_resumes_bit_for_bit(tmp_path) -> None:
    values = {f"adapter__{name}_dropout": 0.2 for name in ("network", "rank", "module")}
    whole = train_here(small_preset(tmp_path, run__name="whole", **values))
    preset = small_preset(tmp_path, run__name="parted", run__save_every_steps=2, **values)
    parted = train_here(preset)
    for path in list_states(parted.state):
        if not path.name.startswith("step-00000002"):
            path.unlink()
    with held(parted):
        train(preset, Reporter(parted), Stopping())
    one, other = (load_state(list_states(run.state)[0]) for run in (whole, parted))
    assert one.step == other.step == 4
    assert all(torch.equal(tensor, other.adapter[name]) for name, tensor in one.adapter.items())
    plain = train_here(small_preset(tmp_path, run__name="plain"))
    assert steps_of(plain)[1].loss != steps_of(whole)[1].loss


def test_dropout_with_an_algorithm_without_ranks_is_refused() -> None:
    with pytest.raises(PresetError, match="dropout works with lora") as caught:
        Preset().changed({"adapter.algorithm": "full", "adapter.rank_dropout": 0.1})
    assert [problem.where for problem in caught.value.problems] == ["adapter.rank_dropout"]
