"""Failures of graphics cards, their drivers, and memory."""

from __future__ import annotations

import re

from engine.failures.kinds import Facts, Kind, always, less_memory


def _others_hold_bytes(facts: Facts) -> bool:
    """torch's message of missing memory names the other processes on the card and what each holds, in GiB or MiB."""
    held = re.findall(r"Process \d+ has ([\d.]+) (GiB|MiB) memory in use", facts.last_words + facts.told)
    return sum(float(number) * (1 if unit == "GiB" else 1 / 1024) for number, unit in held) >= 0.5


def _found_gpus(facts: Facts) -> list[dict[str, int]]:
    found = re.search(r"fewer GPUs \((\d+)\)", facts.told)
    return [{"run.gpus": int(found[1])}] if found and int(found[1]) else []


HARDWARE: dict[str, Kind] = {
    "gpu_shared": Kind(
        cause="Another program holds a good part of the graphics card's memory, and the rest did not suffice.",
        remedy="End the other program (another training, an image generator, a game), then start again; nvidia-smi lists them.",
        seen="out of memory, where torch names another process that holds 0.5 GiB or more",
        signs=(r"memory did not suffice", r"out of memory"),
        when=_others_hold_bytes,
        fixes=less_memory,
    ),
    "gpu_memory": Kind(
        cause="The graphics card's memory did not suffice for these settings.",
        remedy="Take the offered change, or “Make it fit” on the tab Training; close other programs that use the card.",
        seen="exit code 3 on a GPU; torch's OutOfMemoryError; an allocation failure of cuBLAS or cuDNN",
        signs=(
            r"memory did not suffice.*The GPU has",
            r"(CUDA|HIP) out of memory",
            r"CU(BLAS|DNN)_STATUS_ALLOC_FAILED",
            r"CUDA error: out of memory",
        ),
        fixes=less_memory,
    ),
    "paging_file": Kind(
        cause="Windows ran out of memory: the paging file is too small to load the model.",
        remedy="Let Windows choose the size of the paging file (System, Advanced, Performance, Virtual memory), restart, and start again.",
        seen="os error 1455 of Windows",
        signs=(r"paging file is too small", r"os error 1455", r"WinError 1455"),
    ),
    "shared_memory": Kind(
        cause="The shared memory of this machine or container (/dev/shm) is too small or full.",
        remedy="Start the container with more of it (docker run --shm-size 8g, or --ipc host), then resume.",
        seen="torch's “unable to open shared memory object”, or no space left on /dev/shm",
        signs=(
            r"unable to (open|mmap) shared memory object",
            r"unable to (open|write|resize).*/dev/shm",
            r"No space left on device.*/dev/shm",
            r"insufficient shared memory",
        ),
    ),
    "host_memory": Kind(
        cause="The computer's own memory (RAM) did not suffice.",
        remedy="Close other programs; SDXL takes about 8 GiB while it loads. Smaller batches and a bf16 base model need less.",
        seen="exit code 3 without a GPU; MemoryError; “can't allocate memory”",
        signs=(
            r"memory did not suffice",
            r"DefaultCPUAllocator: (can't allocate memory|not enough memory)",
            r"\bMemoryError\b",
            r"Cannot allocate memory",
        ),
        fixes=less_memory,
    ),
    "driver_too_old": Kind(
        cause="The graphics driver is too old for the installed PyTorch.",
        remedy="Update NVIDIA's driver and restart, or run ./setup.sh --torch cuda: it picks a PyTorch that fits the driver.",
        seen="“The NVIDIA driver on your system is too old”, CUDA error 35",
        signs=(
            r"NVIDIA driver on your system is too old",
            r"driver version is insufficient for CUDA runtime",
            r"provided PTX was compiled with an unsupported toolchain",
        ),
    ),
    "driver_missing": Kind(
        cause="No NVIDIA driver answers on this machine.",
        remedy="Install the driver, or restart if it was just installed; in a container, start it with its GPUs (docker run --gpus all).",
        seen="“Found no NVIDIA driver on your system”, CUDA error 100",
        signs=(
            r"Found no NVIDIA driver",
            r"no CUDA-capable device is detected",
            r"libcuda\.so.*cannot open shared object",
        ),
    ),
    "driver_changed": Kind(
        cause="The graphics driver was updated or got into disorder while the machine was running.",
        remedy="Restart the machine, then resume the run.",
        seen="“Driver/library version mismatch”, “CUDA unknown error”, CUDA error 804",
        signs=(
            r"Driver/library version mismatch",
            r"CUDA unknown error - this may be due to",
            r"forward compatibility was attempted on non supported HW",
            r"CUDA driver initialization failed",
        ),
    ),
    "no_kernels": Kind(
        cause="The installed PyTorch carries no code for this graphics card.",
        remedy="Run ./setup.sh --torch cuda: it picks the build that fits this card; `python -m engine doctor` shows what is installed.",
        seen="“no kernel image is available for execution on the device”",
        signs=(
            r"no kernel image is available",
            r"is not compatible with the current PyTorch installation",
            r"invalid device function",
        ),
    ),
    "cpu_build": Kind(
        cause="A GPU is asked for, and the installed PyTorch cannot use one.",
        remedy="Run `python -m engine doctor` to see why, or ./setup.sh --torch cuda; the change below trains on whatever there is.",
        seen="“no GPU can be used by this PyTorch”, “Torch not compiled with CUDA enabled”",
        signs=(r"no GPU can be used by this PyTorch", r"Torch not compiled with CUDA enabled"),
        fixes=always({"memory.device": "auto"}, {"memory.device": "auto", "memory.precision": "fp32"}),
    ),
    "no_bf16": Kind(
        cause="This graphics card cannot compute in bf16.",
        remedy="Use fp16: it is as small and as fast; the VAE in fp32 keeps pictures from turning black.",
        seen="refused by Atelier before the start",
        signs=(r"this GPU cannot compute in bf16",),
        fixes=always({"memory.precision": "fp16", "memory.vae_precision": "fp32"}),
    ),
    "fewer_gpus": Kind(
        cause="The preset asks for more GPUs than this machine has.",
        remedy="Lower the number of GPUs, or start the run on several machines (docs/several-gpus.md).",
        seen="refused by Atelier before the start",
        signs=(r"fewer GPUs \(\d+\) than were asked for",),
        fixes=_found_gpus,
    ),
    "gpu_busy": Kind(
        cause="Another process has the graphics card to itself.",
        remedy="Wait for it or end it; nvidia-smi lists what runs. An administrator can take the card out of exclusive mode.",
        seen="CUDA error 46: “all CUDA-capable devices are busy or unavailable”",
        signs=(r"CUDA-capable device\(?s\)?( is/are| are) busy or unavailable",),
    ),
    "gpu_ecc": Kind(
        cause="The graphics card found a fault in its own memory that it could not correct.",
        remedy="Restart the machine, then resume. If it comes again the card is failing: have it tested or exchanged.",
        seen="CUDA error 214: “uncorrectable ECC error encountered”",
        signs=(r"uncorrectable ECC error", r"uncorrectable NVLink error"),
    ),
    "gpu_timeout": Kind(
        cause="The system took the graphics card away because one computation lasted too long for a card that also draws the screen.",
        remedy="Use smaller batches or pictures, or a card without a screen; on Windows raise TdrDelay. Then resume.",
        seen="CUDA error 702: “the launch timed out and was terminated”",
        signs=(r"launch timed out and was terminated",),
        fixes=less_memory,
    ),
    "gpu_lost": Kind(
        cause="The graphics card stopped answering: it crashed, overheated, lost power or fell off the bus.",
        remedy="Restart the machine, undo overclocking, look at temperature and power cables, then resume.",
        seen="“unspecified launch failure”, “GPU is lost”, “device has fallen off the bus”",
        signs=(
            r"unspecified launch failure",
            r"GPU is lost",
            r"fallen off the bus",
            r"device (was )?lost",
            r"driver shutting down",
            r"hardware stack error",
        ),
    ),
    "gpu_illegal_access": Kind(
        cause="A computation on the graphics card reached for memory that is not its own.",
        remedy="Resume once. If it comes again at the same place it is a defect: send the report; elsewhere, undo overclocking.",
        seen="CUDA error 700: “an illegal memory access was encountered”",
        signs=(r"illegal memory access", r"misaligned address", r"illegal instruction was encountered"),
    ),
    "gpu_assert": Kind(
        cause="A computation on the graphics card met a number that must not occur, such as an index out of range.",
        remedy="Most often the base model file does not fit: check it. If it is right this is a defect: send the report.",
        seen="CUDA error 710: “device-side assert triggered”",
        signs=(r"device-side assert triggered",),
    ),
    "gpu_library": Kind(
        cause="A library of the graphics card (cuDNN or cuBLAS) could not be used, most often for want of memory or by a mixed installation.",
        remedy="Close other programs that use the card, then run ./setup.sh to put the libraries in order, and start again.",
        seen="CUDNN_STATUS_… or CUBLAS_STATUS_… in the message",
        signs=(r"CUDNN_STATUS_\w+", r"CUBLAS_STATUS_\w+", r"Could not load library libcudnn"),
        fixes=less_memory,
    ),
    "gpus_timeout": Kind(
        cause="One of the GPUs waited for the others until its patience ended.",
        remedy="Look into the log for what another process said before; if nothing did, try with NCCL_P2P_DISABLE=1, then resume.",
        seen="NCCL's watchdog: “collective operation timeout”",
        signs=(
            r"Watchdog caught collective operation timeout",
            r"ProcessGroupNCCL.*timed? ?out",
            r"Timed out waiting \d+ms",
        ),
    ),
    "gpus_connection": Kind(
        cause="The GPUs of this run could not speak to each other (NCCL).",
        remedy="Start with NCCL_DEBUG=INFO to see why; NCCL_P2P_DISABLE=1 or one GPU often helps. Then resume.",
        seen="“NCCL error”, ncclSystemError, ncclUnhandledCudaError",
        signs=(r"NCCL error", r"nccl(Unhandled|System|Internal|Remote|Invalid)\w*(Error|Usage)"),
    ),
    "port_taken": Kind(
        cause="The port over which the processes of this run meet is used by another program.",
        remedy="Start again: another port is chosen. With torchrun or Slurm, set another MASTER_PORT.",
        seen="“address already in use” (EADDRINUSE)",
        signs=(r"EADDRINUSE", r"[Aa]ddress already in use"),
    ),
    "gpus_unreachable": Kind(
        cause="The processes of this run could not reach each other.",
        remedy="Check MASTER_ADDR and MASTER_PORT, the firewall, and that all processes were started; then start again.",
        seen="refused by Atelier while it starts on several GPUs",
        signs=(r"processes cannot reach each other",),
    ),
    "process_lost": Kind(
        cause="Another process of this run ended, so the rest ended too.",
        remedy="The log says which one and why; what was saved is whole. Mend that and resume.",
        seen="told by the other processes, and in the log by the launcher",
        signs=(r"another process of this run ended", r"Process \d+ of \d+ (was killed by signal|ended with exit code)"),
    ),
    "threads": Kind(
        cause="This account may not start more threads or processes.",
        remedy="End other programs or raise the limit (ulimit -u), set fewer threads, then resume.",
        seen="“can't start new thread”, “Resource temporarily unavailable”",
        signs=(r"can't start new thread", r"(fork|thread|Errno 11\b).*Resource temporarily unavailable"),
        fixes=always({"memory.threads": 1}),
    ),
}
