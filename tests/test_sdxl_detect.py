"""What a model is, told from its headers; everything else is refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import model_headers as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reduced_model import full_size_shapes

from engine.errors import ModelError
from engine.sdxl import configs, keys
from engine.sdxl.detect import identify, read_header

FULL_SIZE = full_size_shapes()
VAE_ONLY = {name: shape for name, shape in FULL_SIZE.items() if name.startswith(keys.VAE_PREFIX)}
UNET_ONLY = {name: shape for name, shape in FULL_SIZE.items() if name.startswith(keys.UNET_PREFIX)}


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_sparse(tmp_path_factory.mktemp("full") / "sdxl.safetensors", FULL_SIZE)


def refusal(path: Path, vae_path: Path | None = None) -> str:
    """The sentence with which `identify` refuses."""
    with pytest.raises(ModelError) as caught:
        identify(path, vae_path)
    assert caught.value.problems[0].where
    return str(caught.value)


# ---------------------------------------------------------------- what it is


def test_a_full_size_checkpoint_is_sdxl_base_in_under_a_second(full_size: Path):
    start = time.perf_counter()
    facts = identify(full_size)
    assert time.perf_counter() - start < 1
    assert (facts.layout, facts.kind, facts.prediction, facts.zero_terminal_snr) == (
        "single_file",
        "base",
        "epsilon",
        False,
    )
    assert facts.size_bytes == full_size.stat().st_size > 6.9e9


def test_configurations_are_those_of_the_published_model(full_size: Path):
    config = identify(full_size).config
    assert config.text_1 is not None and config.text_2 is not None and config.vae is not None
    unet = config.unet
    assert unet["block_out_channels"] == (320, 640, 1280)
    assert unet["transformer_layers_per_block"] == (1, 2, 10)
    assert unet["attention_head_dim"] == (5, 10, 20)
    assert unet["down_block_types"] == ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    assert unet["up_block_types"] == ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    assert (unet["cross_attention_dim"], unet["projection_class_embeddings_input_dim"]) == (2048, 2816)
    assert (unet["addition_time_embed_dim"], unet["use_linear_projection"]) == (256, True)
    one, two = config.text_1, config.text_2
    assert [one[key] for key in _TEXT] == [768, 12, 12, 3072, "quick_gelu", 768]
    assert [two[key] for key in _TEXT] == [1280, 32, 20, 5120, "gelu", 1280]
    assert config.vae["block_out_channels"] == (128, 256, 512, 512)
    assert (config.vae["layers_per_block"], config.vae["scaling_factor"]) == (2, 0.13025)


_TEXT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "projection_dim")


def test_the_header_is_read_without_torch(full_size: Path):
    code = (
        "import sys; from engine.sdxl.detect import identify; from engine.sdxl.parts import part_digest; "
        f"identify({str(full_size)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_nine_input_channels_are_inpainting(tmp_path: Path):
    shapes = FULL_SIZE | {keys.UNET_PREFIX + "input_blocks.0.0.weight": (320, 9, 3, 3)}
    assert identify(models.write_sparse(tmp_path / "a.safetensors", shapes)).kind == "inpainting"


def test_the_refiner_is_known_by_its_single_text_encoder(tmp_path: Path):
    facts = identify(models.write_sparse(tmp_path / "refiner.safetensors", refiner_shapes()))
    assert facts.kind == "refiner"
    assert facts.config.text_1 is None
    assert facts.config.unet["block_out_channels"] == (384, 768, 1536, 1536)
    assert facts.config.unet["addition_time_embed_dim"] == 256
    assert facts.config.unet["transformer_layers_per_block"] == (1, 4, 4, 4)
    assert facts.config.unet["down_block_types"][0] == facts.config.unet["down_block_types"][3] == "DownBlock2D"


def refiner_shapes() -> dict[str, tuple[int, ...]]:
    """The names that tell the refiner's sizes: four levels, attention in the inner two, context 1,280, added 2,560."""
    shapes = {name: s for name, s in FULL_SIZE.items() if not name.startswith("conditioner.embedders.0")}
    shapes = {
        name.replace(keys.TEXT_2_PREFIX, keys.REFINER_TEXT_PREFIX): shape
        for name, shape in shapes.items()
        if not name.startswith(keys.UNET_PREFIX)
    }
    unet: dict[str, tuple[int, ...]] = {
        "input_blocks.0.0.weight": (384, 4, 3, 3),
        "out.2.weight": (4, 384, 3, 3),
        "time_embed.0.weight": (1536, 384),
        "label_emb.0.0.weight": (1536, 2560),
    }
    for level, width in enumerate((384, 768, 1536, 1536)):
        for layer in range(2):
            unet[f"input_blocks.{3 * level + layer + 1}.0.in_layers.2.weight"] = (width, width, 3, 3)
        if level < 3:
            unet[f"input_blocks.{3 * level + 3}.0.op.weight"] = (width, width, 3, 3)
    blocks = [f"input_blocks.{n}.1" for n in (4, 5, 7, 8)] + ["middle_block.1"]
    blocks += [f"output_blocks.{n}.1" for n in (3, 4, 5, 6, 7, 8)]
    for block in blocks:
        unet[f"{block}.proj_in.weight"] = (768, 768)
        for depth in range(4):
            unet[f"{block}.transformer_blocks.{depth}.attn1.to_q.weight"] = (768, 768)
            unet[f"{block}.transformer_blocks.{depth}.attn2.to_k.weight"] = (768, 1280)
    return shapes | {keys.UNET_PREFIX + name: shape for name, shape in unet.items()}


@pytest.mark.parametrize(
    ("marks", "metadata", "prediction", "zero_snr"),
    [
        ({}, {}, "epsilon", False),
        ({}, {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        (models.V_PREDICTION_MARK, {}, "v_prediction", False),
        (models.V_PREDICTION_MARK | models.ZERO_SNR_MARK, {}, "v_prediction", True),
        (models.ZERO_SNR_MARK, {}, "epsilon", True),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ({}, {"modelspec.architecture": "stable-diffusion-xl-v1-base-vpred"}, "v_prediction", False),
        ({}, {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, "v_prediction", True),
        ({}, {"modelspec.architecture": "stable-diffusion-xl-v1-base"}, "epsilon", False),
    ],
)
def test_prediction_and_zero_terminal_snr(tmp_path: Path, marks, metadata, prediction, zero_snr):
    facts = identify(models.write_sparse(tmp_path / "a.safetensors", FULL_SIZE | marks, metadata))
    assert (facts.prediction, facts.zero_terminal_snr) == (prediction, zero_snr)
    assert all(mark in facts.evidence for mark in marks)


@pytest.mark.parametrize(
    "extra",
    [
        {"conditioner.embedders.0.transformer.text_model.embeddings.position_ids": (1, 77)},
        {"model_ema.diffusion_modelout2weight": (4, 320, 3, 3), "model_ema.decay": ()},
        {"denoiser.sigmas": (1000,)},
        {"conditioner.embedders.0.logit_scale": (), "alphas_cumprod": (1000,)},
    ],
)
def test_known_companions_of_the_weights_do_no_harm(tmp_path: Path, extra):
    assert identify(models.write_sparse(tmp_path / "a.safetensors", FULL_SIZE | extra)).kind == "base"


def test_the_first_encoder_may_lack_its_prefix(tmp_path: Path):
    shapes = {name.replace("transformer.text_model.", "transformer."): shape for name, shape in FULL_SIZE.items()}
    config = identify(models.write_sparse(tmp_path / "a.safetensors", shapes)).config
    assert config.text_1 is not None and config.text_1["num_hidden_layers"] == 12


# ---------------------------------------------------------------- what shapes cannot tell


def test_metadata_tell_heads_and_norm_groups(tmp_path: Path):
    said = {"unet": {"head_width": 32, "norm_groups": 16}, "text_1": {"heads": 2}, "vae": {"norm_groups": 8}}
    path = models.write_sparse(tmp_path / "a.safetensors", FULL_SIZE, {configs.OVERRIDES_KEY: json.dumps(said)})
    config = identify(path).config
    assert config.text_1 is not None and config.text_2 is not None and config.vae is not None
    assert config.unet["attention_head_dim"] == (10, 20, 40)
    assert config.unet["norm_num_groups"] == 16
    assert config.text_1["num_attention_heads"] == 2
    assert config.text_2["num_attention_heads"] == 20
    assert config.vae["norm_num_groups"] == 8


@pytest.mark.parametrize(
    "said",
    ["", "[]", "{", '{"unet": 3}', '{"unet": {"width": 3}}', '{"unet": {"head_width": 0}}', '{"text_1": {"heads": 7}}'],
)
def test_senseless_metadata_are_refused(tmp_path: Path, said: str):
    path = models.write_sparse(tmp_path / "a.safetensors", FULL_SIZE, {configs.OVERRIDES_KEY: said})
    assert "a.safetensors" in refusal(path)


# ---------------------------------------------------------------- what it is not


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (models.SD_1, "Stable Diffusion 1.x"),
        (models.SD_2, "Stable Diffusion 2.x"),
        (models.SD_3, "Stable Diffusion 3"),
        (models.FLUX, "Flux"),
        (models.LORA, "is a LoRA"),
        (models.PEFT_LORA, "is a LoRA"),
        (models.LOHA, "is a LoRA"),
        (models.CONTROLNET, "ControlNet"),
        (models.EMBEDDING, "textual-inversion embedding"),
        (models.TEXT_ENCODER, "a text encoder alone"),
        (models.UNKNOWN, "is no SDXL checkpoint"),
        (VAE_ONLY, "a VAE alone"),
        ({name.removeprefix(keys.VAE_PREFIX): shape for name, shape in VAE_ONLY.items()}, "a VAE alone"),
        ({name.removeprefix(keys.UNET_PREFIX): shape for name, shape in UNET_ONLY.items()}, "a UNet alone"),
        ({}, "holds no tensors"),
        (FULL_SIZE | {"edm_mean": (1, 4, 1, 1), "edm_std": (1, 4, 1, 1)}, "EDM"),
        (FULL_SIZE | {keys.UNET_PREFIX + "input_blocks.0.0.weight": (320, 8, 3, 3)}, "8 input channels"),
    ],
)
def test_other_files_are_told_what_they_are(tmp_path: Path, shapes: dict, words: str):
    assert words in refusal(models.write_sparse(tmp_path / "a.safetensors", shapes))


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ((keys.TEXT_1_PREFIX,), "the first text encoder"),
        ((keys.TEXT_2_PREFIX,), "the second text encoder"),
        ((keys.VAE_PREFIX,), "the VAE"),
        ((keys.TEXT_1_PREFIX, keys.TEXT_2_PREFIX, keys.VAE_PREFIX), "lacks the first text encoder (CLIP-L) and"),
    ],
)
def test_a_checkpoint_without_a_part_names_it(tmp_path: Path, lost: tuple[str, ...], words: str):
    shapes = {name: shape for name, shape in FULL_SIZE.items() if not name.startswith(lost)}
    assert words in refusal(models.write_sparse(tmp_path / "a.safetensors", shapes))


def test_a_separate_vae_takes_the_place_of_a_missing_one(tmp_path: Path):
    shapes = {name: shape for name, shape in FULL_SIZE.items() if not name.startswith(keys.VAE_PREFIX)}
    model = models.write_sparse(tmp_path / "a.safetensors", shapes)
    vae = models.write_sparse(tmp_path / "vae.safetensors", VAE_ONLY)
    facts = identify(model, vae)
    assert facts.config.vae is not None and facts.config.vae["block_out_channels"] == (128, 256, 512, 512)


def test_a_vae_of_another_family_is_refused(full_size: Path, tmp_path: Path):
    flux = VAE_ONLY | {keys.VAE_PREFIX + "decoder.conv_in.weight": (512, 16, 3, 3)}
    assert "16 latent channels" in refusal(full_size, models.write_sparse(tmp_path / "vae.safetensors", flux))
    assert "no VAE" in refusal(full_size, models.write_sparse(tmp_path / "lora.safetensors", models.LORA))


def test_the_vae_of_sd_1_is_known_by_the_configuration_beside_it(full_size: Path, tmp_path: Path):
    vae = models.write_sparse(tmp_path / "vae.safetensors", VAE_ONLY)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL", "scaling_factor": 0.18215}')
    assert "0.18215" in refusal(full_size, vae)


@pytest.mark.parametrize("prediction", ["sample", "x0"])
def test_other_predictions_are_refused(tmp_path: Path, prediction: str):
    path = models.write_sparse(tmp_path / "a.safetensors", FULL_SIZE, {"modelspec.prediction_type": prediction})
    assert repr(prediction) in refusal(path)


# ---------------------------------------------------------------- damaged and foreign files


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "pytorch_model.bin", "renamed.safetensors"])
@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"\0" * 60, b"\x80\x02}q\x00." + b"\0" * 60])
def test_a_pickle_is_not_opened_and_the_way_out_is_told(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    words = refusal(tmp_path / name)
    assert "pickle" in words and "Convert it to .safetensors" in words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\0", "not a .safetensors file"),
        (b"\xff" * 8, "not a .safetensors file"),
        (b"\xff" * 4096, "not a .safetensors file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "not a .safetensors file"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GGUF\x03\0\0\0" + b"\0" * 64, "GGUF"),
        ((20).to_bytes(8, "little") + b"{" + b"\0" * 30, "cannot be read"),
        ((4).to_bytes(8, "little") + b"null", "lists no tensors"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
        ((60_000).to_bytes(8, "little") + b"[" * 60_000, "cannot be read"),
    ],
)
def test_what_is_no_model_gets_a_sentence(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert words in refusal(tmp_path / "a.safetensors")


ENTRY = '{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"a": 3}', "broken entry"),
        ('{"a": {"dtype": "F32", "shape": [2]}}', "broken entry"),
        ('{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}', "broken entry"),
        ('{"a": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}', "broken entry"),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}}', "broken entry"),
        ('{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', "does not fit its shape"),
        ('{"a": {"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]}}', "number format"),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}', "gap or an overlap"),
        (f'{{"a": {ENTRY}, "b": {ENTRY}}}', "gap or an overlap"),
        (f'{{"a": {ENTRY}, "a": {ENTRY}}}', "occurs twice"),
        (f'{{"__metadata__": 5, "a": {ENTRY}}}', "metadata"),
        (f'{{"__metadata__": {{"x": 5}}, "a": {ENTRY}}}', "metadata"),
        ('{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', "is cut off"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', "too many"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(tmp_path: Path, header: str, words: str):
    text = header.encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    assert words in refusal(tmp_path / "a.safetensors")


@pytest.mark.slow
def test_a_truncated_file_is_refused_wherever_it_ends(full_size: Path, tmp_path: Path):
    size = full_size.stat().st_size
    whole = full_size.open("rb").read(1_000_000)
    header = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "cut.safetensors"
    for length in (0, 1, 7, 8, 9, 100, header // 2, header - 1, header, header + 1, size // 2, size - 1, size + 1):
        with path.open("wb") as file:
            file.write(whole[: min(length, header)])
            file.truncate(length)
        assert "cut.safetensors" in refusal(path)


@pytest.mark.slow
@settings(max_examples=settings().max_examples // 2)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), longer=st.integers(0, 3))
def test_a_flipped_byte_in_the_header_never_ends_in_a_traceback(tmp_path_factory, place, value, longer):
    start, size = models.header_bytes(FULL_SIZE)
    damaged = bytearray(start)
    for step in range(longer + 1):
        damaged[(int(place * len(start)) + step) % len(start)] = value
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    with path.open("wb") as file:
        file.write(damaged)
        file.truncate(len(start) + size)
    try:
        assert identify(path).layout == "single_file"
    except ModelError as error:
        assert "flipped.safetensors" in str(error)


@pytest.mark.slow
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_shapes_of_no_sdxl_never_end_in_a_traceback(tmp_path_factory, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(FULL_SIZE)))
    shape = data.draw(st.lists(st.integers(0, 700), max_size=5))
    shapes = dict(FULL_SIZE)
    del shapes[name]
    if data.draw(st.booleans()):
        shapes[name] = tuple(shape[:3])
    path = models.write_sparse(tmp_path_factory.getbasetemp() / "odd.safetensors", shapes)
    try:
        assert identify(path).layout == "single_file"
    except ModelError as error:
        assert "odd.safetensors" in str(error)


def test_missing_paths_and_wrong_folders_get_a_sentence(tmp_path: Path):
    assert "no such file" in refusal(tmp_path / "none.safetensors")
    assert "no such file" in refusal(tmp_path / "none.ckpt")
    assert "not a diffusers model" in refusal(tmp_path)
    models.write_sparse(tmp_path / "sdxl.safetensors", models.SD_1)
    assert "such as sdxl.safetensors" in refusal(tmp_path)
    with pytest.raises(ModelError, match="no base model is chosen"):
        identify("")


def test_an_unreadable_path_gets_a_sentence(tmp_path: Path):
    assert "cannot be read" in refusal(tmp_path / ("a" * 300 + ".safetensors"))
    with pytest.raises(ModelError):
        identify("a\0b.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        identify("~nobody of that name/a.safetensors")


def test_read_header_gives_places_in_the_file(tmp_path: Path):
    path = models.write_sparse(tmp_path / "a.safetensors", {"a": (2, 3), "b": ()}, {"k": "v"})
    header = read_header(path)
    assert header.metadata == {"k": "v"}
    assert header.tensors["a"].shape == (2, 3)
    assert header.tensors["b"].end == path.stat().st_size == header.tensors["b"].start + 2
