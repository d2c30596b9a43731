"""Where a run computes, how much memory it took, and what helps when it was not enough."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil
import torch

from engine.errors import UserError
from engine.optimizer_kinds import OPTIMIZERS
from engine.preset import Preset
from engine.sdxl.detect import ModelFacts
from engine.sdxl.narrow import cpu_computes_fast_in

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

LARGE_MODEL_BYTES = 2_000_000_000  # above this an fp32 copy of the weights is not worth its memory


def choose_device(preset: Preset) -> torch.device:
    """The device of a preset. Raises UserError when a GPU is asked for and none can be used."""
    memory = preset.memory
    return device_of(memory.device, memory.precision, memory.threads, "memory")


def device_of(wanted: str, precision: str, threads: int, section: str) -> torch.device:
    """The device that is meant by "auto", "cuda" or "cpu", with so many threads. `section` is named in UserErrors."""
    if wanted == "cuda" and not torch.cuda.is_available():
        what = "no GPU can be used by this PyTorch. Run `python -m engine doctor` to see why, or set it to auto."
        raise UserError(what, f"{section}.device")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        threads = threads or int(os.environ.get("OMP_NUM_THREADS", "0"))
        if threads:
            torch.set_num_threads(threads)
    elif precision == "bf16" and not torch.cuda.is_bf16_supported():
        what = "this GPU cannot compute in bf16 (cards before the RTX 30 series cannot). Set it to fp16."
        raise UserError(what, f"{section}.precision")
    return torch.device(wanted)


@dataclass(frozen=True)
class Computation:
    """The precision that is computed in; `keep_narrow`: weights stay in half precision and are widened when used."""

    dtype: torch.dtype
    keep_narrow: bool
    note: str = ""


def choose_computation(preset: Preset, facts: ModelFacts, device: torch.device) -> Computation:
    """How to compute on this device. Most CPUs have no instructions for half precision and are far slower in it."""
    return computation_in(preset.memory.precision, facts, device)


def computation_in(precision: str, facts: ModelFacts, device: torch.device) -> Computation:
    """How to compute what is asked for in "bf16", "fp16" or "fp32" on this device, with a model of this size."""
    wanted = DTYPES[precision]
    large = facts.size_bytes > LARGE_MODEL_BYTES
    if device.type != "cpu" or (wanted != torch.float32 and cpu_computes_fast_in(wanted)):
        return Computation(wanted, keep_narrow=False)
    if wanted == torch.float32:
        return Computation(wanted, keep_narrow=large)
    note = f"This processor has no instructions for {precision}: it computes in fp32"
    note += ", from weights that stay as they are in the file." if large else "."
    return Computation(torch.float32, keep_narrow=large, note=note)


def device_name(device: torch.device) -> str:
    """The device in words, for the log and the page."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} {'thread' if threads == 1 else 'threads'}"


def card_name(device: torch.device) -> str:
    """What nvidia-smi calls an NVIDIA card; "" for other devices."""
    if device.type != "cuda" or torch.version.hip:
        return ""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def used_bytes(device: torch.device) -> int:
    """Memory that the run takes now: reserved on a GPU; on a CPU the process's own, without mapped files."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    taken = psutil.Process().memory_info()
    return taken.rss - getattr(taken, "shared", 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this fault says that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def advice(preset: Preset, stage: str) -> str:
    """What to change so that the run fits, from this run's own settings, the cheapest first."""
    device, kept_bytes = choose_device(preset), OPTIMIZERS[preset.optimizer.name].memory_bytes
    steps = [
        (not preset.memory.gradient_checkpointing, "switch on memory.gradient_checkpointing"),
        (preset.run.batch_size > 1, f"lower run.batch_size (now {preset.run.batch_size}) and raise run.accumulation"),
        (preset.memory.precision == "fp32", "set memory.precision to bf16"),
        (
            preset.memory.unet_storage == "same" and preset.memory.precision != "fp32",
            "set memory.unet_storage to int8 (the UNet in half of its memory)",
        ),
        (
            preset.memory.unet_storage in ("fp8", "int8"),
            "set memory.unet_storage to nf4 (less exact, in half of that again)",
        ),
        (
            preset.run.ema_decay > 0 and preset.run.ema_device == "same" and device.type == "cuda",
            "set run.ema_device to cpu",
        ),
        (not preset.captions.cache_text, "switch on captions.cache_text and train the UNet only"),
        (not preset.data.cache_latents, "switch on data.cache_latents"),
        (device.type == "cuda" and kept_bytes > 4, "set optimizer.name to adamw_8bit"),
        (preset.adapter.rank > 16, f"lower adapter.rank (now {preset.adapter.rank})"),
        (
            preset.data.width_px * preset.data.height_px > 512 * 512,
            f"train at a smaller size (now {preset.data.width_px}×{preset.data.height_px})",
        ),
    ]
    room = ""
    if device.type == "cuda":
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        room = f" The GPU has {total_bytes / 2**30:.1f} GiB, {free_bytes / 2**30:.1f} GiB were free at the end."
    wanted = [text for applies, text in steps if applies][:3]
    remedy = "; ".join(wanted) if wanted else "close other programs that use this memory"
    return f"memory did not suffice ({stage.lower()}).{room} What helps, the cheapest first: {remedy}."
