"""What does it cost to decompose every layer of SDXL? Atelier's sampled decomposition and a plain loop, side by side.

    python -m benchmarks.tools [--rank 32] [--spectrum trained|slow|flat] [--samples 1] [--all] [--threads 2]
    python -m benchmarks.tools --merge CHECKPOINT LORA          merging instead (see tools_merge.py)

The layers are the 722 linears of SDXL's UNet that a LoRA goes onto (8 sizes). The matrices are made up, with singular
values as they are asked for: "trained" falls like 0.9ⁱ over 128 ranks with noise a thousandth as strong, as the
differences of tuned models do; "slow" falls like 1 / i; "flat" is a Gaussian matrix, the worst case: no choice of ranks
is much better than another there, and most of it is lost at any rank. The plain loop is `torch.linalg.svd` of the whole
matrix, cut to the rank.

Both do one matrix of each size in turn; what all layers take is the sum over the sizes, times how many layers have it.
With --all ours does every one of the 722 instead, one after the other, as `extract` does: then its figure is measured,
and only the plain loop's is worked out. Seconds are those of the clock; "CPU" adds up all threads, which tells more on
a busy machine. "Error" is ‖A − A_k‖ / ‖A‖, "against the best" its ratio to that of the plain loop, the best possible.
Resizing decomposes products of rank 128 by their factors, in fp64, and is exact.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.tools_merge import compare
from engine.lora_tools.low_rank import Svd, exact_svd, product_svd, truncated_svd
from engine.sdxl.layers import UNET, part_layers

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 2816,
}
LAYERS, RANK_BEFORE, DECAY_RANKS, NOISE = 722, 128, 128, 1e-3
SPECTRA: dict[str, Callable[[int], Tensor]] = {
    "trained": lambda count: 0.9 ** torch.arange(count),
    "slow": lambda count: 1 / (1 + torch.arange(count)),
}
Size = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock and of the CPU, all threads together."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __mul__(self, count: float) -> Cost:
        return Cost(self.seconds * count, self.cpu_seconds * count)

    def __str__(self) -> str:
        return f"{self.seconds:8.2f} s  {self.cpu_seconds:8.2f} s CPU"


def sizes() -> Counter[Size]:
    """{(out, in): how many layers} of the UNet's linears that a LoRA goes onto."""
    layers = [layer for layer in part_layers(UNET, SDXL) if layer.kind == "attention"]
    return Counter((layer.outputs, layer.inputs) for layer in layers)


def made_up(size: Size, spectrum: str, seed: int) -> Tensor:
    """A matrix with about these singular values, fp32."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = size
    noise = torch.randn(rows, columns, generator=generator)
    if spectrum == "flat":
        return noise
    count = min(DECAY_RANKS, *size)
    left = torch.linalg.qr(torch.randn(rows, count, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, count, generator=generator))[0]
    return (left * SPECTRA[spectrum](count)) @ right.t() + NOISE / max(size) ** 0.5 * noise


def timed(work: Callable[[], Svd]) -> tuple[Cost, Svd]:
    start, cpu_start = time.perf_counter(), time.process_time()
    found = work()
    return Cost(time.perf_counter() - start, time.process_time() - cpu_start), found


def by_size(rank: int, spectrum: str, samples: int) -> dict[str, Cost]:
    """Both on matrices of each size, printed; what all layers would take."""
    total = {"ours": Cost(), "plain": Cost(), "resizing": Cost()}
    print(f"{'size':>14} layers  {'ours':^24}  {'plain loop':^24}   error   against the best")
    for size, layers in sorted(sizes().items()):
        for sample in range(samples):
            matrix = made_up(size, spectrum, sample)
            ours, found = timed(lambda matrix=matrix: truncated_svd(matrix, rank, seed=0))
            plain, best = timed(lambda matrix=matrix: exact_svd(matrix).first(rank))
            up, down = torch.randn(size[0], RANK_BEFORE), torch.randn(RANK_BEFORE, size[1])
            resizing, _ = timed(lambda up=up, down=down: product_svd(up.double(), down.double()).first(rank))
            for name, cost in (("ours", ours), ("plain", plain), ("resizing", resizing)):
                total[name] += cost * (layers / samples)
            ratio = found.error / best.error if best.error else 1.0
            print(f"{size[0]:>6} × {size[1]:<5} {layers:6}  {ours}  {plain}  {found.relative_error:7.2%}  {ratio:.4f}")
    return total


def every_layer(rank: int, spectrum: str) -> Cost:
    """Ours on as many matrices as SDXL has layers, one of each size made beforehand, each with its own seed."""
    matrices = {size: made_up(size, spectrum, 0) for size in sizes()}
    total = Cost()
    for size, layers in sizes().items():
        for layer in range(layers):
            total += timed(lambda size=size, layer=layer: truncated_svd(matrices[size], rank, seed=layer))[0]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--spectrum", choices=(*SPECTRA, "flat"), default="trained")
    parser.add_argument("--samples", type=int, default=1, help="matrices of each size")
    parser.add_argument("--all", action="store_true", help="measure ours on all layers instead of working it out")
    parser.add_argument(
        "--merge", nargs=2, type=Path, metavar=("CHECKPOINT", "LORA"), help="merging, beside a plain loop"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    if chosen.merge:
        base, lora = chosen.merge
        compare(base, lora, chosen.threads)
        return
    torch.set_num_threads(chosen.threads)
    truncated_svd(torch.randn(512, 512), chosen.rank, seed=0)  # the first call of the libraries takes longer
    exact_svd(torch.randn(512, 512))
    print(f"rank {chosen.rank}, spectrum {chosen.spectrum}, {chosen.threads} threads, {sum(sizes().values())} layers\n")
    total = by_size(chosen.rank, chosen.spectrum, chosen.samples)
    measured = every_layer(chosen.rank, chosen.spectrum) if chosen.all else None
    print(f"\nall layers, ours         {measured or total['ours']}   {'measured' if measured else 'worked out'}")
    print(f"all layers, plain loop   {total['plain']}   worked out")
    print(f"resizing {RANK_BEFORE} to {chosen.rank:<4}       {total['resizing']}   worked out")


if __name__ == "__main__":
    main()
