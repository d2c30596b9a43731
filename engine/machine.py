"""What this machine brings: facts for the doctor to judge. Probing never raises; a fault is a fact like others."""

from __future__ import annotations

import contextlib
import io
import platform
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import compat, installed

ROOT = Path(__file__).resolve().parent.parent
Build = Literal["cpu", "cuda", "rocm"]


@dataclass(frozen=True)
class Gpu:
    """One card as torch sees it. `architecture` is `sm_86` for NVIDIA, `gfx1100` for AMD."""

    name: str
    architecture: str
    memory_bytes: int


@dataclass(frozen=True)
class Torch:
    """The installed torch. `error` holds the reason when it cannot be imported; then only that counts."""

    version: str = ""
    build: Build = "cpu"
    cuda: str | None = None  # "13.0": the CUDA that this build was made with
    kernels: tuple[str, ...] = ()  # architectures that this build carries code for: sm_75, compute_120, gfx1100
    gpus: tuple[Gpu, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Package:
    """A package that was tried out. `note` tells what is special about it although it works."""

    version: str = ""
    error: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything the doctor looks at. `nvidia_driver` is "580.95.05", or None where there is no NVIDIA driver."""

    python: tuple[int, int, int]
    system: str
    torch: Torch
    nvidia_driver: str | None
    nvidia_card: bool
    amd_driver: bool
    bitsandbytes: Package
    torchvision: Package
    packages_pinned: int
    packages_differing: tuple[str, ...]
    ram_total_bytes: int
    ram_available_bytes: int
    disk_free_bytes: int


def probe(root: Path = ROOT) -> Facts:
    """Look at this machine and this Python. Takes a few seconds: torch and bitsandbytes are really tried."""
    torch = probe_torch()
    wanted = installed.pinned(root / "requirements.txt")
    total, available = _ram()
    return Facts(
        python=(sys.version_info.major, sys.version_info.minor, sys.version_info.micro),
        system=f"{platform.system()} {platform.machine()}",
        torch=torch,
        nvidia_driver=_nvidia_driver(),
        nvidia_card=_nvidia_card(),
        amd_driver=Path("/sys/class/kfd/kfd/topology/nodes").is_dir() or shutil.which("rocminfo") is not None,
        bitsandbytes=_try_out(_bitsandbytes) if torch.error is None else Package(error="torch does not work"),
        torchvision=_try_out(_torchvision) if torch.error is None else Package(error="torch does not work"),
        packages_pinned=len(wanted),
        packages_differing=tuple(installed.differing(wanted)),
        ram_total_bytes=total,
        ram_available_bytes=available,
        disk_free_bytes=shutil.disk_usage(root).free,
    )


def probe_torch() -> Torch:
    """Import torch and ask it for its build, its kernels and the cards it can use."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old drivers and cards; the doctor says it in words
            import torch

            build: Build = "rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"
            usable = build != "cpu" and torch.cuda.is_available()
            return Torch(
                version=torch.__version__,
                build=build,
                cuda=torch.version.cuda,
                kernels=tuple(torch.cuda.get_arch_list()),
                gpus=tuple(_gpu(torch, index) for index in range(torch.cuda.device_count())) if usable else (),
            )
    except Exception as error:  # a broken torch fails in many ways, and each is a finding
        return Torch(error=_first_line(error))


def _gpu(torch: Any, index: int) -> Gpu:
    found = torch.cuda.get_device_properties(index)
    amd = getattr(found, "gcnArchName", "") if torch.version.hip else ""
    return Gpu(found.name, amd.partition(":")[0] or f"sm_{found.major}{found.minor}", found.total_memory)


def _try_out(package: Any) -> Package:
    """Try a package without letting its prints and warnings through."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet_stderr():
            warnings.simplefilter("ignore")
            return package()
    except Exception as error:  # whatever it raises is the finding
        return Package(error=_first_line(error))


@contextlib.contextmanager
def _quiet_stderr():
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _bitsandbytes() -> Package:
    """One step of AdamW8bit on the device that training would use must move a parameter by the rate."""
    import bitsandbytes
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    parameter = torch.nn.Parameter(torch.zeros(4096, device=device))
    parameter.grad = torch.ones_like(parameter)
    bitsandbytes.optim.AdamW8bit([parameter], lr=0.1, weight_decay=0.0).step()
    moved = parameter.detach().mean().item()
    if abs(moved + 0.1) > 1e-3:
        return Package(bitsandbytes.__version__, error=f"a step of AdamW8bit on {device} moved by {moved:g}, not -0.1")
    return Package(bitsandbytes.__version__, note=f"AdamW8bit works on {device}")


def _torchvision() -> Package:
    import torchvision
    import torchvision.transforms

    if compat.declared():
        note = "its compiled operators do not fit this torch; Atelier works without them"
        return Package(torchvision.__version__, note=note)
    return Package(torchvision.__version__)


def _nvidia_driver() -> str | None:
    version_file = Path("/proc/driver/nvidia/version")
    if version_file.is_file():
        match = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", version_file.read_text(errors="replace"))
        if match:
            return match[1]
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d{3,}\.\d+(\.\d+)?", answer.stdout)
    return match[0] if answer.returncode == 0 and match else None


def _nvidia_card(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Whether a display device (PCI class 03) of NVIDIA (vendor 10de) is plugged in, driver or not."""
    for vendor in devices.glob("*/vendor"):
        kind = vendor.with_name("class")
        if vendor.read_text().strip() == "0x10de" and kind.is_file() and kind.read_text().startswith("0x03"):
            return True
    return False


def _ram() -> tuple[int, int]:
    """Total and available memory in bytes; (0, 0) when psutil is missing (the packages' line then says so)."""
    try:
        import psutil
    except ImportError:
        return 0, 0
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]
