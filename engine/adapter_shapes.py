"""Which numbers each adapter algorithm has for a layer, by their names in a file. Torch-free.

The forecast of a run counts with these functions before anything is loaded, the algorithms in `adapters/` make their
parameters with them: what was announced is what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.sections.adapter import Adapter

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Options:
    """Choices of single algorithms; each reads its own and passes over the others."""

    dora_norm: Literal["input", "output"] = "input"
    """DoRA: one magnitude for each input or for each output of a layer."""
    factor: int = -1
    """LoKr: size of the small matrix of the Kronecker product; −1: as near to the square root as divides."""
    decompose_both: bool = False
    """LoKr: the small matrix is of low rank, too."""
    full_matrix: bool = False
    """LoKr: the large matrix is whole instead of low rank."""
    block_size: int = 1
    """DyLoRA: the ranks that are trained together."""
    min_rank: int = 1
    """T-LoRA: the rank in pure noise."""
    constraint: float = 0.0
    """OFT, BOFT: the largest ‖Q‖ divided by the layer's outputs; 0: none."""
    rescaled: bool = False
    """OFT, BOFT: a factor for each output besides the rotation."""
    on_input: bool = False
    """(IA)³: factors for the inputs instead of the outputs."""


def options_of(adapter: Adapter) -> Options:
    """The options among the settings of a preset."""
    return Options(
        dora_norm=adapter.dora_norm,
        factor=adapter.factor,
        decompose_both=adapter.decompose_both,
        full_matrix=adapter.full_matrix,
        block_size=adapter.block_size,
        min_rank=adapter.min_rank,
        constraint=adapter.constraint,
        rescaled=adapter.rescaled,
        on_input=adapter.on_input,
    )


@dataclass(frozen=True)
class Place:
    """A layer as it must be known to say which parameters an adapter has there.

    `weight_shape`: [out, in], [out, in, k, k], or [n] of a norm.
    """

    weight_shape: tuple[int, ...]
    rank: int = 1
    has_bias: bool = True
    options: Options = field(default_factory=Options)

    @property
    def outputs(self) -> int:
        return self.weight_shape[0]

    @property
    def inputs(self) -> int:
        return self.weight_shape[1]

    @property
    def kernel(self) -> tuple[int, ...]:
        """() of a linear, (k, k) of a convolution."""
        return self.weight_shape[2:]

    @property
    def ones(self) -> tuple[int, ...]:
        """As many ones as the kernel has sides."""
        return (1,) * len(self.kernel)


def low_rank(place: Place) -> Shapes:
    """LoRA, LoCon, LoRA-FA, DyLoRA and T-LoRA."""
    return {
        "lora_down.weight": (place.rank, place.inputs, *place.kernel),
        "lora_up.weight": (place.outputs, place.rank, *place.ones),
    }


def decomposed(place: Place) -> Shapes:
    """DoRA: LoRA and a magnitude for each input or output."""
    on_output = place.options.dora_norm == "output"
    magnitude = (place.outputs, 1) if on_output else (1, place.inputs)
    return {**low_rank(place), "dora_scale": (*magnitude, *place.ones)}


def hadamard(place: Place) -> Shapes:
    """LoHa: two low-rank products of the whole weight."""
    columns = place.inputs * math.prod(place.kernel)
    pair = ((place.outputs, place.rank), (place.rank, columns))
    return {f"hada_w{number}_{letter}": shape for number in (1, 2) for letter, shape in zip("ab", pair, strict=True)}


def kronecker(place: Place) -> Shapes:
    """LoKr: a small matrix w1 and a large one w2, each whole or of low rank."""
    options, rank = place.options, place.rank
    small_out, large_out = factors_of(place.outputs, options.factor)
    small_in, large_in = factors_of(place.inputs, options.factor)
    found: Shapes = {}
    if options.decompose_both and not options.full_matrix and rank < max(small_out, small_in) / 2:
        found |= {"lokr_w1_a": (small_out, rank), "lokr_w1_b": (rank, small_in)}
    else:
        found["lokr_w1"] = (small_out, small_in)
    if options.full_matrix or rank >= max(large_out, large_in) / 2:
        found["lokr_w2"] = (large_out, large_in, *place.kernel)
    else:
        found |= {"lokr_w2_a": (large_out, rank), "lokr_w2_b": (rank, large_in * math.prod(place.kernel))}
    return found


def rotation(place: Place) -> Shapes:
    """OFT: one square block for each group of outputs; the rank asks for the size of the blocks."""
    size, blocks = factors_of(place.outputs, place.rank)
    return {"oft_blocks": (blocks, size, size), **_rescale(place)}


def butterfly(place: Place) -> Shapes:
    """BOFT: OFT in several stages that mix ever more distant outputs. {} where the outputs cannot be split so."""
    size, blocks = butterfly_factors(place.outputs, place.rank)
    if not blocks:
        return {}
    stages = (blocks - 1).bit_count() + 1
    return {"oft_blocks": (stages, blocks, size, size), **_rescale(place)}


def _rescale(place: Place) -> Shapes:
    return {"rescale": (place.outputs, 1, *place.ones)} if place.options.rescaled else {}


def factor_vector(place: Place) -> Shapes:
    """(IA)³: one factor for each output (or input)."""
    width = place.inputs if place.options.on_input else place.outputs
    return {"weight": (1, width, *place.ones) if place.kernel else (width,)}


def generalized(place: Place) -> Shapes:
    """GLoRA: a low-rank change of the inputs (a) and a low-rank change of the weight (b)."""
    rank, ones = place.rank, place.ones
    return {
        "a1.weight": (place.inputs, rank, *ones),
        "a2.weight": (rank, place.inputs, *ones),
        "b1.weight": (place.outputs, rank, *ones),
        "b2.weight": (rank, place.inputs, *place.kernel),
    }


def difference(place: Place) -> Shapes:
    """Full: the difference of the weight itself, and of the bias where there is one; norms too."""
    is_norm = len(place.weight_shape) == 1
    names = ("w_norm", "b_norm") if is_norm else ("diff", "diff_b")
    return {names[0]: place.weight_shape, **({names[1]: place.weight_shape[:1]} if place.has_bias else {})}


SHAPES: dict[str, Callable[[Place], Shapes]] = {
    "lora": low_rank,
    "lora_fa": low_rank,
    "dylora": low_rank,
    "tlora": low_rank,
    "dora": decomposed,
    "loha": hadamard,
    "lokr": kronecker,
    "oft": rotation,
    "boft": butterfly,
    "ia3": factor_vector,
    "glora": generalized,
    "full": difference,
}
FROZEN: Mapping[str, tuple[str, ...]] = {"lora_fa": ("lora_down.weight",)}
"""Names that stay as they start; they are saved, not trained."""
LIMITED = ("lora", "lora_fa", "dylora", "loha", "lokr")
"""Algorithms whose ΔW is a product of its matrices, so that its norm can be limited."""
DROPPING = ("lora", "lora_fa", "dylora", "tlora")
"""Algorithms that have ranks between two matrices, where dropout works."""
RANKLESS = ("ia3", "full")
"""Algorithms without a rank."""
ALPHALESS = (*RANKLESS, "oft", "boft")
"""Algorithms without an alpha."""
PRECISE: tuple[str, ...] = (".dora_scale", ".rescale")
"""Names whose numbers lie around one: half precision would round what is learned away, so they stay fp32."""

NO_MATRICES: tuple[str, ...] = (*PRECISE, ".oft_blocks")
"""Names that have two axes and more and yet are no matrices: factors of single rows, and stacks of rotations."""


def trained_count(algorithm: str, place: Place) -> int:
    """How many numbers are trained at a layer."""
    still = FROZEN.get(algorithm, ())
    return sum(math.prod(shape) for name, shape in SHAPES[algorithm](place).items() if name not in still)


def saved_count(algorithm: str, place: Place) -> int:
    """How many numbers of a layer a file holds (without its scalars)."""
    return sum(math.prod(shape) for shape in SHAPES[algorithm](place).values())


def factors_of(width: int, factor: int) -> tuple[int, int]:
    """(small, large) with small · large = width, as LyCORIS splits it: `factor` itself where it divides, else the
    divisor nearest to the square root that is not above it; −1: the nearest of all. (1, width) of a prime.
    """
    if factor > 0 and width % factor == 0:
        return min(factor, width // factor), max(factor, width // factor)
    limit = min(factor if factor > 0 else width, math.isqrt(width))
    small = max(divisor for divisor in range(1, max(1, limit) + 1) if width % divisor == 0)
    return small, width // small


def butterfly_factors(width: int, size: int) -> tuple[int, int]:
    """(block size, number of blocks) with an even size ≤ `size` and a power of two of blocks; (0, 0) where none is."""
    found = [even for even in range(2, size + 1, 2) if width % even == 0 and (width // even).bit_count() == 1]
    return (found[-1], width // found[-1]) if found else (0, 0)
