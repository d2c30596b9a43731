"""A LoRA file that is converted to another program's names and back is the same file, to the bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.adapter_header import read_adapter
from engine.adapter_names import Naming
from engine.errors import ModelError
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import HASHES, kohya_hashes, write_stream
from tests.renamed_loras import LAYERS, contents, lora, noise, write

NAMINGS: tuple[Naming, ...] = ("kohya", "lycoris", "diffusers", "diffusers_old", "peft")


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
