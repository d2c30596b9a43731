"""What a plan finds out about the adapter files that a run begins with, from their headers alone. Torch-free."""

from __future__ import annotations

import math

from engine.adapter_header import SCALARS, AdapterHeader, read_adapter
from engine.adapter_shapes import FROZEN, SHAPES, Place, options_of
from engine.errors import ModelError, Problem
from engine.layer_choice import chosen_layers, read_choice, trained_layers
from engine.merges import read_merges
from engine.preset import Preset, resolve
from engine.sdxl.configs import ModelConfig
from engine.sdxl.layers import PREFIX


def start_problems(config: ModelConfig, preset: Preset) -> list[Problem]:
    """Faults of the file to start from, and of those to merge into the base model."""
    found: list[Problem] = []
    read_merges(preset, found)
    if not preset.adapter.start_from:
        return found
    try:
        header = read_adapter(resolve(preset.adapter.start_from))
    except ModelError as error:
        return found + [Problem("adapter.start_from", str(each)) for each in error.problems]
    if not header.parts:
        what = f"{resolve(preset.adapter.start_from)} is not an SDXL adapter. Choose a LoRA file."
        found.append(Problem("adapter.start_from", what))
    elif not header.parts & set(trained_layers(config, preset.adapter)):
        what = f"{resolve(preset.adapter.start_from)} has no layer that this preset trains. Choose another file."
        return [*found, Problem("adapter.start_from", what)]
    return found if preset.adapter.rank_from_file else found + _misfits(header, config, preset)


def _misfits(header: AdapterHeader, config: ModelConfig, preset: Preset) -> list[Problem]:
    """The first tensor of the file that another adapter than the preset's would have; names as diffusers has them are
    looked at only when the model is there."""
    adapter, options = preset.adapter, options_of(preset.adapter)
    for layer, chosen in chosen_layers(config, adapter):
        place = Place(layer.weight_shape, chosen.rank, layer.has_bias, options)
        wanted = SHAPES[adapter.algorithm if layer.kernel else "full"](place)
        held = {
            suffix: info.shape for suffix, info in header.layers.get(layer.name, {}).items() if suffix not in SCALARS
        }
        for suffix, shape in wanted.items() if held else ():
            if math.prod(held.get(suffix, (0,))) != math.prod(shape):
                is_there = list(held[suffix]) if suffix in held else "none"
                what = f"the file's {layer.name}.{suffix} has the shape {is_there}; here it must have {list(shape)}."
                advice = "Set the kind and ranks that it has, or switch on adapter.rank_from_file."
                return [Problem("adapter.start_from", f"{what} {advice}")]
    return []


def file_parameters(preset: Preset) -> int:
    """How many numbers are trained with the layers and ranks of the file to start from; 0 where it cannot be read."""
    adapter, choice = preset.adapter, read_choice(preset.adapter)
    parts = {"unet": adapter.unet, "text_encoder_1": adapter.text_encoder_1, "text_encoder_2": adapter.text_encoder_2}
    prefixes = tuple(PREFIX[part] for part, wanted in parts.items() if wanted)
    try:
        header = read_adapter(resolve(adapter.start_from))
    except ModelError:
        return 0
    total = 0
    still = (*SCALARS, *FROZEN.get(adapter.algorithm, ()))
    for layer, held in header.layers.items():
        if layer.startswith(prefixes) and choice.rate_of(layer):
            total += sum(math.prod(info.shape) for suffix, info in held.items() if suffix not in still)
    return total
