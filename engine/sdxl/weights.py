"""Tensors out of .safetensors files: as views of a memory map, or read and converted one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import cast

import torch

from engine.errors import ModelError
from engine.sdxl.narrow import HALF
from engine.sdxl.parts import Place

TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip

Taker = Callable[[torch.Tensor], None]
NO_TAKERS: Mapping[str, Taker] = {}


def read_places(
    places: Mapping[str, Place],
    dtype: torch.dtype,
    device: torch.device,
    narrow: Set[str] = frozenset(),
    takers: Mapping[str, Taker] = NO_TAKERS,
) -> dict[str, torch.Tensor]:
    """The tensors of `places` in `dtype` on `device`, in their stored shapes (transposed ones turned).

    Those in `narrow` that are stored in half precision stay in it. Those in `takers` are handed over one by one, in
    the file's precision, and kept nowhere else.
    Raises ModelError where a file cannot be read or holds whole numbers in place of weights.
    """
    odd = next((place for place in places.values() if place.dtype not in TORCH_DTYPES), None)
    if odd is not None:
        raise ModelError(
            f"holds weights as whole numbers ({odd.dtype}), so it is quantized. Choose fp32, fp16, bf16 or fp8.",
            str(odd.path),
        )
    found: dict[str, torch.Tensor] = {}
    for path in sorted({place.path for place in places.values()}):
        here = {name: _Wanted(p, _dtype(p, dtype, name in narrow)) for name, p in places.items() if p.path == path}
        try:
            if device.type == "cpu":
                staying = {name: each for name, each in here.items() if each.can_stay and name not in takers}
                found |= _views(path, {name: each.place for name, each in staying.items()})
            for name, tensor in _read(path, {name: here[name] for name in here if name not in found}):
                if name in takers:
                    takers[name](tensor.to(device))
                else:
                    found[name] = tensor.to(device, here[name].dtype, copy=True, memory_format=torch.contiguous_format)
        except OSError as error:
            raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(path)) from error
    return {name: found[name] for name in places if name in found}


@dataclass(frozen=True)
class _Wanted:
    place: Place
    dtype: torch.dtype

    @property
    def can_stay(self) -> bool:
        """A view needs the same precision and a start that is a multiple of the number's size."""
        place = self.place
        return TORCH_DTYPES[place.dtype] == self.dtype and not (place.start % self.dtype.itemsize or place.transposed)


def _dtype(place: Place, dtype: torch.dtype, narrow: bool) -> torch.dtype:
    stored = TORCH_DTYPES[place.dtype]
    return stored if narrow and stored in HALF else dtype


def _views(path: Path, places: Mapping[str, Place]) -> dict[str, torch.Tensor]:
    """Views of a private map: the file is never written to; writing to a tensor copies the page.

    Empty where the system maps no files here (some network disks, strict memory limits): they are then read.
    """
    try:
        storage = cast(torch.UntypedStorage, torch.UntypedStorage.from_file(str(path), False, path.stat().st_size))
    except RuntimeError:
        return {}
    tensors = {}
    for name, place in places.items():
        empty = torch.empty(0, dtype=TORCH_DTYPES[place.dtype])
        strides = [math.prod(place.shape[axis + 1 :]) for axis in range(len(place.shape))]
        tensors[name] = empty.set_(storage, place.start // empty.element_size(), place.shape, strides)
    return tensors


def _read(path: Path, wanted: Mapping[str, _Wanted]) -> Iterator[tuple[str, torch.Tensor]]:
    """Read into one buffer that is used again for each tensor: each is valid until the next one is asked for."""
    if not wanted:
        return
    buffer = torch.empty(max(each.place.end - each.place.start for each in wanted.values()), dtype=torch.uint8)
    raw = buffer.numpy().data
    with FileIO(path) as file:
        for name, each in sorted(wanted.items(), key=lambda item: item[1].place.start):
            place = each.place
            size = place.end - place.start
            file.seek(place.start)
            _fill(file, raw[:size])
            stored = buffer[:size].view(TORCH_DTYPES[place.dtype]).view(place.shape)
            yield name, stored.t() if place.transposed else stored


def _fill(file: FileIO, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            raise OSError("the file ends too early")
        done += count
