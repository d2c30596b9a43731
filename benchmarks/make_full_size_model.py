"""Write a full-size SDXL single file with seeded random weights (6.9 GB in bf16), for measurements.

python benchmarks/make_full_size_model.py OUTPUT.safetensors [--seed 0]

It has the names and shapes of a published SDXL checkpoint (tests/reference/sdxl_checkpoint_keys.json), and scales that
keep activations finite: weights randn × 0.7 / √fan-in, embeddings × 0.02, norms one, biases zero. Random numbers come
from a pool of 16 M values that every tensor enters at a place of its own, so writing takes about as long as the disk.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import zlib
from pathlib import Path
from typing import BinaryIO

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.atomic import whole_file  # noqa: E402

KEYS_FILE = ROOT / "tests" / "reference" / "sdxl_checkpoint_keys.json"
POOL_NUMBERS = (1 << 24) + 3  # odd, so that rows of a matrix never repeat in step
CHUNK_NUMBERS = 1 << 24


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    shapes = {name: tuple(shape) for name, shape in json.loads(KEYS_FILE.read_text())["keys"].items()}
    write_random_model(options.output, shapes, options.seed)
    size = options.output.stat().st_size
    print(f"{options.output}: {size / 1e9:.2f} GB, {len(shapes):,} tensors, {time.perf_counter() - start:.0f} s")


def write_random_model(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    """Write `shapes` (name → shape) as bf16 random weights; memory stays below 200 MB."""
    pool = torch.randn(POOL_NUMBERS, generator=torch.Generator().manual_seed(seed))
    with whole_file(path) as part, part.open("wb") as file:
        file.write(_header(shapes))
        for name, shape in sorted(shapes.items()):
            _write_tensor(file, pool, name, shape)


def _header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"modelspec.title": "random weights for measurements"}}
    end = 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(file: BinaryIO, pool: torch.Tensor, name: str, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    if len(shape) <= 1:
        value = 4.6052 if name.endswith("logit_scale") else float(name.endswith("weight"))
        file.write(_bytes(torch.full((count,), value)))
        return
    scale = 0.02 if "embedding" in name else 0.7 / math.sqrt(math.prod(shape[1:]))
    place = zlib.crc32(name.encode()) % len(pool)
    while count:
        numbers = pool[place : place + min(count, CHUNK_NUMBERS)]
        file.write(_bytes(numbers * scale))
        count -= len(numbers)
        place = 0


def _bytes(values: torch.Tensor) -> memoryview:
    return values.to(torch.bfloat16).view(torch.uint8).numpy().data


if __name__ == "__main__":
    main()
