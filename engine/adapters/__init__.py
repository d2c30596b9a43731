"""LoRA and its relatives: one file per algorithm, one line here."""

from __future__ import annotations

from engine.adapters import boft, dora, dylora, full, glora, ia3, loha, lokr, lora, lora_fa, oft, tlora
from engine.adapters.algorithm import Algorithm

ADAPTERS: dict[str, Algorithm] = {
    "lora": lora,
    "lora_fa": lora_fa,
    "dora": dora,
    "loha": loha,
    "lokr": lokr,
    "oft": oft,
    "boft": boft,
    "dylora": dylora,
    "tlora": tlora,
    "ia3": ia3,
    "glora": glora,
    "full": full,
}
"""Files are tried in this order: those that look like LoRA are LoRA."""
