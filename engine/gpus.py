"""The GPUs that work can be given to, as the driver tells them. Torch-free."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

_QUERY = ("--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
_PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class Gpu:
    """`name` is what CUDA_VISIBLE_DEVICES calls it; "" stands for the processor, where there is no GPU."""

    name: str
    title: str
    memory_bytes: int = 0


PROCESSOR = Gpu("", "this computer's processor (no GPU was found)")


@lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """All GPUs that this program may use, or the processor alone: so many works go on side by side."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if program is None:
        return (PROCESSOR,)
    try:
        told = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (PROCESSOR,)
    return read_list(told, os.environ.get("CUDA_VISIBLE_DEVICES")) or (PROCESSOR,)


def read_list(told: str, visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs of nvidia-smi's table (index, uuid, name, MiB), of those that CUDA_VISIBLE_DEVICES leaves."""
    found: list[tuple[str, Gpu]] = []
    for line in told.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdecimal():
            mebibytes = int(fields[3]) if fields[3].isdecimal() else 0
            found.append((fields[0], Gpu(fields[1], f"GPU {fields[0]}: {fields[2]}", mebibytes * 1024**2)))
    if visible is None:
        return tuple(gpu for _, gpu in found)
    chosen: list[Gpu] = []
    for word in (word.strip() for word in visible.split(",")):
        gpu = next((gpu for index, gpu in found if word == index or (word and gpu.name.startswith(word))), None)
        if gpu is None:  # CUDA stops at the first that it does not know
            break
        chosen.append(gpu)
    return tuple(chosen)
