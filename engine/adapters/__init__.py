"""LoRA and its relatives: one file per algorithm, one line here."""

from __future__ import annotations

from engine.adapters import lora
from engine.adapters.algorithm import Algorithm

ADAPTERS: dict[str, Algorithm] = {"lora": lora}
