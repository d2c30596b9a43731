"""Small LoRA files of all kinds of layers, and what a conversion makes of them."""

from __future__ import annotations

import random
from pathlib import Path

from engine.adapter_header import PEFT_CONFIG, PEFT_FILE, AdapterHeader, known_adapter
from engine.adapter_names import Naming
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import Entry, literal, write_stream

LAYERS = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": (8, 6, ()),
    "lora_unet_middle_block_1_transformer_blocks_1_attn2_to_out_0": (8, 4, ()),
    "lora_unet_output_blocks_5_2_conv": (4, 4, (3, 3)),
    "lora_unet_input_blocks_3_0_op": (4, 4, (3, 3)),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (8, 4, ()),
    "lora_te2_text_model_encoder_layers_1_self_attn_q_proj": (4, 1280, ()),
}
ALPHA_BYTES = {"F32": b"\0\0\x20\x40", "F16": b"\0\x41", "BF16": b"\x20\x40"}  # 2.5


def noise(shape: tuple[int, ...], dtype: str, seed: int) -> Entry:
    entry = literal(dtype, shape, b"")
    return literal(dtype, shape, random.Random(seed).randbytes(entry.size_bytes))


def lora(layers: list[str], rank: int, alpha_dtype: str, dora: bool) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for number, layer in enumerate(layers):
        outputs, inputs, kernel = LAYERS[layer]
        ones = (1,) * len(kernel)
        own = rank + number
        found[f"{layer}.lora_down.weight"] = noise((own, inputs, *kernel), "F16", number)
        found[f"{layer}.lora_up.weight"] = noise((outputs, own, *ones), "BF16", number + 50)
        if alpha_dtype and (number or alpha_dtype != "F16"):  # a file may lack single alphas
            found[f"{layer}.alpha"] = literal(alpha_dtype, () if number else (1,), ALPHA_BYTES[alpha_dtype])
        if dora:
            found[f"{layer}.dora_scale"] = noise((outputs, 1, *ones), "F32", number)
    return found


def write(target: Path, header: AdapterHeader, naming: Naming) -> AdapterHeader:
    made = rename(header, naming)
    for folder, file in made.items():
        path = target / folder / PEFT_FILE if folder else target.with_suffix(".safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_stream(path, file.entries, file.metadata)
        if file.config:
            path.with_name(PEFT_CONFIG).write_text(file.config)
    return known_adapter(target if "" not in made else target.with_suffix(".safetensors"))


def contents(header: AdapterHeader) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = {}
    for key, name in header.names.items():
        info = header.layers[key.layer][key.suffix]
        found[f"{info.path.parent.name if info.path.name == PEFT_FILE else ''} {name}"] = (
            info.dtype, info.shape, info.path.read_bytes()[info.start : info.end],
        )  # fmt: skip
    return found
