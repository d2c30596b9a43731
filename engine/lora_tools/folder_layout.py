"""Where each tensor of a checkpoint goes in a diffusers folder, told from headers alone. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError
from engine.sdxl import keys
from engine.sdxl.detect import ModelFacts, file_prediction
from engine.sdxl.folder import PART_FOLDERS
from engine.sdxl.parts import Part, left_alone, local_tensors, part_config
from engine.sdxl.safefile import TensorInfo, read_header

_MARKERS = ("v_pred", "ztsnr")
LOGIT_SCALE_KEY = keys.TEXT_2_PREFIX + "logit_scale"
PARTS: tuple[Part, ...] = ("unet", "text_1", "text_2", "vae")
REST = "single_file_rest.safetensors"
"""What no part of a folder has a place for: constants (logit_scale), markers (v_pred) and the metadata of the file that
the folder was made of. diffusers does not look at it; the way back takes it up again."""


@dataclass(frozen=True)
class Piece:
    """A parameter: its bytes, what the folder takes them for (`shape`), and whether they are to be turned first."""

    info: TensorInfo
    shape: tuple[int, ...]
    transposed: bool = False


def weights_file(part: Part) -> str:
    """The file of a part, below the folder."""
    stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
    return f"{PART_FOLDERS[part]}/{stem}.safetensors"


def folder_pieces(facts: ModelFacts) -> dict[Part, dict[str, Piece]]:
    """{part: {parameter's name in a folder: its piece}}. ModelError for a tensor that SDXL does not have."""
    found: dict[Part, dict[str, Piece]] = {}
    for part in PARTS:
        if getattr(facts.config, part) is None:
            continue
        tensors = used_tensors(facts, part)
        if facts.layout == "folder":
            found[part] = {name: Piece(info, info.shape) for name, info in tensors.items()}
            continue
        try:
            sources = keys.part_parameters(part, tensors, part_config(facts, part))
        except KeyError as error:
            what = f"holds a tensor that SDXL does not have, in its {PART_FOLDERS[part]} ({error.args[0]})."
            raise ModelError(f"{what} Choose another checkpoint.", str(facts.path)) from error
        found[part] = {name: _piece(part, name, tensors[source.key], source) for name, source in sources.items()}
    return found


def used_tensors(facts: ModelFacts, part: Part) -> dict[str, TensorInfo]:
    """The tensors of a part that SDXL uses, as `local_tensors` names them."""
    return {name: info for name, info in local_tensors(facts, part).items() if not left_alone(part, name)}


def rest_of(facts: ModelFacts, parts: Mapping[Part, Mapping[str, Piece]]) -> dict[str, TensorInfo]:
    """The tensors of a single file that no part has, by their full names; of a folder those that it brings along."""
    if facts.layout == "folder":
        rest = read_header(rest_file(facts)).tensors if rest_file(facts).is_file() else {}
        return {name: info for name, info in rest.items() if name not in _MARKERS or rest_agrees(facts)}
    used = [(piece.info.start, piece.info.end) for pieces in parts.values() for piece in pieces.values()]
    starts, ends = {start for start, _ in used}, {end for _, end in used}
    tensors = read_header(facts.path).tensors
    return {n: i for n, i in tensors.items() if i.start == i.end or i.start not in starts or i.end not in ends}


def rest_agrees(facts: ModelFacts) -> bool:
    """Whether what came along from a single file says the same of the prediction as the folder does today."""
    if not rest_file(facts).is_file():
        return False
    header = read_header(rest_file(facts))
    prediction, zero_terminal_snr, _ = file_prediction(header.tensors, header.metadata, str(header.path))
    return (prediction, zero_terminal_snr) == (facts.prediction, facts.zero_terminal_snr)


def rest_file(facts: ModelFacts) -> Path:
    return facts.path / REST


def _piece(part: Part, name: str, info: TensorInfo, source: keys.Source) -> Piece:
    if source.third is not None:
        size, shape = (info.end - info.start) // 3, (info.shape[0] // 3, *info.shape[1:])
        start = info.start + source.third * size
        return Piece(TensorInfo(info.path, info.dtype, shape, start, start + size), shape)
    if part == "vae" and ".attentions." in name and info.shape[2:] == (1, 1):
        return Piece(info, info.shape[:2])  # 1×1 convolutions in a single file, linear layers in a folder
    return Piece(info, tuple(reversed(info.shape)) if source.transposed else info.shape, source.transposed)


@dataclass(frozen=True)
class Stack:
    """A tensor of a single file out of a folder's parameters, one below the other (q, k and v), `transposed` first."""

    infos: tuple[TensorInfo, ...]
    shape: tuple[int, ...]
    transposed: bool

    @property
    def dtype(self) -> str:
        return self.infos[0].dtype


def single_stacks(facts: ModelFacts) -> dict[str, Stack]:
    """{name in a single file: what it is made of} for a diffusers folder."""
    found: dict[str, list[tuple[int, TensorInfo, bool]]] = {}
    for part in PARTS:
        if getattr(facts.config, part) is None:
            continue
        tensors = used_tensors(facts, part)
        for name, source in keys.part_sources(part, tensors, part_config(facts, part)).items():
            key = single_key(facts, source.key)
            found.setdefault(key, []).append((source.third or 0, tensors[name], source.transposed))
    return {key: _stack(key, sorted(pieces, key=lambda piece: piece[0])) for key, pieces in found.items()}


def single_key(facts: ModelFacts, key: str) -> str:
    """The refiner's one text encoder is the first."""
    if facts.kind == "refiner" and key.startswith(keys.TEXT_2_PREFIX):
        return keys.REFINER_TEXT_PREFIX + key.removeprefix(keys.TEXT_2_PREFIX)
    return key


def _stack(key: str, pieces: list[tuple[int, TensorInfo, bool]]) -> Stack:
    infos, transposed = tuple(piece[1] for piece in pieces), pieces[0][2]
    shape = tuple(reversed(infos[0].shape)) if transposed else infos[0].shape
    shape = (sum(info.shape[0] for info in infos), *shape[1:]) if len(infos) > 1 else shape
    if ".mid.attn_1." in key and len(shape) == 2:
        shape = (*shape, 1, 1)  # the VAE's attention projections are 1×1 convolutions there
    return Stack(infos, shape, transposed)
