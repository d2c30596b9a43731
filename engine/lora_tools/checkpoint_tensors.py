"""The weights of checkpoints, of one file or of a folder, under the names of a single file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from engine.lora_tools.checkpoint_layers import Checkpoint
from engine.lora_tools.foldering import single_metadata, stack_entry
from engine.lora_tools.stream import HASHES, Entry
from engine.lora_tools.tensors import in_format, narrowed, read_tensor, row_blocks
from engine.sdxl.writer import LOGIT_SCALE


def read_weight(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor in its own format, its own memory. ModelError where it cannot be read."""
    stack = checkpoint.stacks.get(name)
    if stack is None:
        return read_tensor(checkpoint.header.tensors[name])
    parts = [read_tensor(info) for info in stack.infos]
    whole = torch.cat(parts) if len(parts) > 1 else parts[0]
    return (whole.t() if stack.transposed else whole).reshape(stack.shape)


def weight_blocks(checkpoint: Checkpoint, name: str) -> Iterator[Tensor]:
    """The same in pieces of whole rows, the same pieces for tensors of one shape."""
    info = checkpoint.header.tensors[name]
    if name not in checkpoint.stacks:
        yield from map(read_tensor, row_blocks(info))
        return
    whole = read_weight(checkpoint, name)
    first = 0
    for block in row_blocks(replace(info, start=0, end=whole.numel())):
        count = block.shape[0] if block.shape else 1
        yield whole[first : first + count] if block.shape else whole
        first += count


def weight_entry(checkpoint: Checkpoint, name: str, dtype: str) -> Entry:
    """A tensor to write as it is, in a format."""
    info, stack = checkpoint.header.tensors[name], checkpoint.stacks.get(name)
    if stack is not None:
        return stack_entry(name, stack, dtype)
    if info.path.is_dir():  # CLIP's constant, which folders do not have
        return Entry(dtype, (), lambda: narrowed(torch.tensor(LOGIT_SCALE), dtype, name, str(info.path)))
    return in_format(info, dtype, name)


def metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    """The metadata that a new file keeps: without hashes; of a folder what one file of it would say."""
    is_file = checkpoint.facts.layout == "single_file"
    found = checkpoint.header.metadata if is_file else single_metadata(checkpoint.facts)
    return {key: text for key, text in found.items() if key not in HASHES}
