"""Weights and masks of images, and weightings that do not fit the model, are told before the start."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from engine.plan import make_plan
from engine.plan_loss import parse_weights, weighting_problems
from engine.rules.noise import weighting_faults
from tests.training import make_images, small_preset

SUBSET = "2_sks thing"


def told(plan, where):
    return [item.message for item in (*plan.problems, *plan.warnings) if item.where == where]


def masked_plan(folder, masks, **changes):
    """The plan with a mask folder that holds pictures of these names and sizes."""
    for name, size in masks.items():
        (folder / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 255).save(folder / "masks" / name)
    changes = {"loss__mask": "folder", "loss__mask_folder": str(folder / "masks"), **changes}
    return make_plan(small_preset(folder, **changes))


def test_without_settings_every_image_counts_one_and_has_no_mask(tmp_path):
    images = make_plan(small_preset(tmp_path)).images
    assert {(image.weight, image.mask) for image in images} == {(1.0, None)}


def test_an_image_weighs_what_its_line_says_else_what_its_folder_does(tmp_path):
    plan = make_plan(small_preset(tmp_path, loss__image_weights=f"{SUBSET}: 0.5\n{SUBSET}/2.png: 2"))
    assert {image.path.name: image.weight for image in plan.images} == {
        "0.png": 0.5, "1.png": 0.5, "2.png": 2.0, "3.png": 0.5,
    }  # fmt: skip
    assert plan.problems == ()


def test_weights_leave_regularization_images_alone(tmp_path):
    make_images(tmp_path / "general", ((64, 64),) * 2)
    changes = {"data__regularization_folder": str(tmp_path / "general"), "loss__image_weights": f"{SUBSET}: 3"}
    plan = make_plan(small_preset(tmp_path, **changes))
    assert {(image.is_regularization, image.weight) for image in plan.images} == {(False, 3.0), (True, 1.0)}


def test_weights_of_names_that_are_not_there_are_told_with_the_nearest(tmp_path):
    (message,) = told(make_plan(small_preset(tmp_path, loss__image_weights="2_sks thin: 2")), "loss.image_weights")
    assert "got 2_sks thin" in message and f"Did you mean {SUBSET}?" in message


def test_weights_that_are_all_nothing_are_refused(tmp_path):
    (message,) = told(make_plan(small_preset(tmp_path, loss__image_weights=f"{SUBSET}: 0")), "loss.image_weights")
    assert "nothing would be trained" in message


@pytest.mark.parametrize("line", ["10_cat", "10_cat: much", ": 1", "10_cat: -1", "10_cat: nan", "10_cat: 101"])
def test_a_line_of_weights_that_cannot_be_read_is_quoted(line):
    with pytest.raises(ValueError, match="Write it like") as caught:
        parse_weights(f"5_dog: 1\n{line}")
    assert repr(line) in str(caught.value)


def test_a_name_may_hold_colons_and_either_slash_but_only_once():
    assert parse_weights("\n 10_a: b: 0.5\n10_cat\\x.png:2\n") == {"10_a: b": 0.5, "10_cat/x.png": 2.0}
    with pytest.raises(ValueError, match="twice"):
        parse_weights("a: 1\na: 2")


def test_images_find_their_masks_and_missing_ones_are_counted(tmp_path):
    plan = masked_plan(tmp_path, {f"{SUBSET}/0.png": (64, 64), "1.jpg": (32, 32)})
    assert [image.mask and image.mask.name for image in plan.images] == ["0.png", "1.jpg", None, None]
    assert plan.problems == ()
    (message,) = told(plan, "loss.mask_folder")
    assert message == "2 of 4 images have no mask and count whole: 2.png, 3.png."


def test_masks_of_other_proportions_are_told(tmp_path):
    sizes = {"0.png": (64, 64), "1.png": (64, 32), "2.png": (48, 32), "3.png": (128, 192)}
    (message,) = told(masked_plan(tmp_path, sizes), "loss.mask_folder")
    assert message == "1 image has a mask of other proportions, which is stretched: 1.png."


def test_regularization_images_take_no_masks_from_the_folder(tmp_path):
    make_images(tmp_path / "general", ((64, 64),) * 2)
    masks = {f"{number}.png": (64, 64) for number in range(2)}
    plan = masked_plan(tmp_path, masks, data__regularization_folder=str(tmp_path / "general"))
    assert all(image.mask is None for image in plan.images if image.is_regularization)
    assert sum(image.mask is not None for image in plan.images) == 2


def test_a_mask_that_is_no_picture_is_a_problem(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_text("no picture")
    plan = masked_plan(tmp_path, {})
    assert told(plan, str(tmp_path / "masks" / "0.png"))
    assert plan.problems


@pytest.mark.parametrize(("masks", "what"), [({}, "no such folder"), ({"other.png": (8, 8)}, "holds no mask")])
def test_a_mask_folder_that_is_of_no_use_is_refused(tmp_path, masks, what):
    plan = masked_plan(tmp_path, masks)
    assert any(what in problem.message for problem in plan.problems)


def test_a_mask_folder_within_the_training_folder_is_refused(tmp_path):
    inside = tmp_path / "images" / "masks"
    preset = small_preset(tmp_path, loss__mask="folder", loss__mask_folder=str(inside))
    inside.mkdir()
    assert any("lies in the training folder" in message for message in told(make_plan(preset), "loss.mask_folder"))


def test_images_without_transparency_are_counted(tmp_path):
    preset = small_preset(tmp_path, loss__mask="alpha")
    clear = tmp_path / "images" / SUBSET / "1.png"
    Image.new("RGBA", (64, 64), (1, 2, 3, 0)).save(clear)
    plan = make_plan(preset)
    assert [image.mask for image in plan.images] == [None, clear, None, None]
    (message,) = told(plan, "loss.mask")
    assert message == "3 of 4 images have no transparency and count whole: 0.png, 2.png, 3.png."


def test_weightings_are_held_against_what_the_file_predicts(tmp_path):
    preset = small_preset(tmp_path, loss__scale_v_like_noise=True)
    model = make_plan(preset).model
    assert model is not None
    assert [problem.where for problem in weighting_problems(preset, model)] == ["loss.scale_v_like_noise"]
    velocity = dataclasses.replace(model, prediction="v_prediction")
    assert weighting_problems(preset, velocity) == []
    like = preset.changed({"loss.scale_v_like_noise": False, "loss.v_like": 0.5})
    assert [problem.where for problem in weighting_problems(like, velocity)] == ["loss.v_like"]
    assert weighting_problems(like, model) == []


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"loss__debiased": True}, ["loss.debiased"]),
        ({"loss__v_like": 0.5}, ["loss.v_like"]),
        ({"loss__debiased": True, "noise__max_timestep": 999}, []),
        ({"loss__debiased": True, "noise__min_timestep": 999, "noise__max_timestep": 999}, ["loss.debiased"]),
        ({"loss__min_snr_gamma": 5.0}, []),
    ],
)
def test_weights_that_are_infinite_on_pure_noise_are_refused(tmp_path, changes, faults):
    preset = small_preset(tmp_path, **changes)
    assert [problem.where for problem in weighting_faults(preset, "epsilon", True)] == faults
    assert list(weighting_faults(preset, "epsilon", False)) == []
