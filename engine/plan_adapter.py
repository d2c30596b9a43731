"""What a plan says about the kind of adapter on this very model, and about the programs that will read its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.adapter_shapes import ALPHALESS, SHAPES, Place, options_of
from engine.errors import Problem
from engine.layer_choice import chosen_layers
from engine.rules.families import SHOWN
from engine.sdxl.configs import ModelConfig
from engine.sdxl.layers import PREFIX, UNET

if TYPE_CHECKING:
    from engine.sections.adapter import Adapter


def split_problems(config: ModelConfig, adapter: Adapter) -> list[Problem]:
    """Layers whose outputs OFT or BOFT cannot split into blocks of two or more at the rank."""
    options, widths = options_of(adapter), set[int]()
    for layer, chosen in chosen_layers(config, adapter):
        place = Place(layer.weight_shape, chosen.rank, layer.has_bias, options)
        shapes = SHAPES[adapter.algorithm](place) if layer.kernel else {"norm": (1,)}
        if not shapes or shapes.get("oft_blocks", (2,))[-1] == 1:
            widths.add(place.outputs)
    if not widths:
        return []
    shown = ", ".join(map(str, sorted(widths)))
    what = f"{SHOWN[adapter.algorithm]} cannot split layers of {shown} outputs at this rank (got {adapter.rank})."
    other = "a smaller one" if adapter.algorithm == "oft" else "a larger one"
    return [Problem("adapter.rank", f"{what} Choose {other}; conv rank and ranks of blocks count, too.")]


def reader_warnings(config: ModelConfig, adapter: Adapter) -> list[Problem]:
    """What some of the programs that read adapter files would make of this one."""
    found: list[Problem] = []
    alphas = {chosen.alpha for layer, chosen in chosen_layers(config, adapter) if _is_attention(layer.name)}
    if adapter.algorithm not in ALPHALESS and len(alphas) > 1:
        shown = ", ".join(f"{alpha:g}" for alpha in sorted(alphas)[:4])
        what = f"attention layers of the UNet have different alphas ({shown}), which diffusers passes over"
        found.append(Problem("adapter.alpha", f"{what}: for programs built on it give all layers one alpha."))
    if adapter.algorithm == "ia3":
        what = "ComfyUI and Forge do not read (IA)³ files; AUTOMATIC1111 and Atelier do."
        found.append(Problem("adapter.algorithm", what))
    if adapter.algorithm == "dora" and adapter.dora_norm == "output":
        what = "ComfyUI takes magnitudes for outputs for something else and draws another picture; input is read alike."
        found.append(Problem("adapter.dora_norm", what))
    if adapter.algorithm == "oft" and adapter.rescaled:
        what = "ComfyUI and AUTOMATIC1111 pass over the factors of a rescaled OFT and draw another picture."
        found.append(Problem("adapter.rescaled", what))
    return found


def _is_attention(name: str) -> bool:
    return name.startswith(PREFIX[UNET]) and "_attn" in name
