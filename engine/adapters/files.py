"""Save an adapter in kohya's format: whole or not at all, read back and compared before it takes its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.adapters.attach import Adapter
from engine.adapters.tensorfile import kohya_hashes, write_tensors
from engine.atomic import whole_file
from engine.errors import UserError
from engine.finite import is_finite

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_KEPT = "Nothing was saved; an earlier file of this name is still there."


@dataclass(frozen=True)
class SavedFile:
    """What was saved, checked. `sha256`: of the weights (`sshs_model_hash`)."""

    path: Path
    size_bytes: int
    tensors: int
    sha256: str


def save_adapter(
    path: Path, adapter: Adapter, precision: Precision, metadata: Mapping[str, str], trained: bool = True
) -> SavedFile:
    """Write the adapter to `path` under kohya's names; its weights in `precision`, each alpha as a 0-dim fp32 tensor.

    The hashes are added to the metadata. The file is written beside its target, flushed, read back and compared, and
    only then renamed over what was there. With `trained` an adapter that has no effect yet is refused, too.
    Raises UserError, in a sentence, where numbers are not finite, the adapter is empty, the disk refuses the file or
    gives back something else than was written; an earlier file then stays.
    """
    tensors = file_tensors(adapter, precision)
    check_numbers(adapter, tensors, str(path), trained)
    hashes = kohya_hashes(tensors, metadata)
    metadata = {**metadata, **hashes, "modelspec.hash_sha256": "0x" + hashes["sshs_model_hash"]}
    with whole_file(path) as part:
        write_tensors(part, tensors, metadata)
        verify_file(part, tensors, metadata, where=str(path))
        size_bytes = part.stat().st_size
    return SavedFile(Path(path), size_bytes, len(tensors), hashes["sshs_model_hash"])


def file_tensors(adapter: Adapter, precision: Precision) -> dict[str, Tensor]:
    """{key: CPU tensor} as in a file. One cast and one transfer for each group of parameters."""
    plain: dict[str, Tensor] = {}
    for flat in dict.fromkeys(adapter.flat_of.values()):
        vector = flat.vector.detach().to(PRECISIONS[precision]).cpu()
        plain.update({name: slot.of(vector) for name, slot in flat.slots.items()})
    found: dict[str, Tensor] = {}
    for site in adapter.sites:
        found.update(site.scalars())
        parameters = {suffix: plain[f"{site.target.name}.{suffix}"] for suffix in site.shapes}
        for suffix, tensor in site.how.for_file(parameters, site.place).items():
            found[f"{site.target.name}.{suffix}"] = tensor
    return found


def check_numbers(adapter: Adapter, tensors: Mapping[str, Tensor], where: str, trained: bool) -> None:
    """UserError where a number is not finite, a part's matrices are gone, or nothing was learned (`trained`)."""
    bad = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if bad:
        raise UserError(f"{_not_finite(adapter, tensors, bad)} {_KEPT}", where)
    for part in dict.fromkeys(site.target.part for site in adapter.sites):
        late: list[str] = []
        early: list[str] = []
        for site in (site for site in adapter.sites if site.target.part == part):
            for suffix in site.shapes:
                (late if suffix in site.how.STARTS_ZERO else early).append(f"{site.target.name}.{suffix}")
        empty = [name for name in early if not tensors[name].any()]
        if empty:
            raise UserError(f"{_some(empty, 'tensors')} hold only zeros: the weights are damaged. {_KEPT}", where)
        if trained and not any(tensors[name].any() for name in late):
            raise UserError(
                f"the adapter of the part {part!r} is still as it started, so it would change nothing. "
                f"Is its learning rate 0, or too small for this precision? {_KEPT}",
                where,
            )


def _not_finite(adapter: Adapter, tensors: Mapping[str, Tensor], bad: Sequence[str]) -> str:
    dtype = tensors[bad[0]].dtype
    full = file_tensors(adapter, "fp32") if dtype != torch.float32 else tensors
    if all(is_finite(full[name]) for name in bad):
        return (
            f"{_some(bad, 'tensors')} hold numbers too large for {str(dtype).removeprefix('torch.')}. "
            "Save in bf16 or fp32, or train with a lower learning rate."
        )
    return (
        f"{_some(bad, 'tensors')} hold numbers that are not finite (NaN or infinite): the training has diverged. "
        "Go back to an earlier checkpoint and lower the learning rate."
    )


def verify_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str = "") -> None:
    """Read the file and compare: every tensor with its name, dtype, shape and bytes, nothing more, and the metadata.

    UserError where it differs or cannot be read. `where`: the name to give in that sentence (else the path).
    """
    where = where or str(path)
    try:
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            missing, extra = sorted(set(tensors) - found), sorted(found - set(tensors))
            if missing or extra:
                raise UserError(f"the file {_lacks(missing, extra)} after it was written. {_DISK}", where)
            wrong = [name for name in tensors if not _same(file.get_tensor(name), tensors[name])]
            same_metadata = (file.metadata() or {}) == dict(metadata)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot be read back after it was written ({error}). {_DISK}", where) from error
    if wrong:
        raise UserError(f"{_some(wrong, 'tensors')} came back from the disk changed. {_DISK}", where)
    if not same_metadata:
        raise UserError(f"the metadata came back from the disk changed. {_DISK}", where)


_DISK = "Check the disk, or save to another one."


def _same(found: Tensor, written: Tensor) -> bool:
    return found.dtype == written.dtype and found.shape == written.shape and torch.equal(found, written)


def _lacks(missing: Sequence[str], extra: Sequence[str]) -> str:
    return f"lacks {_some(missing, 'tensors')}" if missing else f"holds {_some(extra, 'tensors')} too many"


def _some(names: Sequence[str], what: str) -> str:
    """ "3 tensors (a, b, …)"."""
    shown = ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
    return f"{len(names)} {what} ({shown})"
