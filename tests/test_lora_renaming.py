"""A LoRA file that is converted to another program's names and back is the same file, to the bit."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.adapter_header import PEFT_CONFIG, PEFT_FILE, AdapterHeader, known_adapter, read_adapter
from engine.adapter_names import Naming
from engine.errors import ModelError
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import HASHES, Entry, kohya_hashes, literal, write_stream

NAMINGS: tuple[Naming, ...] = ("kohya", "lycoris", "diffusers", "diffusers_old", "peft")
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


@settings(max_examples=25, deadline=None)
@example(["lora_te1_text_model_encoder_layers_0_mlp_fc1"], "", False, ["lycoris"], "kohya", False)  # equal in both
@example(["lora_te1_text_model_encoder_layers_0_mlp_fc1"], "F16", False, ["lycoris"], "kohya", True)
@given(
    layers=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, unique=True),
    alpha_dtype=st.sampled_from(["", "F32", "F16", "BF16"]),
    dora=st.booleans(),
    through=st.lists(st.sampled_from(NAMINGS), min_size=1, max_size=3),
    start=st.sampled_from(NAMINGS),
    hashed=st.booleans(),
)
def test_every_conversion_comes_back_to_the_bit(layers, alpha_dtype, dora, through, start, hashed):
    with tempfile.TemporaryDirectory() as name:
        folder, entries, metadata = Path(name), lora(layers, 2, alpha_dtype, dora), {"ss_tag": '{"a": 1}', "x": "y"}
        if hashed:
            metadata |= kohya_hashes(entries, metadata)
        write_stream(folder / "a.safetensors", entries, metadata)
        first = read_adapter(folder / "a.safetensors")
        if start != "kohya":
            first = write(folder / "start", first, start)
        last = first
        for number, naming in enumerate(through):
            last = write(folder / f"step{number}", last, naming)
        back = write(folder / "back", last, start)
        assert contents(back) == contents(first)
        assert back.metadata == first.metadata
        assert back.configs == first.configs
        assert {layer: back.alpha_of(layer) for layer in back.layers} == {x: first.alpha_of(x) for x in first.layers}


def test_the_new_file_has_hashes_of_its_own_where_the_old_one_had_any(tmp_path):
    entries = lora(list(LAYERS), 2, "F32", False)
    write_stream(tmp_path / "a.safetensors", entries, {"ss_x": "1"} | kohya_hashes(entries, {"ss_x": "1"}))
    made = rename(read_adapter(tmp_path / "a.safetensors"), "lycoris")[""]
    plain = {key: text for key, text in made.metadata.items() if key not in HASHES}
    assert {key: made.metadata[key] for key in HASHES} == kohya_hashes(made.entries, plain)


def test_what_diffusers_has_no_names_for_is_a_sentence(tmp_path):
    entries = {"lora_unet_input_blocks_4_1_proj_in.hada_w1_a": noise((2, 2), "F32", 1)}
    write_stream(tmp_path / "a.safetensors", entries, {})
    with pytest.raises(ModelError, match=r"more than LoRA and DoRA .* Choose kohya or lycoris"):
        rename(read_adapter(tmp_path / "a.safetensors"), "diffusers")


def test_magnitudes_of_inputs_are_a_sentence(tmp_path):
    layer = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    entries = lora([layer], 2, "F32", False) | {f"{layer}.dora_scale": noise((1, 6), "F32", 1)}
    write_stream(tmp_path / "a.safetensors", entries, {})
    with pytest.raises(ModelError, match="one magnitude for each input"):
        rename(read_adapter(tmp_path / "a.safetensors"), "peft")


def test_another_models_lora_is_a_sentence(tmp_path):
    entries = {"lora_unet_double_blocks_0_img_mod_lin.lora_down.weight": noise((2, 2), "F32", 1)}
    write_stream(tmp_path / "a.safetensors", entries, {})
    with pytest.raises(ModelError, match="SDXL does not have"):
        rename(read_adapter(tmp_path / "a.safetensors"), "lycoris")
