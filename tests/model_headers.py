"""Model files for tests of headers: real headers over zeros that take no disk (sparse files)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from engine.sdxl.safefile import DTYPE_BYTES

Shapes = Mapping[str, tuple[int, ...]]

SD_1 = {
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
}
SD_2 = {
    "cond_stage_model.model.token_embedding.weight": (49408, 1024),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
}
SD_3 = {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)}
FLUX = {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "single_blocks.0.linear1.weight": (21504, 3072)}
LORA = {
    "lora_unet_input_blocks_4_1_proj_in.alpha": (),
    "lora_unet_input_blocks_4_1_proj_in.lora_down.weight": (8, 640),
    "lora_unet_input_blocks_4_1_proj_in.lora_up.weight": (640, 8),
}
PEFT_LORA = {"unet.down_blocks.1.attentions.0.proj_in.lora_A.weight": (8, 640)}
LOHA = {"lora_unet_input_blocks_4_1_proj_in.hada_w1_a": (640, 8)}
CONTROLNET = {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}
EMBEDDING = {"clip_l": (2, 768), "clip_g": (2, 1280)}
TEXT_ENCODER = {"text_model.embeddings.token_embedding.weight": (49408, 768)}
UNKNOWN = {"blocks.0.self_attn.q.weight": (1536, 1536)}
V_PREDICTION_MARK = {"v_pred": (0,)}
ZERO_SNR_MARK = {"ztsnr": (0,)}


def header_bytes(shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "BF16") -> tuple[bytes, int]:
    """(length and JSON as they stand at the front of the file, bytes of the tensors)."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * DTYPE_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end


def write_sparse(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "BF16") -> Path:
    """A .safetensors file with these tensors, all zero."""
    start, size = header_bytes(shapes, metadata, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return path
