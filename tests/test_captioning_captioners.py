"""Captioners loaded from files as a user's would be: what they say follows the image; what is missing is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from captioning_models import BLUE, RED, write_blip, write_tagger
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file

from captioning import caption_tool
from captioning.captioners import CAPTIONERS
from captioning.tagging import TagRules, spaced, square_bgr
from engine.errors import ModelError, PresetError, UserError
from engine.tools.tool import make_settings, settings_table

IMAGES = [Image.new("RGB", (30, 20), RED), Image.new("RGB", (9, 40), BLUE)]


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("wd"))


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blip(tmp_path_factory.mktemp("blip"))


def say(name: str, folder: Path, images=IMAGES, **values: str) -> list[str]:
    captioner = CAPTIONERS[name].load(folder, make_settings(name, CAPTIONERS[name].Settings, values))
    return captioner.caption([captioner.prepare(image) for image in images])


def copied(folder: Path, to: Path, without: str = "") -> Path:
    to.mkdir()
    for path in folder.iterdir():
        if path.name != without:
            (to / path.name).write_bytes(path.read_bytes())
    return to


def test_tags_follow_the_colour_the_most_probable_first_and_characters_last(tagger: Path):
    red, blue = say("wd", tagger, [Image.new("RGB", (30, 30), RED), Image.new("RGB", (30, 30), BLUE)])
    assert red == "red background, 1girl, >_<, hatsune miku"
    assert blue == "blue background, 1girl, >_<"


def test_a_lower_threshold_writes_more_and_left_out_tags_are_not_written(tagger: Path):
    image = [Image.new("RGB", (30, 30), (0, 0, 0))]
    assert say("wd", tagger, image, general_threshold="0.25", leave_out="1girl, >_<") == ["rarely seen"]
    assert say("wd", tagger, image, character_threshold="0.7", underscores="true") == ["1girl, >_<, hatsune_miku"]


def test_the_order_of_categories_is_chosen_and_what_it_does_not_name_is_not_written(tagger: Path):
    image = [Image.new("RGB", (30, 30), RED)]
    assert say("wd", tagger, image, order="rating, character, general") == [
        "sensitive, hatsune miku, red background, 1girl, >_<"
    ]
    assert say("wd", tagger, image, order="rating,general", rating_threshold="0.999") == ["red background, 1girl, >_<"]
    with pytest.raises(
        UserError, match=r"wd\.order: must name some of general, character, rating, each once \(got 'x'"
    ):
        say("wd", tagger, image, order="x")


def test_tags_are_replaced_merged_once_and_taken_out(tagger: Path):
    image = [Image.new("RGB", (30, 30), RED)]
    assert say("wd", tagger, image, replace="1girl, hatsune_miku -> miku, solo; >_< ->") == [
        "red background, miku, solo"
    ]
    assert say(
        "wd", tagger, image, replace="red background -> ugly\n1GIRL -> girl", leave_out="ugly, Hatsune_Miku"
    ) == ["girl, >_<"]
    with pytest.raises(UserError, match=r"wd\.replace: each line must look like: .* \(got '-> b'\)"):
        say("wd", tagger, image, replace="a -> b; -> b")


def test_brackets_are_escaped_where_they_would_be_weights():
    rules = TagRules(("character",), {"character": 0.5}, escape=True)
    assert rules.text([("fate_(series)", "4")], np.array([1.0])) == r"fate \(series\)"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_onnxruntime_falls_back_from_is_a_sentence(tagger: Path, monkeypatch: pytest.MonkeyPatch):
    import onnxruntime

    here = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: here)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with pytest.raises(UserError, match="onnxruntime-gpu cannot use this GPU"):
        say("wd", tagger, device="cuda")


def test_a_tagger_exported_without_batches_says_the_same(tagger: Path, tmp_path: Path):
    assert say("wd", write_tagger(tmp_path, batch=1)) == say("wd", tagger)


def test_taggers_see_the_whole_image_on_white_with_blue_first():
    pixels = square_bgr(Image.new("RGB", (40, 20), RED), 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels[8, 8].tolist() == [20, 20, 220]
    assert pixels[0, 8].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("long_hair", "long hair"), ("o_o", "o_o"), ("||_||", "||_||"), ("0_0", "0_0"), ("2_girls", "2 girls")],
)
def test_underscores_become_blanks_but_in_faces(name: str, shown: str):
    assert spaced(name) == shown


def test_a_tag_list_of_another_model_is_refused(tagger: Path, tmp_path: Path):
    folder = copied(tagger, tmp_path / "wd")
    table = folder / "selected_tags.csv"
    table.write_text(table.read_text(encoding="utf-8") + "9,one_more,0,1\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"selected_tags\.csv: names 8 tags, model\.onnx gives 7"):
        say("wd", folder)


@pytest.mark.slow
def test_blip_says_what_it_sees_in_its_own_words(blip: Path):
    assert say("blip", blip) == ["a red square", "a blue square"]


def test_blip_goes_on_from_a_prompt_and_stops_at_its_limit(blip: Path):
    assert say("blip", blip, prompt="a photo of") == ["a photo of a red square", "a photo of a blue square"]
    assert say("blip", blip, max_tokens="2", beams="1") == ["a red", "a blue"]


def test_a_blip_with_only_a_vocabulary_and_an_older_processor_file_loads(blip: Path, tmp_path: Path):
    folder = copied(blip, tmp_path / "old", without="tokenizer.json")
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor["image_processor"]), encoding="utf-8")
    assert say("blip", folder) == ["a red square", "a blue square"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("wd", "model.onnx"),
        ("wd", "selected_tags.csv"),
        ("blip", "config.json"),
        ("blip", "model.safetensors"),
        ("blip", "processor_config.json"),
    ],
)
def test_a_missing_or_empty_file_is_named_in_one_sentence(request, tmp_path: Path, name: str, file: str):
    whole = request.getfixturevalue({"wd": "tagger"}.get(name, name))
    folder = copied(whole, tmp_path / "model", without=file)
    with pytest.raises(ModelError, match=rf"the model is incomplete: .*{file}.* missing\. Download") as missing:
        say(name, folder)
    assert len(missing.value.problems) == 1
    (folder / file).write_bytes(b"")
    with pytest.raises(ModelError, match=rf"the model is incomplete: {file} empty\. Download"):
        say(name, folder)


@pytest.mark.parametrize(("name", "file"), [("wd", "model.onnx"), ("blip", "model.safetensors")])
def test_weights_that_were_cut_off_are_a_sentence(request, tmp_path: Path, name: str, file: str):
    folder = copied(request.getfixturevalue({"wd": "tagger"}.get(name, name)), tmp_path / "model")
    (folder / file).write_bytes((folder / file).read_bytes()[:-20])
    with pytest.raises(ModelError, match=r"cannot be loaded \(.+\)\. Download it again"):
        say(name, folder)


def test_a_missing_part_of_divided_weights_is_named(blip: Path, tmp_path: Path):
    folder = copied(blip, tmp_path / "model", without="model.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}), encoding="utf-8")
    (folder / parts["a"]).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"incomplete: model-00002-of-00002\.safetensors missing"):
        say("blip", folder)


def test_weights_that_are_in_no_file_are_refused_instead_of_made_up(blip: Path, tmp_path: Path):
    folder = copied(blip, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "crossattention" in name)
    save_file(
        {key: value for key, value in tensors.items() if key != name}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=rf"1 of its weights are in no file \(the first is {name}\)"):
        say("blip", folder)


def test_another_kind_of_model_is_refused(blip: Path, tmp_path: Path):
    folder = copied(blip, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "blip-2"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"another kind of model \(got model_type 'blip-2', not 'blip'\)"):
        say("blip", folder)


@pytest.mark.parametrize("name", CAPTIONERS)
def test_every_captioner_names_a_folder_that_is_not_there(name: str, tmp_path: Path):
    with pytest.raises(ModelError, match="there is no such folder"):
        say(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", CAPTIONERS)
def test_every_setting_of_a_captioner_has_a_sentence_and_a_chinese_label(name: str):
    table = settings_table(name, CAPTIONERS[name].Settings)
    assert next(iter(table)) == "device"
    assert all(item.help.endswith(".") and item.zh for item in table.values())


def test_all_wrong_settings_are_told_at_once():
    wrong = {"wd.general_threshold": "2", "wd.characterthreshold": "0.5", "blip.device": "gpu", "captioner": "x"}
    with pytest.raises(PresetError) as error:
        make_settings("caption", caption_tool.Settings, wrong)
    assert sorted(str(problem) for problem in error.value.problems) == [
        "--set blip.device: must be one of auto, cpu, cuda (got 'gpu').",
        f"--set captioner: must be one of {', '.join(CAPTIONERS)} (got 'x').",
        "--set wd.characterthreshold: there is no such setting. Did you mean wd.character_threshold?",
        "--set wd.general_threshold: must be a number from 0 to 1 (got '2').",
    ]


def test_names_in_the_settings_are_the_keys_of_the_dict():
    table = settings_table("caption", caption_tool.Settings)
    assert set(table["captioner"].choices) == set(CAPTIONERS)
    assert {name: type(getattr(caption_tool.Settings(), name)) for name in CAPTIONERS} == {
        name: captioner.Settings for name, captioner in CAPTIONERS.items()
    }


def test_a_gpu_that_is_not_there_is_a_sentence(tagger: Path, blip: Path, monkeypatch: pytest.MonkeyPatch):
    import onnxruntime
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="no GPU can be used by this PyTorch"):
        say("blip", blip, device="cuda")
    with pytest.raises(UserError, match=r"onnxruntime computes on the CPU only"):
        say("wd", tagger, device="cuda")


@pytest.mark.slow
def test_the_command_line_and_a_tagger_bring_no_torch(tagger: Path):
    program = (
        "import sys, captioning.__main__; from pathlib import Path; from captioning.models.wd import *;"
        f"load(Path({str(tagger)!r}), Settings()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
