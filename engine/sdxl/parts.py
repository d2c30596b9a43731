"""Where each weight of a part lies: parameter name → place in a file, for single files, folders and separate VAEs.

No torch: the digest of a part, which keys the caches, needs none.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import threading
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import ModelError
from engine.sdxl import keys
from engine.sdxl.configs import Config
from engine.sdxl.detect import ModelFacts
from engine.sdxl.folder import PART_FOLDERS, part_tensors
from engine.sdxl.safefile import TensorInfo, read_header
from engine.sdxl.vae_file import named_vae, read_vae

Part = Literal["unet", "text_1", "text_2", "vae"]
Shapes = Mapping[str, tuple[int, ...]]
DIGEST_THREADS = 2
# what checkpoints carry beside the weights that SDXL uses: constants, a training loss, averages, CLIP's unused ends
_LEFT_ALONE = re.compile(r"(^|\.)(position_ids|logit_scale|attn_mask)$|^loss\.|^model_ema\.")
_UNUSED_IN_TEXT_1 = re.compile(r"^(text_model\.)?text_projection(\.weight)?$")


@dataclass(frozen=True)
class Place:
    """Bytes of one parameter: `shape` as stored (of stacked q, k, v one third); see keys.Source for `transposed`."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    transposed: bool = False


def locate(facts: ModelFacts, part: Part, wanted: Shapes, vae_path: Path | None = None) -> dict[str, Place]:
    """Place of every parameter in `wanted` (name → shape, names of diffusers/transformers).

    Raises ModelError naming tensors that are missing, unexpected or of another shape.
    """
    tensors = local_tensors(facts, part, vae_path)
    config = part_config(facts, part, vae_path)
    where = str(vae_path or facts.path)
    sources = _sources(facts, part, list(wanted), config, tensors)
    missing = [source.key for source in sources.values() if source.key not in tensors]
    _refuse("lacks", missing, part, where)
    used = {source.key for source in sources.values()}
    _refuse("holds", [name for name in tensors if name not in used and not left_alone(part, name)], part, where)
    places = {name: _place(tensors[source.key], source) for name, source in sources.items()}
    wrong = [f"{name} {list(places[name].shape)}" for name, shape in wanted.items() if not _fits(places[name], shape)]
    _refuse("holds, in another shape than the rest of the model asks for,", wrong, part, where)
    return places


def places_of(facts: ModelFacts, part: Part, names: Collection[str]) -> dict[str, Place]:
    """Place of some parameters of a part (names of diffusers/transformers). ModelError where some are missing."""
    tensors = local_tensors(facts, part)
    sources = _sources(facts, part, list(names), part_config(facts, part), tensors)
    _refuse("lacks", [source.key for source in sources.values() if source.key not in tensors], part, str(facts.path))
    return {name: _place(tensors[source.key], source) for name, source in sources.items()}


def part_config(facts: ModelFacts, part: Part, vae_path: Path | None = None) -> Config:
    """Configuration of a part; ModelError where the model has no such part."""
    config = read_vae(vae_path).config if vae_path and part == "vae" else getattr(facts.config, part)
    if config is None:
        raise ModelError(
            f"is the SDXL {facts.kind} and has no {_WORDS[part]}. Choose an SDXL base model.", str(facts.path)
        )
    return config


def local_tensors(facts: ModelFacts, part: Part, vae_path: Path | None = None) -> dict[str, TensorInfo]:
    """The tensors of a part under names without prefix (VAE: under today's diffusers names)."""
    if part == "vae" and vae_path:
        return read_vae(vae_path).tensors
    if facts.layout == "folder":
        tensors = part_tensors(facts.path / PART_FOLDERS[part])
        return named_vae(tensors) if part == "vae" else tensors
    tensors = read_header(facts.path).tensors
    if part == "vae":
        return named_vae(tensors)
    prefix = keys.REFINER_TEXT_PREFIX if part == "text_2" and facts.kind == "refiner" else keys.PART_PREFIX[part]
    return {name[len(prefix) :]: info for name, info in tensors.items() if name.startswith(prefix)}


def left_alone(part: Part, name: str) -> bool:
    """Whether a tensor is one of the known companions of SDXL's weights that nothing uses."""
    return bool(_LEFT_ALONE.search(name) or (part == "text_1" and _UNUSED_IN_TEXT_1.match(name)))


def _sources(
    facts: ModelFacts, part: Part, names: list[str], config: Config, tensors: Mapping[str, TensorInfo]
) -> dict[str, keys.Source]:
    """{parameter: source} with names as `local_tensors` gives them."""
    if part == "vae":
        return {name: keys.Source(name) for name in names}
    if facts.layout == "single_file" and part != "text_1":
        found = keys.part_sources(part, names, config)
        prefix = len(keys.PART_PREFIX[part])
        return {name: keys.Source(s.key[prefix:], s.third, s.transposed) for name, s in found.items()}
    return {name: keys.Source(_spelling(name, tensors)) for name in names}


def _spelling(name: str, tensors: Mapping[str, TensorInfo]) -> str:
    """transformers 5 dropped the prefix "text_model." from the first encoder; files of either kind exist."""
    bare = name.removeprefix("text_model.")
    return next((spelt for spelt in (name, "text_model." + bare, bare) if spelt in tensors), name)


def _place(info: TensorInfo, source: keys.Source) -> Place:
    if source.third is None:
        return Place(info.path, info.dtype, info.shape, info.start, info.end, source.transposed)
    size = (info.end - info.start) // 3
    shape = ((info.shape[0] // 3) if info.shape else 0, *info.shape[1:])
    start = info.start + source.third * size
    return Place(info.path, info.dtype, shape, start, start + size, source.transposed)


def _fits(place: Place, wanted: tuple[int, ...]) -> bool:
    """Equal shapes; a 1×1 convolution fits where a linear layer is wanted."""
    shape = tuple(reversed(place.shape)) if place.transposed else place.shape
    return shape == tuple(wanted) or (shape[2:] == (1, 1) and shape[:2] == tuple(wanted))


_WORDS = {"unet": "UNet", "text_1": "first text encoder", "text_2": "second text encoder", "vae": "VAE"}


def _refuse(verb: str, names: list[str], part: Part, where: str) -> None:
    if not names:
        return
    shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    raise ModelError(
        f"{verb} {len(names):,} tensor{'s' * (len(names) > 1)} in its {_WORDS[part]}"
        f"{' that SDXL does not have' if verb == 'holds' else ''}: {shown}. "
        "Choose another file, or make or download this one again.",
        where,
    )


# ---------------------------------------------------------------- digest

_digests: dict[tuple[object, ...], str] = {}
_digest_locks: dict[tuple[object, ...], threading.Lock] = {}


def digest_ahead(facts: ModelFacts, part: Literal["unet", "text", "vae"]) -> None:
    """Begin with a part's digest beside what goes on; `part_digest` waits for it, and says what cannot be read."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
    pool.submit(part_digest, facts, part)
    pool.shutdown(wait=False)


def part_digest(facts: ModelFacts, part: Literal["unet", "text", "vae"], vae_path: Path | str | None = None) -> str:
    """Content hash (SHA-256, first 32 hex digits) of a part's weights: names, number formats, shapes, bytes.

    The same for every copy of the file, whatever its name, and for other metadata. Remembered within the process as
    long as path, size and modification time stay.
    """
    override = Path(vae_path).expanduser() if vae_path and part == "vae" else None
    parts: list[Part] = ["text_1", "text_2"] if part == "text" else [part]
    entries = [
        (f"{name}.{key}", info)
        for name in parts
        if override or getattr(facts.config, name) is not None
        for key, info in sorted(local_tensors(facts, name, override).items())
        if not left_alone(name, key)
    ]
    files = sorted({info.path for _, info in entries})
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    memory_key = (part, *stats)
    with _digest_locks.setdefault(memory_key, threading.Lock()):
        if memory_key not in _digests:
            _digests[memory_key] = _digest(entries, files)
    return _digests[memory_key]


def _digest(entries: list[tuple[str, TensorInfo]], files: list[Path]) -> str:
    """Hash of the tensors' hashes; these are computed in two threads (hashlib lets go of the interpreter's lock)."""
    maps: dict[Path, mmap.mmap] = {}
    for path in files:
        with path.open("rb") as file:
            maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def one(entry: tuple[str, TensorInfo]) -> bytes:
        info = entry[1]
        with memoryview(maps[info.path]) as whole, whole[info.start : info.end] as content:
            return hashlib.sha256(content).digest()

    total = hashlib.sha256()
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        for (name, info), digest in zip(entries, pool.map(one, entries), strict=True):
            total.update(f"{name} {info.dtype} {info.shape}\n".encode() + digest)
    for mapped in maps.values():
        mapped.close()
    return total.hexdigest()[:32]
