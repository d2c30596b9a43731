"""Where a captioner computes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import MissingPackage, UserError

if TYPE_CHECKING:
    import torch


def torch_device(wanted: str) -> torch.device:
    """The device of a setting (auto, cpu, cuda). Raises UserError where a GPU is asked for and none can be used."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        what = "no GPU can be used by this PyTorch. Run `python -m engine doctor` to see why, or set it to auto."
        raise UserError(what, "device")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def onnx_session(path: Path, wanted: str) -> Any:
    """An onnxruntime session of the model at `path`. Raises MissingPackage, or UserError where there is no such device.

    OMP_NUM_THREADS limits its threads; onnxruntime itself does not look at it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        what = f"the package onnxruntime is needed and does not work here ({error}). Run ./setup.sh."
        raise MissingPackage(what, "WD tagger") from error
    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if wanted == "cuda" and not gpu:
        what = "this onnxruntime computes on the CPU only. Install onnxruntime-gpu in its place, or set it to auto."
        raise UserError(what, "device")
    providers = ["CUDAExecutionProvider"] if gpu and wanted != "cpu" else []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: all cores
    if providers and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries that came with PyTorch
    session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    if wanted == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        what = "onnxruntime-gpu cannot use this GPU (see the log for what it misses). Set the device to auto or cpu."
        raise UserError(what, "device")
    return session
