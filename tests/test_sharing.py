"""What a LoRA file tells about itself, by the preset's wishes."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from engine.facts import Biography
from engine.plan import make_plan
from engine.thumbnail import SIDE_PX
from tests.training import small_preset


def told(tmp_path, **changes) -> dict[str, str]:
    preset = small_preset(tmp_path, **changes)
    return Biography(preset, make_plan(preset), "epsilon").at(1)


FIELDS = {
    "title": "title", "author": "author", "description": "description", "license": "license", "tags": "tags",
    "trigger_phrase": "trigger_phrase", "usage_hint": "usage_hint", "merged_from": "merged_from",
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_in_the_file_where_it_is_given(tmp_path, name):
    key = f"modelspec.{FIELDS[name]}"
    assert told(tmp_path).get(key, "") in ("", "tiny")
    assert told(tmp_path, **{f"sharing__{name}": "some words"})[key] == "some words"


def test_a_comment_stands_where_kohya_s_trainer_puts_it(tmp_path):
    assert told(tmp_path, sharing__comment="for me")["ss_training_comment"] == "for me"


def test_the_trigger_word_of_the_captions_is_told_unless_another_is_given(tmp_path):
    assert told(tmp_path, captions__trigger="zkt")["modelspec.trigger_phrase"] == "zkt"
    both = told(tmp_path, captions__trigger="zkt", sharing__trigger_phrase="zkt cat")
    assert both["modelspec.trigger_phrase"] == "zkt cat"


def test_without_training_facts_only_what_programs_need_is_left(tmp_path):
    found = told(tmp_path, sharing__training_facts=False, sharing__title="A cat")
    assert found["ss_network_dim"] == "2" and found["modelspec.title"] == "A cat"
    private = ("ss_tag_frequency", "ss_dataset_dirs", "ss_sd_model_name", "ss_learning_rate", "ss_bucket_info")
    assert not [key for key in private if key in found] and set(private) <= set(told(tmp_path))


def test_the_thumbnail_is_a_small_picture(tmp_path):
    Image.new("RGBA", (900, 600), (200, 30, 30, 128)).save(tmp_path / "cat.png")
    text = told(tmp_path, sharing__thumbnail=str(tmp_path / "cat.png"))["modelspec.thumbnail"]
    head, _, content = text.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        assert picture.width == SIDE_PX and picture.height == pytest.approx(SIDE_PX * 2 / 3, abs=1)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_thumbnail_that_is_no_picture_is_told_before_the_start(tmp_path, content):
    path = tmp_path / "cat.png"
    if content is not None:
        path.write_bytes(content)
    (problem,) = make_plan(small_preset(tmp_path, sharing__thumbnail=str(path))).problems
    assert problem.where == "sharing.thumbnail"


def test_validation_is_told_where_there_is_one(tmp_path):
    found = told(tmp_path, validation__share=0.25, validation__every_steps=3, validation__most_batches=2)
    assert (found["ss_num_validation_images"], found["ss_validation_split"], found["ss_max_validation_steps"]) == (
        "1", "0.25", "2",
    )  # fmt: skip
    assert found["ss_validate_every_n_steps"] == "3" and found["ss_validation_seed"] == "42"
    assert told(tmp_path)["ss_validation_split"] == "0.0"
