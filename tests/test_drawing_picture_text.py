"""What pictures carry: written and read back exactly, read from other programs, and never trusted."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.drawing import a1111_settings, comfy_graph, parameters_text
from engine.drawing.picture_notes import NOTES
from engine.drawing.picture_text import Drawn, parameters, read_settings, settings_in, texts_for
from engine.drawing.settings import BY_PATH, DrawingPreset
from engine.errors import UserError

DEFAULT = DrawingPreset()
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\x85"), max_size=20)


@given(LINE, LINE)
def test_pairs_come_back_exactly(one, other):
    pairs = {"Steps": "20", "Lora hashes": one, "CFG scale": "7", "Model": other}
    read = parameters_text.read(parameters_text.write("a", "b", pairs.items()))
    assert (read.prompt, read.negative, dict(read.pairs)) == ("a", "b", pairs)


PROMPTS = ["", "one", 'with "quotes", commas: and colons', "two\nlines", "(a:1.2) [b:c:0.5] {x|y}"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("negative", ["", "bad, worse", "two\nlines"])
def test_prompts_come_back_exactly(prompt, negative):
    read = parameters_text.read(parameters_text.write(prompt, negative, [("Steps", 3), ("Seed", 1), ("Size", "8x8")]))
    assert (read.prompt, read.negative) == (prompt, negative)


def test_a_last_line_that_is_no_pairs_belongs_to_the_prompt():
    assert parameters_text.read("a cat\nstyle: ink, size: big").prompt == "a cat\nstyle: ink, size: big"


OURS = {
    "picture.prompt": 'a "red" fox, snow: deep',
    "picture.negative": "blurry,\nlow",
    "picture.width_px": 832,
    "picture.height_px": 1216,
    "picture.clip_skip": 1,
    "sampling.sampler": "dpmpp_3m_sde",
    "sampling.sigmas": "exponential",
    "sampling.steps": 21,
    "sampling.cfg_scale": 4.5,
    "sampling.cfg_rescale": 0.7,
    "hires.on": True,
    "hires.scale": 1.75,
    "hires.denoising_strength": 0.35,
    "hires.steps": 11,
    "hires.upscaler": "latent",
    "refiner.switch_at": 0.8,
    "tiling.horizontal": True,
}


def test_our_text_alone_restores_all_that_it_has_a_place_for(tmp_path):
    base, refiner = tmp_path / "my, model.safetensors", tmp_path / "refiner.safetensors"
    wanted = {**OURS, "model.base": str(base), "refiner.model": str(refiner)}
    text = parameters(DEFAULT.changed(wanted), Drawn(4294967295, OURS["picture.prompt"], OURS["picture.negative"]))
    found = settings_in({"parameters": text}, [base])
    assert {path: found.values[path] for path in OURS} == OURS
    assert (found.values["picture.seed"], found.values["model.base"]) == (4294967295, str(base))
    assert [note.key for note in found.notes] == ["refiner"]


def test_a_picture_of_ours_restores_its_preset(tmp_path):
    """Also what A1111's text has no place for; each picture of a batch has its own seed."""
    lora = tmp_path / "ink.safetensors"
    base = tmp_path / "base.safetensors"
    for file in (lora, base):
        file.touch()
    changes = {**OURS, "model.base": str(base), "loras.files": f"{lora}: 0.8: 0.5\n# off", "picture.count": 9,
               "picture.prompt": "a {red|blue} fox"}  # fmt: skip
    preset = DEFAULT.changed(changes)
    info = PngInfo()
    for name, text in texts_for(preset, Drawn(77, "a blue fox", "", {"ink": "abc123def456"})).items():
        info.add_text(name, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png", pnginfo=info)
    found = read_settings(tmp_path / "picture.png")
    assert (found.source, found.notes) == ("Atelier", [])
    assert DEFAULT.changed(found.values) == preset.changed({"picture.seed": 77, "picture.count": 1})
    with Image.open(tmp_path / "picture.png") as picture:
        text = picture.info["parameters"]
    assert text.startswith("a blue fox <lora:ink:0.5:0.8>\nSteps: 21, Sampler: DPM++ 3M SDE, Schedule type: Expo")
    assert 'Lora hashes: "ink: abc123def456"' in text


def test_a_part_around_a_mask_is_told_as_a1111_does_and_comes_back(tmp_path):
    for name in ("a", "mask"):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    changes = {"image.init": str(tmp_path / "a.png"), "image.mask": str(tmp_path / "mask.png"), "image.area": "masked",
               "image.padding_px": 64, "image.mask_inverted": True}  # fmt: skip
    texts = texts_for(DEFAULT.changed(changes), Drawn(1, "", ""))
    assert "Mask mode: Inpaint not masked, Inpaint area: Only masked, Masked area padding: 64" in texts["parameters"]
    assert {path: settings_in(texts).values[path] for path in changes} == changes
    (tmp_path / "mask.png").unlink()
    assert settings_in(texts).values["image.area"] == "whole"
    read = settings_in({"parameters": texts["parameters"]})
    assert (read.values["image.padding_px"], read.values["image.mask_inverted"]) == (64, True)
    assert [note.key for note in read.notes] == ["image"]


def test_the_users_folder_is_not_named_in_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.safetensors").touch()
    preset = DEFAULT.changed({"model.base": str(tmp_path / "m.safetensors"), "picture.folder": str(tmp_path)})
    texts = texts_for(preset, Drawn(1, "", ""))
    assert str(tmp_path) not in "".join(texts.values())
    assert settings_in(texts).values["model.base"] == "~/m.safetensors"


A1111 = {
    # the old spelling: the schedule type in the sampler's name
    "Sampler: DPM++ 2M Karras": ("dpmpp_2m", "karras"),
    "Sampler: DPM++ 2M": ("dpmpp_2m", "normal"),
    "Sampler: DPM++ 2M SDE Exponential": ("dpmpp_2m_sde", "exponential"),
    # the new one
    "Sampler: DPM++ 2M, Schedule type: Karras": ("dpmpp_2m", "karras"),
    "Sampler: DPM++ 2M, Schedule type: Automatic": ("dpmpp_2m", "karras"),
    "Sampler: DPM++ 2M SDE, Schedule type: Automatic": ("dpmpp_2m_sde", "exponential"),
    "Sampler: Euler a, Schedule type: Automatic": ("euler_a", "normal"),
    "Sampler: Euler, Schedule type: Uniform": ("euler", "normal"),
}


def _a1111(more: str, prompt: str = "a fox") -> str:
    return f"{prompt}\nNegative prompt: bad\nSteps: 20, {more}, CFG scale: 7, Seed: 5, Size: 1024x768, RNG: CPU"


@pytest.mark.parametrize("written", A1111)
def test_samplers_are_read_in_both_spellings(written):
    found = settings_in({"parameters": _a1111(written)})
    assert (found.values["sampling.sampler"], found.values["sampling.sigmas"]) == A1111[written]
    assert found.notes == []


NOTED = {
    "Sampler: DPM++ SDE Karras": ["sampler"],
    "Sampler: Euler, Schedule type: Beta": ["sigmas"],
    "Sampler: Euler a, Schedule type: Karras": ["sigmas"],
    "Sampler: Euler, ENSD: 31337": ["ensd"],
    "Sampler: Euler, Hires upscale: 2, Hires upscaler: R-ESRGAN 4x+": ["upscaler"],
    "Sampler: Euler, Denoising strength: 0.5": ["image"],
    "Sampler: Euler, Refiner: sd_xl_refiner_1.0 [7440042bbd], Refiner switch at: 0.8": ["refiner"],
    "Sampler: Euler, Model: other": ["model"],
    "Sampler: Euler, RNG: NV": [],  # RNG: CPU comes last here
    "Sampler: Euler, FreeU Version: 2, Zeta: 1": ["unknown"],
    "Sampler: Euler, CFG scale: 7, Hires upscale: 99": ["value"],
    "Sampler: Euler, Clip skip: nan": ["value"],
}


@pytest.mark.parametrize("written", NOTED)
def test_what_is_not_understood_is_noted(written):
    found = settings_in({"parameters": _a1111(written)})
    assert [note.key for note in found.notes] == NOTED[written]
    assert DEFAULT.changed(found.values)


def test_a_seed_of_the_graphics_card_and_one_too_large_are_noted():
    text = "a\nSteps: 20, Sampler: Euler, Seed: 18446744073709551615, Size: 64x64"
    found = settings_in({"parameters": text})
    assert {note.key for note in found.notes} == {"noise", "seed"} and "picture.seed" not in found.values


def test_hires_and_refiner_of_a1111():
    more = "Sampler: Euler, Denoising strength: 0.4, Hires resize: 1536x1152, Hires steps: 8"
    more += ", Hires upscaler: Latent (nearest)"
    values = settings_in({"parameters": _a1111(more)}).values
    assert [values[f"hires.{name}"] for name in ("on", "scale", "steps", "upscaler", "denoising_strength")] == [
        True, 1.5, 8, "latent", 0.4]  # fmt: skip
    assert settings_in({"parameters": _a1111("Sampler: Euler")}).values["hires.on"] is False


def test_sdxl_has_the_layer_before_the_last_in_a1111_always():
    assert settings_in({"parameters": _a1111("Sampler: Euler, Clip skip: 1")}).values["picture.clip_skip"] == 2


def _graph(**changes):
    sampler = {"seed": 9, "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1,
               "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}  # fmt: skip
    lora = {"lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5}
    nodes = {
        "3": ("KSampler", sampler),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "sub\\base.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 896, "height": 1152, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a fox", "clip": ["12", 0]}),
        "7": ("CLIPTextEncode", {"text": ["13", 0], "clip": ["12", 0]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0]}),
        "10": ("LoraLoader", {**lora, "model": ["4", 0], "clip": ["4", 1]}),
        "11": ("LoraLoaderModelOnly", {"lora_name": "x/y.safetensors", "strength_model": 1, "model": ["10", 0]}),
        "12": ("CLIPSetLastLayer", {"stop_at_clip_layer": -3, "clip": ["10", 1]}),
        "13": ("PrimitiveString", {"value": "bad"}),
        **changes,
    }
    content = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}
    return {"prompt": json.dumps(content)}


def test_a_graph_of_comfyui_is_read():
    found = settings_in(_graph(), [Path("/models/base.safetensors")])
    values = found.values
    assert found.notes == [] and found.source == "ComfyUI"
    assert values["picture.prompt"] == "a fox <lora:ink:0.5:0.8> <lora:y:0:1>"
    assert values["picture.negative"] == "bad"
    expected = {"picture.seed": 9, "sampling.steps": 25, "sampling.cfg_scale": 6.5, "sampling.sampler": "dpmpp_2m",
                "sampling.sigmas": "karras", "picture.width_px": 896, "picture.height_px": 1152, "picture.clip_skip": 3,
                "model.base": "/models/base.safetensors", "hires.on": False}  # fmt: skip
    assert {path: values[path] for path in expected} == expected


def test_a_second_pass_is_hires_fix():
    second = {"seed": 1, "steps": 12, "cfg": 6, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
              "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["21", 0]}  # fmt: skip
    graph = _graph(**{
        "20": ("KSampler", second),
        "21": ("LatentUpscaleBy", {"samples": ["3", 0], "scale_by": 1.5}),
        "8": ("VAEDecode", {"samples": ["20", 0]}),
    })  # fmt: skip
    values = settings_in(graph).values
    assert [values[f"hires.{name}"] for name in ("on", "upscaler", "scale", "steps", "denoising_strength")] == [
        True, "latent", 1.5, 12, 0.5]  # fmt: skip
    assert (values["picture.seed"], values["sampling.steps"]) == (9, 25)


def test_base_and_refiner_are_read_with_their_encoders():
    advanced = {"noise_seed": 3, "steps": 30, "cfg": 6, "sampler_name": "euler", "scheduler": "normal",
                "positive": ["6", 0], "negative": ["7", 0]}  # fmt: skip
    graph = _graph(**{
        "3": ("KSamplerAdvanced", {**advanced, "model": ["4", 0], "latent_image": ["5", 0], "end_at_step": 24}),
        "6": ("CLIPTextEncodeSDXL", {"text_g": "a fox in snow", "text_l": "fox", "clip": ["4", 1]}),
        "20": ("KSamplerAdvanced", {**advanced, "model": ["22", 0], "latent_image": ["3", 0], "start_at_step": 24}),
        "22": ("CheckpointLoaderSimple", {"ckpt_name": "refiner.safetensors"}),
        "8": ("VAEDecode", {"samples": ["20", 0]}),
    })  # fmt: skip
    found = settings_in(graph)
    assert (found.values["refiner.switch_at"], found.values["picture.prompt"]) == (0.8, "a fox in snow")
    assert {note.key for note in found.notes} == {"refiner", "encoders", "model"}


def test_circles_and_nonsense_in_graphs_end():
    loop = ("LoraLoader", {"lora_name": "a", "model": ["10", 0]})
    circle = _graph(**{"4": loop, "13": ("String", {"text": ["13", 0]})})
    assert "cycle" in {note.key for note in settings_in(circle).notes}
    for text in ('{"1": {"class_type": "KSampler", "inputs": {}}}', '{"1": 3}', "{", '{"a":' * 5000, "{}"):
        found = settings_in({"prompt": text})
        assert found.notes and DEFAULT.changed(found.values)


@given(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)))
def test_whatever_stands_in_a_graph_gives_allowed_values(value):
    empty = ("EmptyLatentImage", {"width": value, "height": value, "batch_size": 1})
    last = ("CLIPSetLastLayer", {"stop_at_clip_layer": value})
    graph = _graph(**{"5": empty, "13": ("String", {"text": value}), "12": last})
    assert DEFAULT.changed(settings_in(graph).values)


ANYTHING = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none())


@given(st.dictionaries(st.sampled_from([path for path in BY_PATH if path != "loras.files"]), ANYTHING))
def test_whatever_stands_in_our_own_text_gives_allowed_values(values):
    content: dict = {"kind": "drawing"}
    for path, value in values.items():
        section, name = path.split(".")
        content.setdefault(section, {})[name] = value
    found = settings_in({"atelier": json.dumps(content)})
    assert all(BY_PATH[path].type is type(value) for path, value in found.values.items())
    assert not {"picture.folder", "model.device", "loras.folder"} & set(found.values)


ELSEWHERE = ["\\\\host\\share\\m.safetensors", "//host/m.safetensors", "missing.safetensors", "a.png"]


@pytest.mark.parametrize("file", ELSEWHERE)
def test_files_that_are_not_here_are_not_taken(file):
    content = {"kind": "drawing", "image": {"init": file}, "loras": {"files": f"{file}: 0.5"}}
    found = settings_in({"atelier": json.dumps(content)})
    assert "image.init" not in found.values and found.values["loras.files"] == f"# {file}: 0.5"
    assert [note.key for note in found.notes] == ["file", "file"]


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_comments_of_jpeg_and_webp_are_read(tmp_path, kind, order):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + _a1111("Sampler: Euler", "ein Fuchs ü").encode(order)
    Image.new("RGB", (8, 8)).save(tmp_path / f"a.{kind}", exif=exif)
    assert read_settings(tmp_path / f"a.{kind}").values["picture.prompt"] == "ein Fuchs ü"


def test_comfyui_in_webp_and_pictures_without_settings(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + _graph()["prompt"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    assert read_settings(tmp_path / "a.webp").values["picture.seed"] == 9
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert [note.key for note in read_settings(tmp_path / "b.png").notes] == ["nothing"]


def test_what_is_no_picture_is_a_sentence(tmp_path):
    for content in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"RIFF\0\0\0\0WEBPVP8 "):
        (tmp_path / "a.png").write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(UserError, match="cannot be read as a PNG"):
            warnings.simplefilter("ignore")
            read_settings(tmp_path / "a.png")
    with pytest.raises(UserError, match="no such picture"):
        read_settings(tmp_path / "none.png")


def test_the_head_of_a_picture_is_enough(tmp_path):
    info = PngInfo()
    info.add_text("parameters", _a1111("Sampler: Euler"))
    Image.effect_noise((256, 256), 90).save(tmp_path / "whole.png", pnginfo=info)
    (tmp_path / "head.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    assert read_settings(tmp_path / "head.png").values["sampling.steps"] == 20


def test_every_note_can_be_said():
    assert all(text.endswith(".") for text in NOTES.values())


def test_each_sampler_has_its_names():
    samplers = set(BY_PATH["sampling.sampler"].choices)
    assert samplers == set(a1111_settings.SAMPLERS) == set(comfy_graph.SAMPLERS.values())
