"""Merging a LoRA into a checkpoint: Atelier's streaming tool, a plain torch loop and a copy, each in its own process.

The plain loop is what scripts do: read every tensor, add strength · alpha / rank · up · down in fp32, write the file.
The copy of the checkpoint, 4 MB at a time, tells what the disk can do. All three end when the file is on the disk
(fsync). Told are seconds of the clock, of the CPU in user and system mode, and the peak of the resident memory.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory

Told = tuple[float, float, float, int]


def ours(base: Path, lora: Path, made: Path) -> None:
    from engine.lora_tools import merge
    from engine.lora_tools.merging import merge as carry_out

    proposal = merge.propose(merge.Settings(base=str(base), loras=str(lora), output=str(made)))
    if proposal.problems:
        raise SystemExit("\n".join(map(str, proposal.problems)))
    carry_out(proposal.content, "same", lambda done, total: None)


def plain(base: Path, lora: Path, made: Path) -> None:
    """LoRA layers with kohya's names only."""
    import torch
    from safetensors.torch import load_file, save_file

    from engine.lora_tools.checkpoint_layers import open_checkpoint

    checkpoint, matrices = open_checkpoint(base), load_file(lora)
    changes: dict[str, list[tuple[int | None, torch.Tensor]]] = {}
    for name in (key.removesuffix(".lora_up.weight") for key in matrices if key.endswith(".lora_up.weight")):
        up, down = matrices[f"{name}.lora_up.weight"].float(), matrices[f"{name}.lora_down.weight"].float()
        weight = checkpoint.weight_of(name)
        if weight is not None:
            scale = float(matrices.get(f"{name}.alpha", torch.tensor(len(down)))) / len(down)
            change = scale * (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])
            changes.setdefault(weight.key, []).append((weight.third, change))
    tensors = load_file(base)
    for key, found in changes.items():
        whole = tensors[key].float()
        for third, change in found:
            own = whole if third is None else whole.chunk(3)[third]
            own += change.view(own.shape)
        tensors[key] = whole.to(tensors[key].dtype)
    save_file(tensors, made, checkpoint.header.metadata)
    with made.open("rb") as file:
        os.fsync(file.fileno())


def copy(base: Path, lora: Path, made: Path) -> None:
    """Without the LoRA."""
    with base.open("rb") as source, made.open("wb") as target:
        while piece := source.read(1 << 22):
            target.write(piece)
        os.fsync(target.fileno())


def measured(work: Callable[[Path, Path, Path], None], base: Path, lora: Path, threads: int) -> Told:
    """(seconds, user seconds, system seconds, peak bytes) of a process that does nothing else."""
    context = get_context("spawn")
    queue: SimpleQueue[Told] = context.SimpleQueue()
    with TemporaryDirectory(dir=base.parent) as folder:
        made = Path(folder) / "made.safetensors"
        process = context.Process(target=_measure, args=(work, base, lora, made, threads, queue))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
    return queue.get()


def _measure(
    work: Callable[[Path, Path, Path], None], base: Path, lora: Path, made: Path, threads: int, queue: SimpleQueue[Told]
) -> None:
    import torch

    torch.set_num_threads(threads)
    start, before = time.perf_counter(), os.times()
    work(base, lora, made)
    after, peak = os.times(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put((time.perf_counter() - start, after.user - before.user, after.system - before.system, peak))


def compare(base: Path, lora: Path, threads: int) -> None:
    """All three, printed."""
    size = base.stat().st_size
    print(f"{base.name}, {size / 1e9:.2f} GB, with {lora.name}, {threads} threads")
    for name, work in (("ours", ours), ("plain loop", plain), ("copy", copy)):
        seconds, user, system, peak = measured(work, base, lora, threads)
        speed = f"{size / seconds / 1e6:.0f} MB/s"
        print(f"{name:>12}  {seconds:7.2f} s  user {user:7.2f} s  system {system:6.2f} s  {peak / 1e9:.2f} GB  {speed}")
