"""Failures to inject: what a library really says (source in the comments), or a sentence of the engine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError


@dataclass(frozen=True)
class Case:
    """A kind, what is raised or said, the preset's changes before it, and the fix that is to be offered.

    own: words of a sentence of the engine's own, which have to stand in its source; "" for libraries' messages.
    """

    kind: str
    told: BaseException | str
    fix: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    own: str = ""


def _cuda(text: str) -> RuntimeError:
    """As torch words CUDA's errors (c10/cuda/CUDAException.cpp)."""
    more = (
        "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be"
    )
    return torch.AcceleratorError(f"CUDA error: {text}\n{more} incorrect.\nFor debugging consider passing", 0)


_CHECKPOINTED = {"memory.gradient_checkpointing": True}
_THIRD = {
    "optimizer.unet_rate": 3.3e-5,
    "optimizer.text_encoder_1_rate": 1.7e-5,
    "optimizer.text_encoder_2_rate": 1.7e-5,
}

_USUAL = {"optimizer.unet_rate": 1e-4, "optimizer.text_encoder_1_rate": 5e-5, "optimizer.text_encoder_2_rate": 5e-5}

# What libraries raise. Sources: c10/cuda/CUDACachingAllocator.cpp, cudaGetErrorString (CUDA runtime API, error types),
# torch/cuda/__init__.py, torch/csrc/distributed/c10d (TCPStore, ProcessGroupNCCL), Modules of CPython, glibc's strerror
RAISED = [
    Case(
        "gpu_memory",
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 11.76 GiB of which 3.06 MiB "
            "is free. Including non-PyTorch memory, this process has 11.70 GiB memory in use."
        ),
        {"memory.gradient_checkpointing": True},
    ),
    Case(
        "gpu_memory",
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        {"run.batch_size": 2, "run.accumulation": 6},
        {**_CHECKPOINTED, "run.batch_size": 4, "run.accumulation": 3},
    ),
    Case(
        "gpu_memory",
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        {"memory.unet_storage": "int8"},
        _CHECKPOINTED,
    ),
    Case(
        "gpu_shared",
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 256.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 12.50 "
            "MiB is free. Process 12345 has 15.20 GiB memory in use. Including non-PyTorch memory, this process has "
            "8.45 GiB memory in use."
        ),
        {"memory.gradient_checkpointing": True},
    ),
    Case("host_memory", RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 6442450944 bytes. Error code 12 (Cannot allocate memory)"), {"memory.gradient_checkpointing": True}),
    Case("host_memory", MemoryError(), {"memory.gradient_checkpointing": True}),
    Case("paging_file", OSError("The paging file is too small for this operation to complete. (os error 1455)")),
    Case("shared_memory", RuntimeError("unable to open shared memory object </torch_123_456> in read-write mode: No space left on device (28)")),
    Case("driver_too_old", RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver")),
    Case("driver_too_old", _cuda("CUDA driver version is insufficient for CUDA runtime version")),
    Case("driver_missing", RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU")),
    Case("driver_missing", _cuda("no CUDA-capable device is detected")),
    Case("driver_changed", RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable CUDA_VISIBLE_DEVICES after program start.")),
    Case("no_kernels", _cuda("no kernel image is available for execution on the device")),
    Case("cpu_build", AssertionError("Torch not compiled with CUDA enabled"), {"memory.device": "auto"}, {"memory.device": "cuda"}),
    Case("gpu_busy", _cuda("CUDA-capable device(s) is/are busy or unavailable")),
    Case("gpu_busy", _cuda("all CUDA-capable devices are busy or unavailable")),
    Case("gpu_ecc", _cuda("uncorrectable ECC error encountered")),
    Case("gpu_timeout", _cuda("the launch timed out and was terminated"), {"memory.gradient_checkpointing": True}),
    Case("gpu_lost", _cuda("unspecified launch failure")),
    Case("gpu_illegal_access", _cuda("an illegal memory access was encountered")),
    Case("gpu_assert", _cuda("device-side assert triggered")),
    Case("gpu_library", RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), {"memory.gradient_checkpointing": True}),
    Case("gpus_connection", RuntimeError("NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1970, unhandled system error, NCCL version 2.27.3\nncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.")),
    Case("port_taken", RuntimeError("The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use")),
    Case("threads", RuntimeError("can't start new thread"), {"memory.threads": 1}),
    Case("torchvision_broken", RuntimeError("operator torchvision::nms does not exist")),
    Case("bitsandbytes", AttributeError("/opt/venv/bitsandbytes/libbitsandbytes_cpu.so: undefined symbol: cquantize_blockwise_fp16_nf4"), {"memory.unet_storage": "int8"}, {"memory.unet_storage": "nf4"}),
    Case("package_missing", ModuleNotFoundError("No module named 'lycoris'")),
    Case("disk_full", OSError(28, "No space left on device"), {"run.keep_last": 2}),
    Case("too_many_files", OSError(24, "Too many open files")),
    Case("network_disk", OSError(116, "Stale file handle")),
    Case("disk_fault", OSError(5, "Input/output error")),
    Case("quota", OSError(122, "Disk quota exceeded"), {"run.keep_last": 2}),
    Case("read_only", OSError(30, "Read-only file system")),
    Case("foreign_rights", PermissionError(13, "Permission denied")),
    Case("path_too_long", OSError(36, "File name too long")),
    Case("file_too_large", OSError(27, "File too large")),
    Case("model_truncated", SafetensorError("Error while deserializing header: incomplete metadata, file not fully covered")),
    Case("model_damaged", SafetensorError("Error while deserializing header: invalid JSON in header: EOF while parsing a value at line 1 column 0")),
    Case("interrupted", KeyboardInterrupt()),
    Case("defect", ZeroDivisionError("division by zero")),
]  # fmt: skip

# Sentences of the engine's own; those that real files provoke are in test_failures.py
OWN = [
    Case("no_bf16", "this GPU cannot compute in bf16 (cards before the RTX 30 series cannot). Set it to fp16.", {"memory.precision": "fp16", "memory.vae_precision": "fp32"}, own="this GPU cannot compute in bf16"),
    Case("cpu_build", "no GPU can be used by this PyTorch. Run `python -m engine doctor` to see why, or set it to auto.", {"memory.device": "auto"}, {"memory.device": "cuda"}, own="no GPU can be used by this PyTorch"),
    Case("fewer_gpus", "this machine has fewer GPUs (2) than were asked for (got 4). Lower the number.", {"run.gpus": 2}, {"run.gpus": 4, "run.batch_size": 4}, own="this machine has fewer GPUs ("),
    Case("gpus_unreachable", "the processes cannot reach each other (timed out).", own="the processes cannot reach each other"),
    Case("process_lost", "another process of this run ended, so this one ended too. What was saved is whole.", own="another process of this run ended, so this one ended too"),
    Case("bitsandbytes", "adamw_8bit needs bitsandbytes, which does not load here (no libcudart). Use adamw.", {"optimizer.name": "adamw"}, {"optimizer.name": "adamw_8bit"}, "optimizer.name", "which does not load here ("),
    Case("optimizer_package", "prodigy needs prodigyopt, which does not load here (broken). Use adamw, or run ./setup.sh.", {"optimizer.name": "adamw", **_USUAL}, {"optimizer.name": "prodigy", **dict.fromkeys(_USUAL, 1.0)}, "optimizer.name", "which does not load here ("),
    Case("tracker_package", "needs the package wandb, which is not installed. Install it with: .venv/bin/python -m pip install wandb", {"logging.tracker": "none"}, {"logging.tracker": "wandb"}, own="Install it with: .venv/bin/python -m pip install"),
    Case("not_finite", "the loss has not been finite for 25 steps, so nothing is learned any more.", _THIRD, own="the loss has not been finite for "),
    Case("overflow_fp16", "the loss has not been finite for 25 steps, so nothing is learned any more.", {"memory.precision": "bf16"}, {"memory.precision": "fp16"}, own="the loss has not been finite for "),
    Case("vae_not_finite", "the VAE gives values that are not finite, in fp32 too. The file is damaged: take another VAE.", {"model.vae": ""}, {"model.vae": "vae.safetensors"}, own="the VAE gives values that are not finite"),
    Case("save_overflow", "3 tensors hold numbers too large for float16. Save in bf16 or fp32.", {"run.save_precision": "bf16"}, own="hold numbers too large for "),
    Case("weights_not_finite", "2 tensors hold only zeros: the weights are damaged.", _THIRD, own="hold only zeros: the weights are damaged"),
    Case("nothing_learned", "the adapter of the part 'unet' is still as it started, so it would change nothing.", {"memory.adapter_precision": "fp32"}, {"memory.adapter_precision": "bf16"}, own="is still as it started, so it would change nothing"),
    Case("disk_too_small", "the run needs about 9.1 GB of disk and 2.0 GB are free in /data. Free some space.", {"run.keep_last": 2}, own="the run needs about "),
    Case("disk_fault", "3 tensors came back from the disk changed.", own="came back from the disk changed"),
    Case("model_refiner", "this is an SDXL refiner model; a LoRA is trained on an SDXL base model. Choose another file.", own="model; a LoRA is trained on an SDXL base model"),
    Case("model_unreadable", "cannot be read ([Errno 5] gone). Check the disk and the file.", own="Check the disk and the file."),
    Case("start_from", "the file's x.lora_up.weight has the shape [4, 4]; here it must have [8, 4].", {"adapter.start_from": ""}, {"adapter.start_from": "old.safetensors"}, "adapter.start_from", "here it must have"),
    Case("captions_unreadable", "cannot be read (Permission denied), so its image a.png has no caption. Change its permissions.", own="has no caption. Change its permissions"),
    Case("image_changed", "has changed since the folder was scanned (it is 64 × 64 px now). Start again.", {"data.broken_images": "skip"}, {"data.broken_images": "stop"}, own="has changed since the folder was scanned"),
    Case("image_too_large", "is too large to decode (got 90000 × 90000 px; the limit is 1,000 million).", {"data.broken_images": "skip"}, {"data.broken_images": "stop"}, own="is too large to decode"),
    Case("cache_damaged", "is no cache that this version can read. Delete it or choose another folder.", {"data.cache_folder": "cache-new"}, own="is no cache that this version can read"),
    Case("cache_busy", "another program has been writing for 60 s. End it, or choose another cache folder.", own="another program has been writing for"),
    Case("run_held", "another process is training in this run folder. Wait for it, stop it, or give another name.", own="another process is training in this run folder"),
    Case("state_of_another", "the saved state is of another adapter ('x'). Resume with the settings that the run began with.", own="the saved state is of another adapter"),
    Case("state_beyond", "the run is at step 800 already, beyond the 400 steps asked for. Raise the number.", own="already, beyond the "),
    Case("input", "must be at least 1 (got 0).", where="run.epochs"),
]  # fmt: skip

# What ends a process without a word: exit code, kills for memory meanwhile, the end of its log
# Sources of the logs: slurmstepd (Slurm), CPython's faulthandler, ProcessGroupNCCL's watchdog
_SLURM = "slurmstepd: error: *** JOB 1305 ON node-17 CANCELLED AT 2026-07-11T22:48:26"
KILLED = [
    ("killed", -9, 0, "step 7/100", {}),
    ("killed", None, 0, "step 7/100", {}),
    ("killed_for_memory", -9, 1, "step 7/100", {"memory.gradient_checkpointing": True}),
    ("killed_for_memory", None, 0, "slurmstepd: error: Detected 1 oom_kill event in StepId=13.0. Some of the step tasks have been OOM Killed.", {"memory.gradient_checkpointing": True}),
    ("time_limit", None, 0, f"{_SLURM} DUE TO TIME LIMIT ***", {"run.save_every_minutes": 30}),
    ("time_limit", -24, 0, "", {"run.save_every_minutes": 30}),
    ("preempted", None, 0, f"{_SLURM} DUE TO PREEMPTION ***", {}),
    ("preempted", -15, 0, f"{_SLURM} ***", {}),
    ("bus_error", -7, 0, "Fatal Python error: Bus error", {}),
    ("illegal_instruction", -4, 0, "", {}),
    ("crashed", -11, 0, "Fatal Python error: Segmentation fault", {}),
    ("crashed", -6, 0, "terminate called after throwing an instance of 'std::bad_function_call'", {}),
    ("terminal_closed", -1, 0, "", {}),
    ("gpus_timeout", -6, 0, "[rank0]:[E321 02:07:08.408 ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600060 milliseconds before timing out.", {}),
    ("process_lost", None, 0, "Process 2 of 2 was killed by signal 9, so the others end too.", {}),
    ("gpu_lost", -6, 0, "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: unspecified launch failure", {}),
]  # fmt: skip

# What goes wrong without ending a run: its warning, whose words stand in the engine's source, and the fix
WARNED = [
    Case("tracker_login", "wandb does not record any more (UsageError: No API key configured. Use `wandb login` to log in.). Training goes on", {"logging.tracker": "none"}, {"logging.tracker": "wandb"}, own="does not record any more ("),
    Case("tracker_lost", "tensorboard does not record any more (OSError: gone). Training goes on", {"logging.tracker": "none"}, {"logging.tracker": "tensorboard"}, own="does not record any more ("),
    Case("upload_refused", "the upload to a/b does not work: HfHubHTTPError: 401 Client Error: Unauthorized for url", own="does not work: "),
    Case("upload_failed", "the upload to a/b does not work: ConnectionError: Name or service not known", own="does not work: "),
    Case("states_skipped", "step-00000040.safetensors cannot be read (torn); the one before it is used.", own="the one before it is used"),
    Case("resume_changed", "the base model, images, captions or settings have changed since this state was saved: the run goes on", own="have changed since this state was saved"),
    Case("caption_encoding", "2 caption files not in UTF-8, read as a Western 8-bit encoding: a.txt.", own="not in UTF-8, read as "),
    Case("captions_unread", "4 of 4 images without a .txt file, so 'x' is used; but 4 .caption files of these names lie there. Set captions.extension to .caption.", {"captions.extension": ".caption"}, own="Set captions.extension to "),
    Case("images_left_out", "cannot be decoded (the file is cut off). Replace it. It is left out.", own="It is left out."),
    Case("step_not_finite", "step 7 gave a loss that is not finite and was left out. Images: a.png, b.png.", {"memory.precision": "bf16"}, {"memory.precision": "fp16"}, own="gave a loss that is not finite and was left out"),
    Case("step_not_finite", "step 7 gave a loss that is not finite and was left out. Images: a.png, b.png.", _THIRD, own="gave a loss that is not finite and was left out"),
    Case("vae_overflow", "The VAE overflows in half precision on this picture: it was done again in fp32. Set VAE precision to fp32.", {"memory.vae_precision": "fp32"}, own="The VAE overflows in half precision"),
    Case("samples_memory", "sample 1 could not be drawn (CUDA out of memory. Tried to allocate 2.00 GiB.). Training goes on.", {"sample.width_px": 640, "sample.height_px": 640}, own="could not be drawn ("),
    Case("samples_black", "sample 1 could not be drawn (VAE: the VAE gives values that are not finite, in fp32 too.). Training goes on.", {"memory.vae_precision": "fp32"}, own="could not be drawn ("),
    Case("samples_failed", "sample 1 could not be drawn (no room). Training goes on.", own="could not be drawn ("),
]  # fmt: skip
