"""A LoRA file as its header tells it: its layers, of what family, rank and alpha each is. Torch-free.

Only the header is read, and the single numbers beside the matrices (alpha): milliseconds, however large the file is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from engine.adapter_header import SCALARS, AdapterHeader, is_number, other_family, read_adapter, read_number
from engine.adapter_names import DOWN, MID, OFT_PREFIX, UP, Key, Naming, kohya_layer
from engine.errors import ModelError
from engine.sdxl.layers import PREFIX, TEXT_1, TEXT_2, UNET
from engine.sdxl.safefile import TensorInfo

_KRONECKER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
FAMILIES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "dora": (frozenset((DOWN, UP, "dora_scale")), frozenset()),
    "lora": (frozenset((DOWN, UP)), frozenset((MID,))),
    "loha": (
        frozenset(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")), frozenset(("hada_t1", "hada_t2"))
    ),
    "lokr": (frozenset(), frozenset((*_KRONECKER, "lokr_t2"))),
    "oft": (frozenset(("oft_blocks",)), frozenset(("rescale",))),
    "glora": (frozenset(("a1.weight", "a2.weight", "b1.weight", "b2.weight")), frozenset()),
    "full": (frozenset(("diff",)), frozenset(("diff_b",))),
    "norm": (frozenset(("w_norm",)), frozenset(("b_norm",))),
    "ia3": (frozenset(("weight",)), frozenset()),
}  # fmt: skip
"""Family → the tensors that a layer must have, and those that it may have. "norm": the difference of a norm layer."""
_SHAPED = ("lora", "loha", "full", "norm", "lokr")
NEEDS_THE_BASE = ("dora", "oft", "glora", "ia3")
"""Families whose change depends on the weights of the base model."""
NAMES = {
    "dora": "DoRA", "lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "glora": "GLoRA",
    "full": "full differences", "norm": "differences of norms", "ia3": "(IA)³",
}  # fmt: skip
_KERNEL_3 = ("_in_layers_2", "_out_layers_3", "_op", "_conv", "_conv1", "_conv2", "_conv_in", "_conv_out")
_KERNEL_3_WHOLE = (PREFIX[UNET] + "input_blocks_0_0", PREFIX[UNET] + "out_2")


@dataclass(frozen=True)
class LoraLayer:
    """One layer of a file, its matrices (`tensors`) and single numbers (`scalars`).

    `places` and `keys`: where all of these lie, and what the file calls them. An alpha out of a configuration is among
    the scalars alone.
    """

    name: str
    family: str
    tensors: Mapping[str, TensorInfo]
    scalars: Mapping[str, float]
    places: Mapping[str, TensorInfo]
    keys: Mapping[str, str]

    @property
    def part(self) -> str:
        return part_of(self.name)

    @property
    def rank(self) -> int:
        """The rank of its matrices; 1 where there is none."""
        at = {DOWN: 0, "hada_w1_b": 0, "lokr_w2_b": 0, "lokr_w1_b": 0, "a2.weight": 0}
        return next((self.tensors[suffix].shape[axis] for suffix, axis in at.items() if suffix in self.tensors), 1)

    @property
    def alpha(self) -> float:
        """As in the file; without one it is the rank, as everywhere."""
        return self.scalars.get("alpha", float(self.rank))

    @property
    def scale(self) -> float:
        """alpha / rank, the factor of ΔW; 1 where both matrices of a LoKr are whole, and of differences."""
        counts = self.family in ("lora", "dora", "loha", "glora") or (
            self.family == "lokr" and not {"lokr_w1", "lokr_w2"} <= set(self.tensors)
        )
        return self.alpha / self.rank if counts else 1.0

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """[out, in · k · k] of ΔW; ModelError for a family whose shape only the base model tells."""
        if self.family in ("lora", "dora"):
            core = self.tensors[MID].shape[2:] if MID in self.tensors else ()
            return self.tensors[UP].shape[0], math.prod((*self.tensors[DOWN].shape[1:], *core))
        if self.family == "loha":
            return self._product_shape("hada_w1", "hada_t1")
        if self.family == "lokr":
            small, large = self._kronecker_shapes()
            return small[0] * large[0], small[1] * large[1]
        if self.family in ("full", "norm"):
            shape = self.tensors["diff" if self.family == "full" else "w_norm"].shape
            return shape[0], math.prod(shape[1:])
        raise ModelError(f"{self.name} is {NAMES[self.family]}, whose change only its base model tells.")

    def _kronecker_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        def of(number: str) -> tuple[int, int]:
            whole = self.tensors.get(f"lokr_{number}")
            if whole is not None:
                return whole.shape[0], math.prod(whole.shape[1:])
            return self._product_shape(f"lokr_{number}", f"lokr_{number.replace('w', 't')}")

        return of("w1"), of("w2")

    def _product_shape(self, name: str, core: str) -> tuple[int, int]:
        """Of the matrix that is a product of two; beside a core the first is written turned (LyCORIS)."""
        one, two = self.tensors[f"{name}_a"].shape, self.tensors[f"{name}_b"].shape
        middle = self.tensors.get(core)
        if middle is None:
            return one[0], math.prod(two[1:])
        return one[1], math.prod((*two[1:], *middle.shape[2:]))

    @property
    def kernel(self) -> tuple[int, ...]:
        """The sides of the kernel as the file writes them: () of a linear, (1, 1) or (3, 3) of a convolution.

        Where the tensors do not tell it, the layer's name does: SDXL's convolutions are known.
        """
        for suffix in (MID, "hada_t1", "lokr_t2", DOWN, "lokr_w2", "diff", "b2.weight"):
            if suffix in self.tensors:
                return self.tensors[suffix].shape[2:]
        wide = self.name.endswith(_KERNEL_3) or self.name in _KERNEL_3_WHOLE
        return (3, 3) if wide and self.matrix_shape[1] % 9 == 0 else ()

    @property
    def size_bytes(self) -> int:
        return sum(info.end - info.start for info in self.tensors.values())


@dataclass(frozen=True)
class LoraFile:
    """A file: its layers by name in the order of the file, and its metadata."""

    path: Path
    layers: Mapping[str, LoraLayer]
    metadata: Mapping[str, str]
    size_bytes: int
    naming: Naming = "kohya"
    layers_per_block: int = 2
    has_config: bool = False

    @cached_property
    def families(self) -> Counter[str]:
        """How many layers are of each family."""
        return Counter(layer.family for layer in self.layers.values())

    @property
    def family_text(self) -> str:
        """ "LoRA", "LoKr and differences of norms"."""
        return " and ".join(NAMES[family] for family, _ in self.families.most_common())

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, rising; () where nothing has one."""
        found = {layer.rank for layer in self.layers.values() if layer.family not in ("full", "norm", "ia3")}
        return tuple(sorted(found))

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(layer.part for layer in self.layers.values())


def read_lora(path: Path) -> LoraFile:
    """Read the header of a LoRA, in any naming. ModelError, in a sentence, for what is damaged or is no SDXL LoRA.

    Layers are called as kohya's trainer does. Alphas are those beside the tensors, or those of a configuration.
    """
    header = read_adapter(path)
    where = str(path)
    _check_names([*header.layers, *header.unknown], header.metadata, where)
    layers: dict[str, LoraLayer] = {}
    for own_name, places in header.layers.items():
        name = kohya_layer(own_name, header.layers_per_block)
        if name in layers:
            raise ModelError(f"names the layer {name} twice, in two ways. Choose another file.", where)
        scalars = {suffix for suffix, info in places.items() if suffix in SCALARS and is_number(info)}
        tensors = {suffix: info for suffix, info in places.items() if suffix not in scalars}
        layer = LoraLayer(
            name,
            _family_of(name, tensors, where),
            tensors,
            {suffix: _finite(places[suffix]) for suffix in scalars},
            places,
            {suffix: header.names[Key(own_name, suffix)] for suffix in places},
        )
        _check_shapes(layer, where)
        layers[name] = _with_alpha(layer, header, own_name)
    size_bytes = sum(file.stat().st_size for file in header.files)
    about = (header.naming, header.layers_per_block, bool(header.configs))
    return LoraFile(Path(path), layers, header.metadata, size_bytes, *about)


def _with_alpha(layer: LoraLayer, header: AdapterHeader, own_name: str) -> LoraLayer:
    alpha = header.alpha_of(own_name)
    if alpha is None or "alpha" in layer.scalars or layer.family not in ("lora", "dora"):
        return layer
    return replace(layer, scalars={**layer.scalars, "alpha": alpha})


def _finite(info: TensorInfo) -> float:
    value = read_number(info)
    if not math.isfinite(value):
        raise ModelError(f"holds an alpha that is no number (got {value}). The file is damaged.", str(info.path))
    return value


def part_of(name: str) -> str:
    """ "unet", "text_encoder_1" or "text_encoder_2"."""
    return TEXT_1 if name.startswith(PREFIX[TEXT_1]) else TEXT_2 if name.startswith(PREFIX[TEXT_2]) else UNET


def _check_names(names: Collection[str], metadata: Mapping[str, str], where: str) -> None:
    known = (*PREFIX.values(), OFT_PREFIX)
    strange = [name for name in names if not name.startswith(known)]
    other = other_family(names)
    base = metadata.get("ss_base_model_version", "")
    if not other and base and not base.startswith("sdxl"):
        other = base
    if other:
        raise ModelError(f"was made for {other}, not for SDXL. Choose a LoRA for SDXL.", where)
    if strange or not names:
        what = f"its first unknown layer is {strange[0]!r}, {len(strange)} in all" if strange else "it holds no tensors"
        raise ModelError(f"is not a LoRA for SDXL whose names are known ({what}). Choose another file.", where)


def _family_of(name: str, tensors: Mapping[str, TensorInfo], where: str) -> str:
    found = set(tensors)
    for family, (needed, allowed) in FAMILIES.items():
        if found and needed <= found <= needed | allowed and (family != "lokr" or _is_whole_kronecker(found)):
            return family
    shown = ", ".join(sorted(found)) or "only an alpha"
    known = set().union(*(needed | allowed for needed, allowed in FAMILIES.values()))
    if found - known:
        raise ModelError(f"is a LoRA of a kind that is not known here (the layer {name} has {shown}).", where)
    raise ModelError(f"lacks tensors of the layer {name} (it has {shown}). Copy or download the file again.", where)


def _is_whole_kronecker(found: set[str]) -> bool:
    """Each factor whole, or as a pair."""
    return all(
        found & {name, f"{name}_a", f"{name}_b"} in ({name}, {f"{name}_a", f"{name}_b"})
        for name in ("lokr_w1", "lokr_w2")
    ) and ("lokr_t2" not in found or "lokr_w2_a" in found)


def _check_shapes(layer: LoraLayer, where: str) -> None:
    """ModelError where the matrices of a layer do not fit each other."""
    pairs = {
        "lora": ((UP, 1, MID, 0), (MID, 1, DOWN, 0)) if MID in layer.tensors else ((UP, 1, DOWN, 0),),
        "dora": ((UP, 1, DOWN, 0),),
        "loha": (*_product_pairs("hada_w1", "hada_t1", layer), *_product_pairs("hada_w2", "hada_t2", layer)),
        "lokr": (*_product_pairs("lokr_w1", "lokr_t1", layer), *_product_pairs("lokr_w2", "lokr_t2", layer)),
    }.get(layer.family, ())
    for one, axis, two, other in pairs:
        if one not in layer.tensors or two not in layer.tensors:
            continue
        shapes = layer.tensors[one].shape, layer.tensors[two].shape
        if min(map(len, shapes)) < 2 or shapes[0][axis] != shapes[1][other] or not math.prod(shapes[0] + shapes[1]):
            what = (
                f"holds matrices that do not fit each other: {layer.name} has {list(shapes[0])} and {list(shapes[1])}"
            )
            raise ModelError(f"{what}. The file is damaged, or mixes two LoRAs: choose another file.", where)


def _product_pairs(name: str, core: str, layer: LoraLayer) -> tuple[tuple[str, int, str, int], ...]:
    """(tensor, side, tensor, side) that must be of one size; beside a core the first matrix is written turned."""
    if core in layer.tensors:
        return (f"{name}_a", 0, core, 0), (core, 1, f"{name}_b", 0)
    return ((f"{name}_a", 1, f"{name}_b", 0),)


def change_shape(held: Mapping[str, TensorInfo]) -> tuple[int, int] | None:
    """[out, in · k · k] of the weight that a layer's tensors are for, 0 for a side that they do not tell; None where
    they tell nothing, or are damaged.
    """
    shapes = {suffix: info.shape for suffix, info in held.items()}
    if "oft_blocks" in shapes and len(shapes["oft_blocks"]) > 2:  # BOFT has stages before the blocks
        blocks, size = shapes["oft_blocks"][-3], shapes["oft_blocks"][-1]
        return blocks * size, 0
    if "b1.weight" in shapes and "b2.weight" in shapes:
        return (shapes["b1.weight"] or (0,))[0], math.prod(shapes["b2.weight"][1:])
    family = next((name for name in _SHAPED if FAMILIES[name][0] <= shapes.keys()), None)
    if family is None or (family == "lokr" and not _is_whole_kronecker(set(shapes))):
        return None
    try:
        return LoraLayer("", family, held, {}, held, {}).matrix_shape
    except IndexError:
        return None
