"""The drawing preset: made, changed, saved and read; every fault is told at once."""

from __future__ import annotations

import json

import pytest
from test_architecture import python_files

from engine.drawing.lora_lines import read_lora_lines
from engine.drawing.settings import BY_PATH, DRAWING_SETTINGS, DrawingPreset, enlarged_px, is_drawing, load
from engine.errors import PresetError, UserError
from engine.preset import Preset, resolve


def faults(**changes) -> dict[str, str]:
    with pytest.raises(PresetError) as caught:
        DrawingPreset().changed({path.replace("__", "."): value for path, value in changes.items()})
    return {problem.where: problem.message for problem in caught.value.problems}


def test_a_saved_preset_comes_back(tmp_path):
    preset = DrawingPreset().changed(
        {"picture.prompt": "a cat\nBREAK", "hires.on": True, "loras.files": "a.safetensors"}
    )
    preset.save(tmp_path / "drawing.json")
    assert load(tmp_path / "drawing.json") == preset


def test_drawing_presets_are_told_from_those_of_runs(tmp_path):
    DrawingPreset().save(tmp_path / "drawing.json")
    Preset().save(tmp_path / "run.json")
    (tmp_path / "broken.json").write_text("{")
    assert [is_drawing(tmp_path / name) for name in ("drawing.json", "run.json", "broken.json", "none.json")] == [
        True, False, False, False,
    ]  # fmt: skip


def load_text(folder, text: str) -> DrawingPreset:
    path = folder / "text.json"
    path.write_text(text)
    return load(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "run"}', '{"version": 9}', "[" * 100_000])
def test_what_is_no_drawing_preset_is_refused(tmp_path, text):
    with pytest.raises(UserError):
        load_text(tmp_path, text)


def test_all_faults_are_told_at_once():
    found = faults(picture__widht_px=3, sampling__sampler="x", picture__height_px=7, image__mask="mask.png")
    assert found.keys() == {"picture.widht_px", "sampling.sampler", "picture.height_px", "image.mask"}
    assert found["picture.widht_px"].endswith("Did you mean picture.width_px?")
    assert found["picture.height_px"] == "must be a whole number from 64 to 4096, a multiple of 8 (got 7)."


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("sampling.sigmas", {"sampling__sampler": "ddim", "sampling__sigmas": "karras"}),
        ("image.mask", {"image__mask": "mask.png"}),
        ("image.area", {"image__area": "masked", "image__init": "a.png"}),
        ("hires.on", {"hires__on": True, "image__init": "a.png"}),
        ("image.denoising_strength", {"image__init": "a.png", "image__denoising_strength": 0.1, "sampling__steps": 9}),
        ("hires.denoising_strength", {"hires__on": True, "hires__denoising_strength": 0.1, "hires__steps": 9}),
        ("hires.scale", {"hires__on": True, "hires__scale": 4.0, "picture__width_px": 4096}),
        ("model.vae_tiling", {"tiling__vertical": True, "model__vae_tiling": "on"}),
        ("loras.files", {"loras__files": "a.safetensors: strong"}),
    ],
)
def test_what_does_not_go_together_is_told(where, changes):
    assert faults(**changes).keys() == {where}


def test_a_foreign_version_is_refused(tmp_path):
    with pytest.raises(PresetError, match="Update Atelier"):
        load_text(tmp_path, json.dumps({"kind": "drawing", "version": 2}))


def test_enlarged_sizes_are_multiples_of_8():
    preset = DrawingPreset().changed({"hires.on": True, "hires.scale": 1.3, "picture.width_px": 1000})
    assert enlarged_px(preset) == (1296, 1328)
    assert enlarged_px(DrawingPreset()) == (1024, 1024)


def test_a_line_names_file_strengths_and_block_weights():
    short = ",".join(["0.5", "0", *["1"] * 10])
    found, problems = read_lora_lines(
        f"# none\nC:\\a b.safetensors: 0.8\n\n/x/c.safetensors:1:0\n d.safetensors : : : {short}"
    )
    assert problems == []
    assert [(lora.strength, lora.text_strength) for lora in found] == [(0.8, 0.8), (1.0, 0.0), (1.0, 0.5)]
    assert found[1].path == resolve("/x/c.safetensors")
    assert found[2].block_weights == (*[1.0] * 5, 0.0, *[1.0] * 17)


@pytest.mark.parametrize("line", [": 1", "a: 1: 1: 1,2,3", "a: 99", "a: 1: x", "a: 1: 1: x", "a: 1: 1: 1: 1"])
def test_faulty_lines_have_sentences(line):
    found, problems = read_lora_lines("fine.safetensors\n" + line)
    assert len(found) == 1
    assert [problem.message[:8] for problem in problems] == ["line 2: "]


def test_settings_have_help_and_chinese_labels():
    assert all(item.help.endswith(".") and item.zh for item in DRAWING_SETTINGS)
    assert all(other in BY_PATH for item in DRAWING_SETTINGS for other, _ in item.when)


def test_every_setting_is_read_somewhere():
    texts = [path.read_text(encoding="utf-8") for path in python_files("engine/drawing") if path.stem != "groups"]
    assert [item.path for item in DRAWING_SETTINGS if not any(f".{item.name}" in text for text in texts)] == []
