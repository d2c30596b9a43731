"""The one place that deals with a torchvision that cannot load its compiled operators beside this torch.

The registry's torchvision wheel is compiled against a CUDA torch. Beside a CPU torch (or a torch for another CUDA) its
library `_C.so` does not load. torchvision itself would bear that, but its `_meta_registrations.py` describes the two
operators `torchvision::nms` and `torchvision::qnms` in any case, and describing an operator that does not exist raises.
With it falls everything that imports torchvision when it sees it installed: transformers' CLIP, diffusers' SDXL
pipeline, peft, timm, open_clip.

The cure is to declare these two operators, by name and signature and without any computation, before torchvision's own
code runs. Everything that Atelier uses (transforms, models, plain functions) then works; calling `ops.nms` itself or
reading files by `torchvision.io` fails with torchvision's own clear error.

The hook of `imports.py` has it done when somebody imports torchvision, however late and in whatever order; where the
compiled library loads, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[object] = []  # a torch.library.Library takes its declarations with it when it is collected


@contextmanager
def with_operators(folder: Path) -> Iterator[None]:
    """torchvision's code, whose package lies in `folder`, runs with its operators declared."""
    if not compiled_operators_load(folder):
        declare_operators()
    yield


def compiled_operators_load(folder: Path) -> bool:
    """Whether torchvision's compiled library in `folder` loads beside this torch (as torchvision itself tries it)."""
    import torch

    libraries = [path for pattern in ("_C*.so", "_C*.pyd", "_C*.dylib") for path in folder.glob(pattern)]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return bool(libraries)


def declare_operators() -> None:
    """Declare, without any computation, the operators that torchvision describes unconditionally at import."""
    import torch

    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema)
            _libraries.append(library)


def declared() -> bool:
    """Whether operators had to be declared in this process (known once torchvision was imported)."""
    return bool(_libraries)
