"""What does a training step of an SDXL LoRA cost? Atelier and the same work by diffusers and peft, side by side.

    python -m benchmarks.step [--width 64] [--size 512] [--batch 1] [--rank 16] [--rounds 9] [--checkpointing]
        [--device cpu] [--dtype fp32] [--storage same] [--threads 1]

A step is noising, the UNet forward, the loss, backward, clipping, AdamW, zeroing: on the same UNet of SDXL's structure
(--width 320 is SDXL itself, 64 has 100 M parameters), the same layers, rank and inputs. Both get the best that
PyTorch has: its fused attention and fused AdamW. One round times one step of each in turn, so that a busy machine
slows all alike; the figures are medians of rounds, and the ratio is the median of the rounds'
ratios. Operations are those that torch dispatches in a step. Memory is the peak of tensors alive: on a GPU what torch
allocated, on a CPU counted operation by operation, both with weights and optimizer.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.allocations import Allocations
from benchmarks.lora_linear import operations_of
from benchmarks.turns import seconds_in_turns
from engine.adapters.attach import Recipe, attach
from engine.losses import LossTerms
from engine.objective import Objective
from engine.optimizer_arguments import arguments_of
from engine.optimizers import make_optimizer
from engine.rate_groups import rate_groups
from engine.sdxl.noise import sdxl_schedule
from engine.sdxl.storage import make_stored
from engine.sdxl.text import TextFeatures
from engine.sections.optimizer import Optimizer
from engine.updater import Updater

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RATE, CLIP_NORM = 1e-4, 1.0
# The layers that Atelier's adapter is on, as peft is told them
PEFT_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")


@dataclass(frozen=True)
class Task:
    """What both do. `width` of the UNet's first level; `text_width` and `pooled_width` follow it from 320 down."""

    width: int = 64
    depths: tuple[int, int] = (2, 10)
    size_px: int = 512
    batch: int = 1
    rank: int = 16
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    checkpointing: bool = False
    storage: str = "same"

    @property
    def text_width(self) -> int:
        return 2048 * self.width // 320

    @property
    def pooled_width(self) -> int:
        return 1280 * self.width // 320


def make_unet(task: Task) -> Any:
    """The UNet of SDXL's structure with random weights from seed 0, frozen."""
    from diffusers import UNet2DConditionModel

    widths = (task.width, 2 * task.width, 4 * task.width)
    with torch.random.fork_rng(), torch.device(task.device):
        torch.manual_seed(0)
        unet: Any = UNet2DConditionModel(
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, *task.depths),  # pyright: ignore[reportArgumentType]
            attention_head_dim=tuple(max(1, width // 64) for width in widths),  # pyright: ignore[reportArgumentType]
            cross_attention_dim=task.text_width,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=task.pooled_width + 6 * 256,
        )
    unet.requires_grad_(False)
    if task.dtype != torch.float32:
        unet.to(task.dtype)
    if task.checkpointing:
        unet.train()
        unet.enable_gradient_checkpointing()
    return unet


def make_batch(task: Task) -> tuple[Any, TextFeatures]:
    """Random latents, noise and text features."""
    generator = torch.Generator().manual_seed(1)
    side, size = task.size_px // 8, float(task.size_px)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(task.device)

    noise = random(task.batch, 4, side, side)
    batch = SimpleNamespace(  # what an objective reads of a batch
        words=None,
        latents=random(task.batch, 4, side, side),
        noise=noise,
        input_noise=noise,
        timesteps=torch.randint(0, 1000, (task.batch,), generator=generator).to(task.device),
        size_ids=torch.tensor([[size, size, 0, 0, size, size]] * task.batch, device=task.device),
        weights=torch.full((task.batch,), 1.0 / task.batch, device=task.device),
        mask=None,
    )
    rows, pooled = random(task.batch, 77, task.text_width), random(task.batch, task.pooled_width)
    return batch, TextFeatures(rows=rows.to(task.dtype), pooled=pooled.to(task.dtype))


@dataclass(frozen=True)
class KnownText:
    """Text features that are there already."""

    known: TextFeatures

    def encode(self, words: object) -> TextFeatures:
        return self.known


@dataclass(frozen=True)
class Contender:
    """What makes a step and returns its loss, 0-dim; and what it trains."""

    step: Callable[[], Tensor]
    trained: list[nn.Parameter]


def atelier(task: Task) -> Contender:
    """The parts that a run is made of, put together as engine/train.py does."""
    unet = make_unet(task)
    if task.storage != "same":
        dense = {name: tensor.data for name, tensor in unet.named_parameters()}
        for name, take in make_stored(unet, task.storage, task.dtype).items():
            take(dense.pop(name))
        del dense
    device = torch.device(task.device)
    adapter = attach({"unet": unet}, Recipe(rank=task.rank, alpha=float(task.rank)))
    groups = rate_groups(adapter.groups, {"unet": RATE}, shaped=False)
    optimizer = make_optimizer("adamw", groups, arguments_of(Optimizer()))
    updater = Updater(optimizer, groups, CLIP_NORM, task.dtype == torch.float16, device)
    objective = Objective(sdxl_schedule(False).to(device), "epsilon", LossTerms())
    batch, known = make_batch(task)
    text: Any = KnownText(known)

    def step() -> Tensor:
        updater.begin_step(1.0)
        adapter.begin_batch(0.5, batch.timesteps)
        share = objective.loss(unet, batch, text)
        (share * updater.scale).backward()
        adapter.end_batch()
        updater.update(0)
        return share.detach()

    return Contender(step, list(adapter.vectors.values()))


def diffusers_and_peft(task: Task) -> Contender:
    """The step of diffusers' train_text_to_image_lora_sdxl.py, in half precision under autocast, on peft's adapter."""
    from diffusers import DDPMScheduler
    from peft import LoraConfig

    unet = make_unet(task)
    config = LoraConfig(r=task.rank, lora_alpha=task.rank, target_modules=list(PEFT_TARGETS))
    unet.add_adapter(config)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scaler = torch.amp.GradScaler(torch.device(task.device).type, enabled=task.dtype == torch.float16)
    batch, text = make_batch(task)
    autocast = torch.autocast(torch.device(task.device).type, task.dtype, enabled=task.dtype != torch.float32)

    def step() -> Tensor:
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.timesteps)  # pyright: ignore[reportArgumentType]
        added = {"text_embeds": text.pooled, "time_ids": batch.size_ids}
        with autocast:
            predicted = unet(noisy.to(task.dtype), batch.timesteps, text.rows, added_cond_kwargs=added).sample
        loss = nn.functional.mse_loss(predicted.float(), batch.noise.float(), reduction="mean")
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return Contender(step, trained)


CONTENDERS: dict[str, Callable[[Task], Contender]] = {"atelier": atelier, "diffusers + peft": diffusers_and_peft}


def peak_bytes(make: Callable[[Task], Contender], task: Task) -> int:
    """Peak memory of two steps, weights included; on a CPU without what operations take inside themselves."""
    gc.collect()
    if task.device.startswith("cuda"):
        contender = make(task)
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        contender.step()
        contender.step()
        return torch.cuda.max_memory_allocated()
    with Allocations() as taken:
        contender = make(task)
        gc.collect()
        taken.peak_bytes = taken.now_bytes
        contender.step()
        contender.step()
    return taken.peak_bytes


def _task(options: argparse.Namespace) -> Task:
    return Task(
        width=options.width,
        size_px=options.size,
        batch=options.batch,
        rank=options.rank,
        dtype=DTYPES[options.dtype],
        device=options.device,
        checkpointing=options.checkpointing,
        storage=options.storage,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--storage", choices=("same", "fp8", "int8", "nf4"), default="same", help="Atelier's base")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = _task(options)
    peaks = {name: peak_bytes(make, task) for name, make in CONTENDERS.items()}  # one at a time
    made = {name: make(task) for name, make in CONTENDERS.items()}
    for contender in made.values():
        contender.step()
    counts = {name: operations_of(contender.step) for name, contender in made.items()}
    seconds = seconds_in_turns({name: contender.step for name, contender in made.items()}, options.rounds, task.device)
    base = "diffusers + peft"
    for name, values in seconds.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(values, seconds[base], strict=True))
        print(
            f"{name:17} {statistics.median(values):8.3f} s a step (× {ratio:4.2f})   "
            f"{peaks[name] / 2**20:8.0f} MiB (× {peaks[name] / peaks[base]:4.2f})   "
            f"{counts[name]:7,} operations (× {counts[name] / counts[base]:4.2f})"
        )


if __name__ == "__main__":
    main()
