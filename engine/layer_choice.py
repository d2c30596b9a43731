"""Which layers get an adapter, with what rank, alpha and share of the learning rate: read from the preset. Torch-free.

The plan counts with it and the run attaches with it. What is said of single layers (`layer_settings`) goes before what
is said of blocks, and that before the section's own rank and alpha. A layer whose rank or rate comes out as 0 is left
out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.errors import Problem
from engine.sdxl.configs import ModelConfig
from engine.sdxl.layers import BLOCKS, PREFIX, TEXT_1, TEXT_2, UNET, Kind, LayerShape, block_of, part_layers, part_norms

if TYPE_CHECKING:
    from engine.sections.adapter import Adapter

# Ready-made choices of UNet layers, as patterns of their names in a file. B-LoRA: Frenkel et al. 2024, arXiv
# 2403.14572, section 4: of the blocks of the way up the first holds the content, the second the style.
BLOCK_CHOICES: dict[str, tuple[str, ...]] = {
    "all": ("*",),
    "up_blocks": ("*_output_blocks_*",),
    "attention": ("*_attn1_*", "*_attn2_*"),
    "cross_attention": ("*_attn2_*",),
    "attention_and_feed_forward": ("*_attn1_*", "*_attn2_*", "*_ff_net_*"),
    "residual_blocks": ("*_in_layers_*", "*_emb_layers_*", "*_out_layers_*", "*_skip_connection", "*_op", "*_conv"),
    "b_lora": ("*_output_blocks_0_1_*", "*_output_blocks_1_1_*"),
    "b_lora_content": ("*_output_blocks_0_1_*",),
    "b_lora_style": ("*_output_blocks_1_1_*",),
}


@dataclass(frozen=True)
class Chosen:
    """What the adapter is like on one layer; `rate` is a factor of its part's learning rate."""

    rank: int
    alpha: float
    rate: float = 1.0


@dataclass(frozen=True)
class LayerSetting:
    """A line of `layer_settings`: what holds for the layers that the pattern hits; None leaves a value as it is."""

    pattern: str
    rank: int | None = None
    alpha: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class LayerChoice:
    """All that a preset says about layers. The tuples for blocks are empty or hold 23 values."""

    rank: int = 16
    alpha: float = 16.0
    conv_rank: int = 0
    conv_alpha: float = 1.0
    outer: bool = False
    blocks: str = "all"
    block_ranks: tuple[int, ...] = ()
    block_alphas: tuple[float, ...] = ()
    conv_block_ranks: tuple[int, ...] = ()
    conv_block_alphas: tuple[float, ...] = ()
    block_rates: tuple[float, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    layer_settings: tuple[LayerSetting, ...] = ()

    def of(self, name: str, kind: Kind, kernel: int) -> Chosen | None:
        """What the layer of this file name gets; None where it is left out."""
        if not self._wanted(name):
            return None
        chosen = self._of_block(name, kind, kernel)
        for line in self.layer_settings:
            if hits(line.pattern, name):
                told = {"rank": line.rank, "alpha": line.alpha, "rate": line.rate}
                chosen = Chosen(**{**vars(chosen), **{key: value for key, value in told.items() if value is not None}})
        return chosen if chosen.rank and chosen.rate else None

    def rate_of(self, name: str) -> float:
        """The share of the rate at which a layer learns whose rank is not chosen here; 0 where it is left out."""
        block = block_of(name)
        rate = self.block_rates[block] if self.block_rates and block is not None else 1.0
        for line in self.layer_settings:
            if line.rate is not None and hits(line.pattern, name):
                rate = line.rate
        return rate if self._wanted(name) else 0.0

    def _wanted(self, name: str) -> bool:
        if name.startswith(PREFIX[UNET]) and not any(hits(pattern, name) for pattern in BLOCK_CHOICES[self.blocks]):
            return False
        if self.include and not any(hits(pattern, name) for pattern in self.include):
            return False
        return not any(hits(pattern, name) for pattern in self.exclude)

    def _of_block(self, name: str, kind: Kind, kernel: int) -> Chosen:
        """k×k convolutions take the conv rank; the other layers of residual blocks the main rank where there is one."""
        block = block_of(name)

        def here(values: tuple[Any, ...], otherwise: Any) -> Any:
            return values[block] if values and block is not None else otherwise

        rate = here(self.block_rates, 1.0)
        conv_rank = here(self.conv_block_ranks, self.conv_rank)
        if kernel > 1:
            rank, alpha = conv_rank, here(self.conv_block_alphas, self.conv_alpha)
        else:
            rank, alpha = here(self.block_ranks, self.rank), here(self.block_alphas, self.alpha)
        if (kind == "residual" and not self.conv_rank and not self.conv_block_ranks) or (
            kind == "outer" and not self.outer
        ):
            rank = 0
        return Chosen(rank, alpha, rate)


def hits(pattern: str, name: str) -> bool:
    """Whether a pattern hits a layer's file name: `*` and `?` stand for anything; "re:" begins a regular expression."""
    if pattern.startswith("re:"):
        return re.search(pattern[3:], name) is not None
    return fnmatchcase(name, pattern)


def read_choice(adapter: Adapter, problems: list[Problem] | None = None) -> LayerChoice:
    """The choice of a preset's section `adapter`. Faults of its texts go into `problems`; they then count as empty."""
    found = problems if problems is not None else []

    def blocks(name: str, kind: type) -> tuple[Any, ...]:
        return _block_values(f"adapter.{name}", getattr(adapter, name), kind, found)

    return LayerChoice(
        rank=adapter.rank,
        alpha=adapter.alpha,
        conv_rank=1 if adapter.algorithm == "full" and adapter.full_convolutions else adapter.conv_rank,
        conv_alpha=adapter.conv_alpha,
        outer=adapter.outer_layers,
        blocks=adapter.blocks,
        block_ranks=blocks("block_ranks", int),
        block_alphas=blocks("block_alphas", float),
        conv_block_ranks=blocks("conv_block_ranks", int),
        conv_block_alphas=blocks("conv_block_alphas", float),
        block_rates=blocks("block_rates", float),
        include=read_patterns("adapter.include_layers", adapter.include_layers, found),
        exclude=read_patterns("adapter.exclude_layers", adapter.exclude_layers, found),
        layer_settings=_layer_settings(adapter.layer_settings, found),
    )


def _block_values(where: str, text: str, kind: type, problems: list[Problem]) -> tuple[Any, ...]:
    """Text of one number, or of 23, as 23 numbers."""
    words = text.replace(",", " ").split()
    numbers = [_number(word, kind) for word in words]
    if None in numbers:
        word = words[numbers.index(None)]
        what = "a whole number of at least 0" if kind is int else "a number of at least 0"
        problems.append(Problem(where, f"each value must be {what} (got {word!r})."))
        return ()
    if len(numbers) not in (0, 1, BLOCKS):
        needs = f"needs one number for all blocks, or {BLOCKS}: one each (got {len(numbers)})."
        problems.append(Problem(where, f"{needs} The first and the last stand for layers outside the blocks."))
        return ()
    return tuple(numbers * BLOCKS if len(numbers) == 1 else numbers)


def _number(word: str, kind: type) -> Any:
    try:
        value = kind(word)
    except ValueError:
        return None
    return value if 0 <= value < 1e6 else None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_patterns(where: str, text: str, problems: list[Problem]) -> tuple[str, ...]:
    """Patterns of a text, one a line or separated by commas (a line that begins with "re:" is one pattern)."""
    found: list[str] = []
    for line in _lines(text):
        found += [line] if line.startswith("re:") else [word.strip() for word in line.split(",") if word.strip()]
    return tuple(pattern for pattern in found if _is_pattern(where, pattern, problems))


def _is_pattern(where: str, pattern: str, problems: list[Problem]) -> bool:
    try:
        re.compile(pattern[3:] if pattern.startswith("re:") else "")
    except re.error as error:
        problems.append(Problem(where, f"is not a regular expression: {error} (got {pattern!r})."))
        return False
    return True


_KINDS: dict[str, Callable[[str], Any]] = {
    "rank": lambda word: _number(word, int),
    "alpha": lambda word: _number(word, float),
    "rate": lambda word: _number(word, float),
}


def _layer_settings(text: str, problems: list[Problem]) -> tuple[LayerSetting, ...]:
    """Lines like `*attn2*: rank 8, alpha 4, rate 0.5`."""
    where, found = "adapter.layer_settings", []
    for line in _lines(text):
        pattern, mark, rest = line.rpartition(":")
        values = {name: _KINDS[name](word) for name, word in _pairs(rest) if name in _KINDS}
        whole = mark and values and len(values) == rest.count(",") + 1
        if not whole or None in values.values() or values.get("alpha") == 0:
            what = f"write lines like `*attn2*: rank 8, alpha 4, rate 0.5` (got {line!r})."
            problems.append(Problem(where, f"{what} Rank, alpha and rate may each be left out."))
        elif _is_pattern(where, pattern.strip(), problems):
            found.append(LayerSetting(pattern.strip(), **values))
    return tuple(found)


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    """(name, value) of each piece between commas: "rank 8" or "rank=8"."""
    for piece in text.split(","):
        words = piece.replace("=", " ").split()
        if len(words) == 2:
            yield words[0], words[1]


def trained_layers(config: ModelConfig, adapter: Adapter) -> dict[str, tuple[LayerShape, ...]]:
    """{part: all layers that an adapter could go onto} of the parts that are trained."""
    parts = ((UNET, adapter.unet, config.unet), (TEXT_1, adapter.text_encoder_1, config.text_1))
    parts += ((TEXT_2, adapter.text_encoder_2, config.text_2),)
    return {part: part_layers(part, of_part) for part, wanted, of_part in parts if wanted and of_part is not None}


def chosen_layers(config: ModelConfig, adapter: Adapter) -> list[tuple[LayerShape, Chosen]]:
    """The layers that get an adapter, and what it is like there."""
    choice = read_choice(adapter)
    found = [pair for layers in trained_layers(config, adapter).values() for pair in _chosen_of(choice, layers)]
    norms = [norm for norm in _trained_norms(config, adapter) if choice.rate_of(norm.name)]
    return found + [(norm, Chosen(1, 1.0, choice.rate_of(norm.name))) for norm in norms]


@lru_cache(maxsize=32)
def _chosen_of(choice: LayerChoice, layers: tuple[LayerShape, ...]) -> tuple[tuple[LayerShape, Chosen], ...]:
    """Those of a part's layers that get an adapter. Remembered: a plan asks four times, and patterns take a while."""
    pairs = ((layer, choice.of(layer.name, layer.kind, layer.kernel)) for layer in layers)
    return tuple((layer, chosen) for layer, chosen in pairs if chosen is not None)


def _trained_norms(config: ModelConfig, adapter: Adapter) -> list[LayerShape]:
    configs = {UNET: config.unet, TEXT_1: config.text_1, TEXT_2: config.text_2}
    if not adapter.norms:
        return []
    return [norm for part in trained_layers(config, adapter) for norm in part_norms(part, configs[part] or {})]


def layer_problems(config: ModelConfig, adapter: Adapter) -> list[Problem]:
    """Patterns that hit no layer, and parts of which nothing is left to train."""
    choice = read_choice(adapter)
    parts = trained_layers(config, adapter)
    names = [layer.name for layers in parts.values() for layer in layers]
    if not names:
        return []
    texts = [("include_layers", pattern) for pattern in choice.include]
    texts += [("exclude_layers", pattern) for pattern in choice.exclude]
    texts += [("layer_settings", line.pattern) for line in choice.layer_settings]
    found = [
        Problem(
            f"adapter.{setting}", f"hits no layer (got {pattern!r}). Layers are called like {names[len(names) // 2]}."
        )
        for setting, pattern in texts
        if not any(hits(pattern, name) for name in names)
    ]
    for part, layers in parts.items():
        if not found and not _chosen_of(choice, layers):
            what = "no layer is left to train after the choice of blocks, patterns, ranks and rates"
            found.append(Problem(f"adapter.{part}", f"{what}. Choose more of them, or switch this part off."))
    return found
