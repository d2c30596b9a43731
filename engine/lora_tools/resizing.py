"""Layers of a LoRA at lower ranks: the best that there is of each rank, and how far it is from what was there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from torch import Tensor

from engine.lora_tools.changes import alpha_tensor, change_svd, chosen_rank, lora_tensors
from engine.lora_tools.choices import RankChoice
from engine.lora_tools.lora_file import DOWN, UP, LoraFile, LoraLayer
from engine.lora_tools.low_rank import Svd
from engine.lora_tools.writing import by_name, in_precision, seed_of, with_history

SEED = 0


class Errors:
    """How far the new layers are from the old ones, in Frobenius norm."""

    def __init__(self) -> None:
        self.squares = self.norm_squares = 0.0
        self.worst, self.worst_layer = 0.0, ""
        self.ranks: list[int] = []

    def add(self, name: str, found: Svd) -> None:
        self.note(name, found.error, found.norm, found.rank)

    def note(self, name: str, error: float, norm: float, rank: int) -> None:
        """A layer whose change of size `norm` came out at a rank with this error."""
        self.ranks.append(rank)
        self.squares += error**2
        self.norm_squares += norm**2
        if norm and error / norm > self.worst:
            self.worst, self.worst_layer = error / norm, name

    @property
    def relative(self) -> float:
        """√(Σ error² / Σ ‖ΔW‖²) over all layers."""
        return math.sqrt(self.squares / self.norm_squares) if self.norm_squares else 0.0

    @property
    def text(self) -> str:
        """ "rank 4 to 32; error 1.2 %, at most 3 % (lora_unet_…)"."""
        if not self.ranks:
            return "no layer was changed"
        low, high = min(self.ranks), max(self.ranks)
        ranks = f"rank {low}" if low == high else f"rank {low} to {high}"
        if self.worst < 1e-6:
            return f"{ranks}; no error"
        return f"{ranks}; error {self.relative:.2%}, at most {self.worst:.2%} ({self.worst_layer})"


class Resizing:
    """The work of `resize` on one file."""

    def __init__(self, choice: RankChoice, precision: str, file: LoraFile) -> None:
        self.choice, self.precision, self.file = choice, precision, file
        self.errors = Errors()
        self.alphas: set[float] = set()
        self.kept = 0

    def layer(self, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if layer.family == "norm":
            return in_precision(by_name(layer, tensors), self.precision)
        limit = self.choice.limit(layer.name, layer.kernel)
        thin = layer.family in ("lora", "dora")
        if thin and self.choice.rule == "number" and limit >= layer.rank:
            return self._same(layer, tensors)
        found = change_svd(layer, tensors, limit, seed_of(SEED, layer.name), whole=self.choice.rule == "sum")
        rank = chosen_rank(found, self.choice, limit)
        if thin and rank >= layer.rank:
            return self._same(layer, tensors)
        return self._smaller(layer, tensors, found.first(rank))

    def _same(self, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.kept += 1
        self.alphas.add(layer.alpha)
        return in_precision(by_name(layer, tensors), self.precision)

    def _smaller(self, layer: LoraLayer, tensors: Mapping[str, Tensor], found: Svd) -> dict[str, Tensor]:
        """The factor of up · down stays what it is, so alpha falls with the rank."""
        self.errors.add(layer.name, found)
        thin = layer.family in ("lora", "dora")
        alpha = alpha_tensor(tensors, layer.scale if thin and layer.scale > 0 else 1.0, found.rank)
        dtype = tensors[UP].dtype if thin else next(t.dtype for t in tensors.values() if t.dim() > 1)
        made = lora_tensors(found, layer.kernel, float(alpha) / found.rank, dtype)
        if not thin or "alpha" in tensors:
            made["alpha"] = alpha
        self.alphas.add(float(alpha))
        if "dora_scale" in tensors:
            made["dora_scale"] = tensors["dora_scale"]
        return in_precision(by_name(layer, made), self.precision)

    def metadata(self) -> dict[str, str]:
        old = self.file.metadata
        found = dict(old)
        if self.errors.ranks:
            found["ss_network_dim"] = self.choice.dim
            alphas = {round(alpha, 6) for alpha in self.alphas}
            found["ss_network_alpha"] = str(alphas.pop()) if len(alphas) == 1 else "Dynamic"
            found |= _network(self.file, self.choice)
        facts = {"ranks": self.choice.text, "error": round(self.errors.relative, 6)}
        return with_history(found, "resize", {self.file.path: self.file.metadata}, **facts)

    def told(self) -> str:
        if not self.errors.ranks:
            return "no layer has a higher rank: the weights are as they were"
        kept = f"; {self.kept} layers as they were" if self.kept else ""
        return self.errors.text + kept


def _network(file: LoraFile, choice: RankChoice) -> dict[str, str]:
    """What the network's module and arguments are called afterwards."""
    if not set(file.families) <= {"lora", "dora"}:
        return {"ss_network_module": "networks.lora", "ss_network_args": "{}"}
    try:
        arguments = json.loads(file.metadata.get("ss_network_args", ""))
    except ValueError:
        return {}
    if not isinstance(arguments, dict) or "conv_dim" not in arguments:
        return {}
    scale = next((layer.scale for layer in file.layers.values() if len(layer.tensors[DOWN].shape) == 4), 1.0)
    rank = min(choice.conv_rank or choice.rank, int(float(arguments["conv_dim"])))
    changed = {"conv_dim": str(rank), "conv_alpha": str(scale * rank)}
    return {"ss_network_args": json.dumps({**arguments, **changed})}
