"""Layers that LyCORIS 4.1.3 saved, read by us, compute what they computed there; ours have the shapes of theirs."""

from __future__ import annotations

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.adapter_shapes import Options, Place
from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Context
from engine.adapters.layer import Layer, frozen_layer
from engine.adapters.loading import SCALARS, LoadedLayer, layer_of, site_of
from engine.adapters.site import weight_shape
from engine.adapters.targets import Target

FIGURES = load_file(REFERENCE / "lycoris_layers.safetensors")
CASES = sorted({key.rsplit(".", 1)[0] for key in FIGURES if key.endswith(".y")})
OURS = {  # what makes the same parameters here
    "lora": ("lora", 4, Options()),
    "dora_in": ("dora", 4, Options()),
    "dora_out": ("dora", 4, Options(dora_norm="output")),
    "loha": ("loha", 4, Options()),
    "lokr": ("lokr", 1, Options()),
    "lokr_both": ("lokr", 1, Options(decompose_both=True, factor=4)),
    "lokr_whole": ("lokr", 4, Options(full_matrix=True, factor=2)),
    "oft": ("oft", 4, Options()),
    "oft_rescaled": ("oft", 4, Options(rescaled=True, constraint=0.05)),
    "boft": ("boft", 6, Options()),
    "boft_rescaled": ("boft", 6, Options(rescaled=True)),
    "ia3": ("ia3", 1, Options()),
    "ia3_in": ("ia3", 1, Options(on_input=True)),
    "glora": ("glora", 4, Options()),
    "full": ("full", 1, Options()),
    "norm": ("full", 1, Options()),
}


def module_of(kind: str) -> Layer:
    made: dict[str, Layer] = {
        "linear": nn.Linear(12, 24),
        "conv": nn.Conv2d(6, 12, 3, 2, 1),
        "group_norm": nn.GroupNorm(3, 12),
        "layer_norm": nn.LayerNorm(12),
    }
    module = made[kind].requires_grad_(False)
    module.load_state_dict({"weight": FIGURES[f"{kind}.weight"], "bias": FIGURES[f"{kind}.bias"]})
    return module


def layer_in_file(case: str) -> LoadedLayer:
    start = f"{case}.file."
    found = {key.removeprefix(start): tensor for key, tensor in FIGURES.items() if key.startswith(start)}
    tensors = {suffix: tensor for suffix, tensor in found.items() if suffix not in SCALARS}
    scalars = {suffix: float(found[suffix]) for suffix in SCALARS if suffix in found}
    return layer_of("lora_unet_x", tensors, scalars, "file")


@pytest.mark.parametrize("case", CASES)
def test_a_layer_of_lycoris_computes_here_what_it_did_there(case: str) -> None:
    kind, _, name = case.partition(".")
    module, loaded = module_of(kind), layer_in_file(case)
    assert loaded.algorithm == OURS[name][0]
    site = site_of(Target("unet", "x", "lora_unet_x", module, kind == "conv"), loaded)
    parameters: dict[str, Tensor] = {
        suffix: loaded.tensors[suffix].reshape(shape) for suffix, shape in site.shapes.items()
    }
    layer = frozen_layer(module)
    context = Context(site.scale, 1.0, site.options, None, site.how.constants(layer, parameters))
    y = site.how.forward(FIGURES[f"{kind}.x"], layer, parameters, context)
    torch.testing.assert_close(y, FIGURES[f"{case}.y"], rtol=2e-5, atol=2e-5)
    assert (y - module(FIGURES[f"{kind}.x"])).abs().max() > 0.01


@pytest.mark.parametrize("case", CASES)
def test_our_layers_have_the_shapes_of_lycoris(case: str) -> None:
    kind, _, name = case.partition(".")
    algorithm, rank, options = OURS[name]
    shapes = ADAPTERS[algorithm].shapes(Place(weight_shape(module_of(kind)), rank, options=options))
    theirs = layer_in_file(case).tensors
    assert shapes == {suffix: tuple(tensor.shape) for suffix, tensor in theirs.items()}
