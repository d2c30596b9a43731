"""Both text encoders with random weights and a few narrow layers, with CLIP's real vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engine.sdxl.checkpoint import TextEncoders
from engine.sdxl.tokenizer import EOS


def tiny_encoders() -> TextEncoders:
    """Encoders of 3 and 4 layers, 16 and 24 wide; the same weights each time."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 49408}
    shape |= {"bos_token_id": 49406, "eos_token_id": EOS, "initializer_factor": 3.0}
    one = CLIPTextConfig(hidden_size=16, num_hidden_layers=3, hidden_act="quick_gelu", **shape)
    two = CLIPTextConfig(hidden_size=24, num_hidden_layers=4, hidden_act="gelu", projection_dim=20, **shape)
    return TextEncoders(CLIPTextModel(one).eval(), CLIPTextModelWithProjection(two).eval())
