"""`python -m engine doctor`: a line each for what training stands on, with the remedy where something is off.

Every line is a pure function over `machine.Facts`, so that machines that nobody has at hand can be tested.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from engine.machine import Facts, Gpu, Torch, probe

Mark = Literal["ok", "warn", "fail"]
_SIGNS: dict[Mark, tuple[str, str]] = {"ok": ("✓", "+"), "warn": ("!", "!"), "fail": ("✗", "x")}
_GIB = 1024**3
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
# Oldest NVIDIA driver (Linux) by the major version of the CUDA that a torch build was made with.
# Source: CUDA Toolkit release notes, table of minimum driver versions for minor version compatibility.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
SETUP = "Run ./setup.sh"


@dataclass(frozen=True)
class Line:
    """One finding. `fail` means that training cannot work; `warn` that something is missing or slow."""

    name: str
    mark: Mark
    text: str
    remedy: str = ""


def python_line(facts: Facts) -> Line:
    version = ".".join(map(str, facts.python))
    if OLDEST_PYTHON <= facts.python[:2] <= NEWEST_PYTHON:
        return Line("Python", "ok", f"{version} on {facts.system}")
    remedy = "Install Python 3.10 to 3.13, then run PYTHON=/path/to/that/python ./setup.sh."
    return Line("Python", "fail", f"{version} on {facts.system}: not supported", remedy)


def packages_line(facts: Facts) -> Line:
    off = facts.packages_differing
    if not off:
        return Line("packages", "ok", f"all {facts.packages_pinned} as pinned in requirements.txt")
    mark: Mark = "fail" if any("missing" in part for part in off) else "warn"
    return Line("packages", mark, "; ".join(off), f"{SETUP}: it puts back what requirements.txt asks for.")


def torch_line(facts: Facts) -> Line:
    torch = facts.torch
    if torch.error is not None:
        return Line("torch", "fail", f"cannot be imported ({torch.error})", f"{SETUP}: it repairs .venv.")
    if torch.build == "cpu":
        return _cpu_build_line(facts)
    name = "CUDA" if torch.build == "cuda" else "ROCm"
    build = f"{torch.version}, {name} build"
    if not torch.gpus:
        remedy = "See the driver's line; to train on the CPU instead, run ./setup.sh --torch cpu."
        return Line("torch", "fail", f"{build}, but it finds no GPU that it can use", remedy)
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_bytes / _GIB:.0f} GiB, {gpu.architecture})" for gpu in torch.gpus)
    lacking = [gpu for gpu in torch.gpus if not carries_kernels(torch.kernels, gpu.architecture)]
    if not lacking:
        return Line("torch", "ok", f"{build}, {gpus}")
    text = f"{build} carries no code for {', '.join(f'{gpu.name} ({gpu.architecture})' for gpu in lacking)}"
    mark: Mark = "fail" if lacking[0] == torch.gpus[0] else "warn"
    return Line("torch", mark, text, _kernel_remedy(torch, lacking[0]))


def driver_line(facts: Facts) -> Line:
    torch, version = facts.torch, facts.nvidia_driver
    if version is None:
        if torch.build == "cuda" and torch.error is None:
            remedy = "Install the driver, or restart if it was updated; to train on the CPU: ./setup.sh --torch cpu."
            return Line("driver", "fail", "no NVIDIA driver answers", remedy)
        if facts.nvidia_card:
            remedy = "Install NVIDIA's driver, then run ./setup.sh --torch cuda, to train on the GPU."
            return Line("driver", "warn", "this machine has an NVIDIA card, but no driver for it", remedy)
        return Line("driver", "ok", "AMD's kernel driver" if facts.amd_driver else "none needed without a GPU")
    oldest = OLDEST_DRIVER.get(_major(torch.cuda or ""), 0) if torch.build == "cuda" else 0
    if _major(version) < oldest:
        text = f"NVIDIA {version} is too old for this torch (CUDA {torch.cuda} needs {oldest} or newer)"
        remedy = f"Update the driver to {oldest} or newer, or run ./setup.sh --torch cuda: it picks a CUDA that fits."
        return Line("driver", "fail", text, remedy)
    return Line("driver", "ok", f"NVIDIA {version}")


def bitsandbytes_line(facts: Facts) -> Line:
    found = facts.bitsandbytes
    if found.error is None:
        return Line("bitsandbytes", "ok", f"{found.version}, {found.note}".rstrip(", "))
    remedy = f"{SETUP} to repair it, or choose an optimizer without “8bit”: all others work without it."
    return Line("bitsandbytes", "warn", f"does not work ({found.error})", remedy)


def torchvision_line(facts: Facts) -> Line:
    found = facts.torchvision
    if found.error is not None:
        remedy = f"{SETUP}: it puts back the version that fits this torch."
        return Line("torchvision", "fail", f"cannot be imported ({found.error})", remedy)
    return Line("torchvision", "ok", f"{found.version} ({found.note})" if found.note else found.version)


def ram_line(facts: Facts) -> Line:
    total, available = facts.ram_total_bytes / _GIB, facts.ram_available_bytes / _GIB
    text = f"{total:.1f} GiB, {available:.1f} GiB free"
    if facts.ram_total_bytes == 0:
        return Line("RAM", "warn", "cannot be told without psutil", f"{SETUP}.")
    if available < 1:
        return Line("RAM", "fail", f"{text}: too little even for the demo", "Close other programs.")
    if available < 8:
        remedy = "Close other programs, or expect slow loading: an SDXL model takes about 8 GiB while it loads."
        return Line("RAM", "warn", text, remedy)
    return Line("RAM", "ok", text)


def disk_line(facts: Facts) -> Line:
    free = facts.disk_free_bytes / _GIB
    text = f"{free:.1f} GiB free"
    if free < 0.5:
        return Line("disk", "fail", text, "Make room: not even the demo's files fit safely.")
    if free < 10:
        remedy = "Make room, or put runs and caches on another disk: checkpoints, states and caches take several GiB."
        return Line("disk", "warn", text, remedy)
    return Line("disk", "ok", text)


LINES = (
    python_line,
    packages_line,
    torch_line,
    driver_line,
    bitsandbytes_line,
    torchvision_line,
    ram_line,
    disk_line,
)


def examine(facts: Facts) -> list[Line]:
    """All findings, in the order they are printed."""
    return [line(facts) for line in LINES]


def carries_kernels(kernels: Sequence[str], architecture: str) -> bool:
    """Whether a build with these kernels runs on a card.

    NVIDIA: machine code for sm_XY runs on X.Z with Z ≥ Y; portable code for compute_XY runs on anything newer; code
    with a letter (sm_90a) only on exactly that. AMD: the exact gfx name. Source: CUDA C++ Programming Guide.
    """
    card = _capability(architecture)
    if card is None:
        return architecture in kernels
    for kernel in kernels:
        if kernel[-1:].isalpha():
            if kernel == architecture:
                return True
            continue
        made_for = _capability(kernel)
        if made_for is None:
            continue
        if kernel.startswith("compute_") and made_for <= card:
            return True
        if kernel.startswith("sm_") and made_for[0] == card[0] and made_for[1] <= card[1]:
            return True
    return False


def render(lines: Sequence[Line], ascii_only: bool = False) -> str:
    """The findings as text, remedies indented below their lines."""
    width = max(len(line.name) for line in lines)
    rows = []
    for line in lines:
        rows.append(f"{_SIGNS[line.mark][ascii_only]} {line.name:<{width}}  {line.text}")
        if line.remedy:
            rows.append(f"  {'':<{width}}  → {line.remedy}")
    text = "\n".join(rows)
    return text.replace("→", "->").replace("“", '"').replace("”", '"') if ascii_only else text


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings. Exit code 0 when training can work, 2 otherwise."""
    parser = argparse.ArgumentParser(prog="engine doctor", description="Looks at this machine and this installation.")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(argv)
    lines = examine(probe())
    works = all(line.mark != "fail" for line in lines)
    if options.json:
        print(json.dumps({"works": works, "lines": [asdict(line) for line in lines]}, indent=2))
    else:
        print(render(lines, ascii_only="utf" not in (sys.stdout.encoding or "").lower()))
    return 0 if works else 2


def _cpu_build_line(facts: Facts) -> Line:
    text = f"{facts.torch.version}, CPU build"
    if facts.nvidia_driver is not None:
        remedy = "Run ./setup.sh --torch cuda to train on the GPU."
        return Line("torch", "warn", f"{text}, although this machine has an NVIDIA card", remedy)
    if facts.amd_driver:
        remedy = "Run ./setup.sh --torch rocm to train on the GPU."
        return Line("torch", "warn", f"{text}, although this machine has an AMD card", remedy)
    return Line("torch", "ok", f"{text}, no GPU: the demo trains in about a minute, a real SDXL model takes days")


def _kernel_remedy(torch: Torch, gpu: Gpu) -> str:
    if torch.build == "rocm":
        return "This card is not supported by AMD's build; run ./setup.sh --torch cpu to train on the CPU."
    card = _capability(gpu.architecture)
    if card is not None and card < (5, 0):
        return "This card is too old for every build of this torch; run ./setup.sh --torch cpu to train on the CPU."
    return "Run ./setup.sh --torch cuda: it picks the CUDA build that fits this card."


def _capability(architecture: str) -> tuple[int, int] | None:
    """(8, 6) for sm_86, (12, 0) for compute_120; None for AMD's names."""
    match = re.fullmatch(r"(?:sm|compute)_(\d+)(\d)[a-z]?", architecture)
    return (int(match[1]), int(match[2])) if match else None


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


if __name__ == "__main__":
    sys.exit(main())
