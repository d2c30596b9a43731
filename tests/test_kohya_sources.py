"""What a file is: told, or refused in a sentence; sd-scripts' TOML files; the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import kohya
from engine.__main__ import main
from engine.errors import UserError
from engine.kohya.values import ARGUMENTS
from engine.kohya_table import TARGET, page
from engine.preset import load

REFUSED = {
    "not there": (None, "there is no such file"),
    "binary.json": (b"\xff\xfe\x00", "not text"),
    "broken.json": ('{\n "epoch": 1,\n "seed": \n}', "in line 4"),
    "broken.toml": ("resolution = 512\nseed = = 3\n", "line 2"),
    "empty.json": ("{}", "neither a kohya_ss preset"),
    "list.json": ("[1, 2]", "holds no names with values"),
    "other.json": ('{"hello": 1, "world": 2}', "neither a kohya_ss preset"),
    "other.toml": ('[tool.x]\nhello = "world"\n', "neither a kohya_ss preset"),
    "ours.json": ('{"version": 1, "model": {"base": ""}}', "Atelier itself"),
}
OTHER_MODELS = {
    "sd15.json": ('{"sdxl": false, "pretrained_model_name_or_path": "a/b.safetensors"}', "Stable Diffusion 1.5"),
    "sd2.json": ('{"v2": true, "sdxl": true, "epoch": 1}', "Stable Diffusion 2"),
    "flux.json": ('{"flux1_checkbox": true, "network_dim": 4}', "Flux"),
    "flux type.json": ('{"LoRA_type": "Flux1", "network_dim": 4}', "Flux1"),
}
OTHER_TABS = {
    "inversion.json": ('{"num_vectors_per_token": 4, "epoch": 2, "seed": 1}', "textual inversion"),
    "finetuning.json": ('{"caption_metadata_filename": "a", "epoch": 2, "seed": 1}', "fine-tuning"),
    "dreambooth.json": (
        '{"learning_rate_te": 0, "learning_rate_te1": 1, "learning_rate_te2": 0, "epoch": 2}',
        "DreamBooth",
    ),
}


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def group_of(found: kohya.Import, key: str) -> str:
    [group] = [g for g in kohya.GROUPS for line in getattr(found.receipt, g) if line.key == key]
    return group


ALL_REFUSED = REFUSED | OTHER_TABS


@pytest.mark.parametrize("name", ALL_REFUSED)
def test_what_cannot_be_imported_is_said_in_a_sentence(tmp_path, name):
    content, sentence = ALL_REFUSED[name]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        kohya.read(tmp_path / name)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_presets_for_other_models_are_refused_beside_the_receipt(tmp_path, name):
    content, model = OTHER_MODELS[name]
    found = kohya.read(written(tmp_path, name, content))
    assert found.preset is None and model in str(found.problems[0])
    assert sorted(line.key for line in found.receipt.lines()) == sorted(json.loads(content))


def test_a_recipe_that_names_no_model_is_taken_with_a_word_of_warning(tmp_path):
    found = kohya.read(written(tmp_path, "recipe.json", '{"sdxl": false, "network_dim": 4}'))
    assert found.settings["adapter.rank"] == 4
    assert any("SDXL" in warning for warning in found.receipt.warnings)


ARGUMENTS_TOML = """
[model]
pretrained_model_name_or_path = "/models/sdxl.safetensors"
[network]
network_module = "networks.lora"
network_args = ["conv_dim=8", "conv_alpha=4"]
network_alpha = 0
[training]
resolution = "1024,960"
learning_rate = 1e-4
text_encoder_lr = [2e-5, 1e-5]
max_train_epochs = 6
lr_warmup_steps = 12
optimizer_type = "adamw8bit"
optimizer_args = ["weight_decay=0.05"]
lr_scheduler = "cosine"
cache_latents_to_disk = true
sdpa = true
epoch = 3
wandb_api_key = "planted"
"""


def test_arguments_with_sections(tmp_path):
    found = kohya.read(written(tmp_path, "config.toml", ARGUMENTS_TOML))
    assert found.preset is not None
    assert found.receipt.kind == "an sd-scripts configuration"
    expected = {
        "model.base": "/models/sdxl.safetensors", "adapter.conv_rank": 8, "adapter.conv_alpha": 4.0,
        "adapter.alpha": 4.0, "adapter.rank": 4, "data.width_px": 1024, "data.height_px": 960,
        "optimizer.unet_rate": 1e-4, "optimizer.text_encoder_1_rate": 2e-5, "optimizer.text_encoder_2_rate": 2e-5,
        "run.length": "epochs", "run.epochs": 6, "optimizer.warmup_steps": 12, "optimizer.name": "adamw_8bit",
        "optimizer.weight_decay": 0.05, "data.cache_latents": True, "data.bucketing": False,
        "captions.extension": ".caption", "run.save_every_epochs": 0, "run.save_precision": "fp32",
        "memory.precision": "fp32",
    }  # fmt: skip
    assert {path: found.preset.get(path) for path in expected} == expected
    keys = [line.key for line in found.receipt.lines()]
    assert len(keys) == len(set(keys)) == 16
    assert group_of(found, "epoch") == "ignored_effect"
    assert group_of(found, "sdpa") == "converted"
    assert "planted" not in json.dumps(found.receipt.to_dict())


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"v2"}))
def test_each_argument_alone_is_in_one_group(tmp_path, name):
    fact = ARGUMENTS[name]
    value = {"flag": "true", "int": "3", "float": "0.25", "int_or_float": "5"}.get(fact.type, '"text"')
    found = kohya.read(written(tmp_path, "one.toml", f"{name} = {f'[{value}]' if fact.list else value}\n"))
    assert [line.key for line in found.receipt.lines()] == [name]
    assert group_of(found, name) != "ignored_default" or name in ("vae",)


def test_a_share_of_the_steps_stays_a_share(tmp_path):
    toml = 'lr_scheduler = "linear"\nlr_warmup_steps = {}\nmax_train_steps = 200\n'
    for text in ("0.1", '"10%"'):
        assert kohya.read(written(tmp_path, "a.toml", toml.format(text))).settings["optimizer.warmup_share"] == 0.1


def test_lycoris_takes_the_main_rank_for_convolutions(tmp_path):
    toml = 'network_module = "lycoris.kohya"\nnetwork_dim = 16\nnetwork_args = ["algo={}"]\n'
    found = kohya.read(written(tmp_path, "locon.toml", toml.format("locon")))
    assert found.settings["adapter.conv_rank"] == 16
    assert group_of(found, "network_module") == "converted"
    lost = kohya.read(written(tmp_path, "other.toml", toml.format("no_such_algorithm")))
    assert group_of(lost, "network_module") == "ignored_effect"


def test_a_prompt_file_beside_the_configuration_is_read(tmp_path):
    written(tmp_path, "prompts.txt", "a cat --s 20\na dog\n")
    found = kohya.read(written(tmp_path, "a.toml", 'sample_prompts = "prompts.txt"\nseed = 1\n'))
    assert found.settings["sample.prompts"] == "a cat --s 20\na dog"


DATASET_TOML = """
[general]
caption_extension = ".txt"
shuffle_caption = true
enable_bucket = true

[[datasets]]
resolution = 1024
batch_size = 3
max_bucket_reso = 1536

  [[datasets.subsets]]
  image_dir = "{folder}/10_zkt cat"
  num_repeats = 10
  class_tokens = "zkt cat"

  [[datasets.subsets]]
  image_dir = "{folder}/2_style"
  num_repeats = 2
  flip_aug = true
  caption_extension = ".caption"

  [[datasets.subsets]]
  image_dir = "{folder}-reg/1_cat"
  is_reg = true
"""


def test_a_data_set_file(tmp_path):
    found = kohya.read(written(tmp_path, "data.toml", DATASET_TOML.format(folder="/pictures")))
    assert found.preset is not None
    assert found.receipt.kind == "an sd-scripts data-set configuration"
    expected = {
        "data.folder": str(tmp_path / "data.toml"), "data.regularization_folder": str(tmp_path / "data.toml"),
        "run.batch_size": 3,
        "data.width_px": 1024, "data.height_px": 1024, "data.bucket_max_px": 1536, "data.bucketing": True,
        "captions.extension": ".txt", "data.flip": False, "data.upscale_small_images": True, "captions.shuffle": True,
    }  # fmt: skip
    assert {path: found.preset.get(path) for path in expected} == expected
    assert group_of(found, "datasets[0].batch_size") == "honoured"
    assert group_of(found, "datasets[0].subsets[0].image_dir") == "converted"
    assert group_of(found, "general.shuffle_caption") == "honoured"
    assert group_of(found, "datasets[0].subsets[1].flip_aug") == "converted"
    assert group_of(found, "datasets[0].subsets[1].caption_extension") == "converted"
    keys = [line.key for line in found.receipt.lines()]
    assert len(keys) == len(set(keys)) == 15


def test_a_file_with_folders_under_other_names_becomes_the_training_folder_itself(tmp_path):
    alike = DATASET_TOML.replace("  flip_aug = true\n", "").replace('  caption_extension = ".caption"\n', "")
    plain = kohya.read(written(tmp_path, "plain.toml", alike.format(folder="/pictures")))
    assert plain.settings["data.folder"] == "/pictures"
    assert plain.settings["data.regularization_folder"] == "/pictures-reg/1_cat"
    other = alike.format(folder="/pictures").replace("num_repeats = 10", "num_repeats = 7")
    found = kohya.read(written(tmp_path, "data.toml", other))
    assert found.settings["data.folder"] == str(tmp_path / "data.toml")
    assert found.settings["data.regularization_folder"] == str(tmp_path / "data.toml")
    assert {
        group_of(found, f"datasets[0].subsets[0].{key}") for key in ("image_dir", "num_repeats", "class_tokens")
    } == {"converted"}


def test_captions_in_a_metadata_file_are_told_with_what_to_do(tmp_path):
    subset = '[[datasets.subsets]]\nimage_dir = "/p/x"\nmetadata_file = "m.json"\n'
    found = kohya.read(written(tmp_path, "data.toml", "[[datasets]]\nresolution = 768\n" + subset))
    assert "data.folder" not in found.settings
    [line] = [line for line in found.receipt.ignored_effect if line.key == "datasets[0].subsets[0].image_dir"]
    assert "captioning arrange" in line.note


def test_a_data_set_named_in_arguments_is_read_and_decides(tmp_path):
    subset = '[[datasets.subsets]]\nimage_dir = "/p/3_x"\nnum_repeats = 3\n'
    written(tmp_path, "data.toml", "[[datasets]]\nresolution = 768\n" + subset)
    toml = 'dataset_config = "data.toml"\nresolution = "512"\ntrain_batch_size = 4\nseed = 3\n'
    found = kohya.read(written(tmp_path, "a.toml", toml))
    assert (found.settings["data.width_px"], found.settings["data.folder"]) == (768, "/p/3_x")
    assert found.settings["run.batch_size"] == 4
    assert group_of(found, "dataset_config") == "converted"


def test_the_command_writes_a_preset_that_loads_and_prints_the_receipt(tmp_path, capsys):
    source = written(tmp_path, "theirs.json", '{"sdxl": true, "network_dim": 24, "max_train_steps": 50}')
    assert main(["import", str(source), "-o", str(tmp_path / "ours.json"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"honoured", "converted", "ignored_default", "ignored_effect"} <= set(told)
    assert all(set(line) == {"key", "value", "setting", "note"} for group in kohya.GROUPS for line in told[group])
    assert told["preset"] == str(tmp_path / "ours.json") and told["problems"] == []
    assert load(tmp_path / "ours.json").adapter.rank == 24


def test_the_command_never_overwrites(tmp_path, capsys):
    source = written(tmp_path, "theirs.json", '{"sdxl": true, "network_dim": 24}')
    old = written(tmp_path, "ours.json", "mine")
    assert main(["import", str(source), "-o", str(old)]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert old.read_text(encoding="utf-8") == "mine"


def test_the_command_writes_nothing_that_does_not_validate(tmp_path, capsys):
    source = written(tmp_path, "theirs.json", '{"sdxl": true, "network_dim": 9999}')
    assert main(["import", str(source), "-o", str(tmp_path / "ours.json"), "--json"]) == 2
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["preset"] is None and told["problems"][0]["where"] == "adapter.rank"
    assert "adapter.rank" in printed.err
    assert not (tmp_path / "ours.json").exists()


def test_without_json_a_summary_is_printed(tmp_path, capsys):
    source = written(tmp_path, "theirs.json", '{"sdxl": true, "network_dim": 24, "full_fp16": true}')
    assert main(["import", str(source)]) == 0
    printed = capsys.readouterr().out
    assert "a kohya_ss LoRA preset: 3 keys" in printed
    assert "network_dim = 24 → adapter.rank" in printed
    assert "NOT taken over, and they are not at their default: 1" in printed


def test_the_page_in_the_docs_is_the_one_made_from_the_rules():
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m engine.kohya_table"
