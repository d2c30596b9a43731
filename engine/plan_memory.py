"""How much memory a run takes on a GPU while it trains: an estimate from shapes alone. Torch-free.

Weights and adapter are counted. Activations are what the graph keeps for the backward pass, counted layer by layer for
PyTorch's fused attention and this engine's fused adapter; docs/performance.md has the figures it was checked against.
What CUDA itself takes (0.3 to 1 GB) and what the allocator loses to gaps are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from engine.errors import Problem
from engine.optimizer_kinds import OPTIMIZERS
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.sdxl.configs import Config
from engine.sdxl.detect import ModelFacts
from engine.sdxl.parts import Part, local_tensors

BYTES_OF = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "nf4": 0.5625}
STORED_FROM = 4096  # smaller weights are not packed (engine/sdxl/storage.py)
# Numbers kept for each number of a token's width in a transformer block: three norms with input and output (6), query,
# key, value, both attentions' outputs as they are and joined (8), the feed-forward's gate, hidden and product (16)
KEPT_IN_BLOCK = 30
MIDDLE = 3  # the transformer's own norm, the input of its first and of its last projection


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes on the GPU: the frozen weights, what is trained with its optimizer, and the activations of a batch."""

    weights_bytes: int = 0
    adapter_bytes: int = 0
    activations_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.adapter_bytes + self.activations_bytes


def forecast_memory(
    preset: Preset, model: ModelFacts | None, trained: int, images: tuple[ImagePlan, ...]
) -> MemoryForecast:
    """The estimate for a run that trains `trained` numbers; zeros where the model or the images are not known."""
    if model is None or not images or model.kind != "base":
        return MemoryForecast()
    cells = max(image.bucket_px[0] * image.bucket_px[1] for image in images) // 64
    width = BYTES_OF[preset.memory.precision]
    kept = activation_numbers(model.config.unet, preset, cells * preset.run.batch_size)
    return MemoryForecast(_weights_bytes(preset, model), _adapter_bytes(preset, trained), round(kept * width))


def average_problems(preset: Preset, steps: int) -> list[Problem]:
    """An average of the weights that would begin after the end, where epochs decide when that is."""
    run = preset.run
    if not run.ema_decay or run.length == "steps" or not 0 < steps <= run.ema_start_step:
        return []
    what = f"the average would begin after the last step (got {run.ema_start_step} of {steps}). Give an earlier step."
    return [Problem("run.ema_start_step", what)]


def _weights_bytes(preset: Preset, model: ModelFacts) -> int:
    """The UNet, and the text encoders and the VAE where they stay."""
    memory = preset.memory
    parts: list[tuple[Part, str]] = [("unet", memory.unet_storage)]
    if not preset.captions.cache_text:
        parts.append(("text_1", memory.text_encoder_storage))
        parts.append(("text_2", memory.text_encoder_storage))
    if not preset.data.cache_latents:
        parts.append(("vae", "same"))
    plain = BYTES_OF[memory.precision]
    total = 0.0
    for part, storage in parts:
        packed = plain if storage == "same" else BYTES_OF[storage]
        for info in local_tensors(model, part).values():
            numbers = prod(info.shape)
            is_packed = len(info.shape) > 1 and numbers >= STORED_FROM and part != "vae"
            total += numbers * (packed if is_packed else plain)
    return round(total)


def _adapter_bytes(preset: Preset, trained: int) -> int:
    """Numbers, gradients, optimizer, average, and the copies in the computation's precision that a step makes."""
    memory, run = preset.memory, preset.run
    narrow = memory.adapter_precision == "bf16"
    moments = OPTIMIZERS[preset.optimizer.name].memory_bytes
    a_number = (2 + 2 + (moments / 2 if moments >= 4 else moments)) if narrow else 4 + 4 + moments
    a_number += 4 if run.ema_decay and run.ema_device == "same" else 0
    a_number += 0 if narrow else 2 * BYTES_OF[memory.precision]
    return round(trained * a_number)


def activation_numbers(config: Config, preset: Preset, cells: int) -> int:
    """Numbers that are kept for the backward pass for so many latent cells (pictures × height × width ÷ 64)."""
    blocks = list(_blocks(config, preset.adapter.rank, preset.adapter.conv_rank))
    if not preset.memory.gradient_checkpointing:
        return round(sum(block.kept * block.area for block in blocks) * cells)
    inputs = sum(block.entry * block.area for block in blocks)
    return round((inputs + max(block.kept_at_once * block.area for block in blocks)) * cells)


@dataclass(frozen=True)
class _Block:
    """A residual block or a transformer: share of the latent's area, numbers kept in all and at its entries."""

    area: float
    kept: float
    entry: float
    kept_at_once: float


def _blocks(config: Config, rank: int, conv_rank: int) -> Iterator[_Block]:
    """Everything that a gradient flows through: on the way down only what comes after the first adapted layer."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    down = [_depths(depth, layers) for depth in config["transformer_layers_per_block"]]
    up_of = config.get("reverse_transformer_layers_per_block") or tuple(
        reversed(config["transformer_layers_per_block"])
    )
    has_attention = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    live, width, skips = conv_rank > 0, widths[0], [widths[0]]
    for level, out in enumerate(widths):
        for layer in range(layers):
            if live:
                yield _residual(level, width, out, conv_rank)
            width = out
            if has_attention[level]:
                live = True
                yield _transformer(level, out, down[level][layer], rank)
            skips.append(out)
        if level < len(widths) - 1:
            skips.append(out)
    last = len(widths) - 1
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn":
        yield _transformer(last, width, down[-1][0], rank)
    yield _residual(last, width, width, conv_rank)
    yield _residual(last, width, width, conv_rank)
    for place, kind in enumerate(config["up_block_types"]):
        level = last - place
        depths = _depths(up_of[place], layers + 1)
        for layer in range(layers + 1):
            yield _residual(level, width + skips.pop(), widths[level], conv_rank)
            width = widths[level]
            if kind.startswith("CrossAttn"):
                yield _transformer(level, width, depths[layer], rank)
    yield _Block(1.0, 2 * widths[0], 2 * widths[0], 0)


def _depths(depth: int | list[int] | tuple[int, ...], layers: int) -> list[int]:
    return [depth] * layers if isinstance(depth, int) else list(depth)


def _residual(level: int, inputs: int, outputs: int, conv_rank: int) -> _Block:
    """Inputs of both norms and of both activations; of both convolutions only where they are adapted."""
    kept = 2 * inputs + 2 * outputs + ((inputs + outputs + 2 * conv_rank) if conv_rank else 0)
    return _Block(0.25**level, kept, inputs, kept)


def _transformer(level: int, width: int, depth: int, rank: int) -> _Block:
    block = KEPT_IN_BLOCK * width + 8 * rank
    outside = MIDDLE * width + 2 * rank
    return _Block(0.25**level, outside + depth * block, outside + depth * width, block)
