"""Settings that several LoRA tools share, and what they come to: ranks, files, the place of the result. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.errors import Problem, UserError
from engine.layer_choice import hits, read_patterns
from engine.settings import setting
from engine.tools.tool import ToolSettings

Rule = Literal["number", "ratio", "sum", "norm", "error"]
Precision = Literal["same", "fp32", "fp16", "bf16"]


class Files(ToolSettings):
    files: str = setting("", "The LoRA files, one a line.", "LoRA 文件", kind="lines")


class Ranks(ToolSettings):
    rule: Rule = setting(
        "number",
        "How the rank of each layer is chosen: this number, or as few ranks as a limit allows (never more than this).",
        "秩的选择",
        label="Choose the rank by",
    )
    rank: int = setting(
        32, "The rank of linear layers; with another way of choosing, the highest.", "秩", ge=1, le=1024
    )
    conv_rank: int = setting(
        0, "The rank of 3×3 convolutions; 0: the same as the other layers.", "卷积秩", ge=0, le=1024, level="advanced"
    )
    ratio: float = setting(
        20.0,
        "Keep the ranks whose strength is above the strongest one's divided by this.",
        "奇异值比",
        gt=1,
        le=1e6,
        when={"ranks.rule": "ratio"},
    )
    sum_share: float = setting(
        0.9,
        "Keep the strongest ranks until they make up this share of the sum of all strengths.",
        "累计占比",
        gt=0,
        le=1,
        when={"ranks.rule": "sum"},
    )
    norm_share: float = setting(
        0.95,
        "Keep the strongest ranks until they make up this share of the change's size (its Frobenius norm).",
        "范数占比",
        gt=0,
        le=1,
        when={"ranks.rule": "norm"},
    )
    error: float = setting(
        0.1,
        "Keep as few ranks as leave at most this share of the change's size out, layer by layer.",
        "允许误差",
        gt=0,
        le=0.999,
        when={"ranks.rule": "error"},
    )
    layer_ranks: str = setting(
        "",
        "Ranks of single layers, one a line, like `*attn2*: 8`; they go before the ranks above.",
        "按层指定秩",
        kind="lines",
        level="expert",
    )


class Result(ToolSettings):
    output: str = setting(
        "",
        "The file to make, or a folder for it; empty: beside the first file. An existing file is never written over.",
        "输出",
        kind="file",
    )
    precision: Precision = setting(
        "same", "The number format of the new file; same: as the file it is made from.", "精度", level="advanced"
    )


@dataclass(frozen=True)
class RankChoice:
    """How ranks are chosen: by `rule` with its `value`, never above `limit`."""

    rule: Rule
    value: float
    rank: int
    conv_rank: int
    lines: tuple[tuple[str, int], ...] = ()

    def limit(self, name: str, kernel: Sequence[int]) -> int:
        """The highest rank that the layer may get."""
        limit = self.conv_rank if self.conv_rank and any(side > 1 for side in kernel) else self.rank
        for pattern, rank in self.lines:
            if hits(pattern, name):
                limit = rank
        return limit

    @property
    def text(self) -> str:
        """ "rank 32", "at most rank 32, error 0.1"."""
        conv = f" (convolutions {self.conv_rank})" if self.conv_rank else ""
        lines = f", {len(self.lines)} patterns" if self.lines else ""
        if self.rule == "number":
            return f"rank {self.rank}{conv}{lines}"
        words = {"ratio": "ratio", "sum": "share of the sum", "norm": "share of the norm", "error": "error"}
        return f"at most rank {self.rank}{conv}{lines}, {words[self.rule]} {self.value:g}"

    @property
    def dim(self) -> str:
        """What `ss_network_dim` says."""
        return str(self.rank) if self.rule == "number" and not self.lines else "Dynamic"


def rank_choice(settings: Ranks) -> RankChoice:
    """What the settings say. UserError for lines that cannot be read."""
    value = {
        "number": 0.0,
        "ratio": settings.ratio,
        "sum": settings.sum_share,
        "norm": settings.norm_share,
        "error": settings.error,
    }[settings.rule]
    lines = tuple(_rank_line(line) for line in settings.layer_ranks.splitlines() if line.strip())
    return RankChoice(settings.rule, value, settings.rank, settings.conv_rank, lines)


def _rank_line(line: str) -> tuple[str, int]:
    pattern, _, word = line.strip().rpartition(":")
    problems: list[Problem] = []
    patterns = read_patterns("layer_ranks", pattern, problems)
    if problems:
        raise UserError(problems[0].message, "layer_ranks")
    if len(patterns) != 1 or not word.strip().isdecimal() or not 1 <= int(word) <= 1024:
        raise UserError(f"write lines like `*attn2*: 8`, with a rank from 1 to 1024 (got {line!r}).", "layer_ranks")
    return patterns[0], int(word)


def unused_lines(choice: RankChoice, names: Sequence[str]) -> list[Problem]:
    """Patterns that hit no layer."""
    return [
        Problem("layer_ranks", f"hits no layer (got {pattern!r}). Layers are called like {names[len(names) // 2]}.")
        for pattern, _ in choice.lines
        if names and not any(hits(pattern, name) for name in names)
    ]


def lines_of(text: str) -> list[str]:
    return [line.strip().strip("\"'") for line in text.splitlines() if line.strip()]


def counts_text(counts: Mapping[str, int]) -> str:
    """ "722 layers of the UNet, 72 of text encoder 1"."""
    words = {"unet": "the UNet", "text_encoder_1": "text encoder 1", "text_encoder_2": "text encoder 2"}
    found = [f"{count:,} of {words[part]}" for part, count in counts.items() if count]
    return ", ".join(found)
