"""LoRA and its relatives: one file per algorithm, one line here."""

from __future__ import annotations

from engine.adapters import full, lora, lora_fa
from engine.adapters.algorithm import Algorithm

ADAPTERS: dict[str, Algorithm] = {"lora": lora, "lora_fa": lora_fa, "full": full}
