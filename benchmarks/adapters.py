"""What does each kind of adapter cost? Numbers trained, size of the file on SDXL, and time of a step against LoRA's.

    python -m benchmarks.adapters [--width 640] [--rows 1024] [--layers 6] [--rank 16] [--dtype fp32] [--device cpu]

A step is forward, backward, clipping, AdamW and zeroing on a stack of frozen linears. One round times a step of each
kind in turn, so that a busy machine slows all alike; the figures are medians of the rounds. Only the ratios mean
something on another machine.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import nn

from benchmarks.lora_linear import DTYPES, Contender, Stack
from benchmarks.turns import seconds_in_turns
from engine.adapter_shapes import saved_count
from engine.adapters import ADAPTERS
from engine.adapters.attach import Recipe, attach
from engine.adapters.flat import total_norm
from engine.adapters.site import Site
from engine.adapters.targets import targets


def contender(algorithm: str, width: int, layers: int, rank: int, dtype: torch.dtype, device: str) -> Contender:
    """A stack of linears with an adapter of this kind."""
    stack = Stack(width, layers).to(device, dtype).requires_grad_(False)
    adapter = attach({"text_encoder_1": stack}, Recipe(algorithm, rank=rank, alpha=rank))
    return Contender(stack, list(adapter.vectors.values()), total_norm)


def step_seconds(contenders: dict[str, Contender], x: torch.Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of a step of each."""
    steps = {name: each.stepper(x) for name, each in contenders.items()}
    times = seconds_in_turns(steps, rounds + 2, x.device.type)
    return {name: statistics.median(found[2:]) for name, found in times.items()}  # the first two warm up


def file_bytes_on_sdxl(algorithm: str, rank: int, bytes_each: int = 2) -> int:
    """Size of a file for the UNet of SDXL (attention and feed-forward layers), without its header."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet: nn.Module = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),  # pyright: ignore[reportArgumentType]
            attention_head_dim=(5, 10, 20),  # pyright: ignore[reportArgumentType]
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    sites = [Site(target, rank, float(rank), algorithm=algorithm) for target in targets("unet", unet, with_conv=False)]
    return bytes_each * sum(saved_count(algorithm, site.place) for site in sites)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 640), ("rows", 1024), ("layers", 6), ("rank", 16), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    dtype = DTYPES[options.dtype]
    made = {
        name: contender(name, options.width, options.layers, options.rank, dtype, options.device) for name in ADAPTERS
    }
    x = torch.randn(options.rows, options.width, dtype=dtype, device=options.device, requires_grad=True)
    seconds = step_seconds(made, x, options.rounds)
    print(f"{'':10}{'step':>8}{'file on SDXL, half precision':>34}")
    for name in ADAPTERS:
        size = file_bytes_on_sdxl(name, options.rank) / 1e6
        print(f"{name:10}{seconds[name] / seconds['lora']:7.2f}×{size:30.1f} MB")


if __name__ == "__main__":
    main()
