"""The plan: what is announced about images, buckets and steps."""

from __future__ import annotations

import json

import pytest

from engine.forecast import make_forecast
from engine.forecast_words import beside
from engine.measured import Table
from engine.plan import make_plan
from engine.plan_sizes import size_text
from engine.preset import Preset
from engine.sentence import sentence
from tests.training import DEMO, make_images, small_preset


def problems_of(preset):
    return {problem.where: problem.message for problem in make_plan(preset).problems}


def test_an_empty_preset_lacks_a_model_and_images():
    told = problems_of(Preset())
    assert set(told) == {"model.base", "data.folder"}


def test_epochs_or_steps_decide_and_the_plan_says_which(tmp_path):
    by_steps = make_plan(small_preset(tmp_path, run__steps=10))
    assert (by_steps.decided_by, by_steps.steps, by_steps.epochs, by_steps.steps_per_epoch) == ("steps", 10, 2, 8)
    by_epochs = make_plan(small_preset(tmp_path, run__length="epochs", run__epochs=3, run__steps=10))
    assert (by_epochs.decided_by, by_epochs.steps, by_epochs.epochs) == ("epochs", 24, 3)


def test_accumulation_divides_the_steps_of_an_epoch(tmp_path):
    plan = make_plan(small_preset(tmp_path, run__accumulation=3, run__length="epochs", run__epochs=1))
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.steps) == (8, 3, 3)


def test_saves_and_samples_come_when_they_are_due(tmp_path):
    preset = small_preset(
        tmp_path,
        run__steps=20,
        run__save_every_steps=6,
        run__save_every_epochs=1,
        sample__prompts="a\nb",
        sample__every_steps=15,
    )
    plan = make_plan(preset)
    assert plan.save_steps == (6, 8, 12, 16, 18, 20)
    assert plan.sample_steps == (0, 15, 20)
    assert (plan.checkpoints, plan.samples) == (6, 6)
    assert make_plan(preset.changed({"sample.prompts": ""})).sample_steps == ()


def test_a_batch_larger_than_a_bucket_is_a_warning_that_names_it(tmp_path):
    plan = make_plan(small_preset(tmp_path, run__batch_size=4))
    (warning,) = plan.warnings
    assert warning.where == "run.batch_size"
    assert "80×48 (2)" in warning.message and "48×80 (2)" in warning.message


def test_an_image_that_fits_no_bucket_is_named(tmp_path):
    make_images(tmp_path / "images", ((64, 64), (300, 4)))
    told = problems_of(small_preset(tmp_path, data__upscale_small_images=False))
    ((where, message),) = told.items()
    assert where.endswith("1.png") and "300 × 4" in message


def test_regularization_images_match_the_training_images(tmp_path):
    make_images(tmp_path / "general", ((64, 64),) * 3)
    plan = make_plan(small_preset(tmp_path, data__regularization_folder=str(tmp_path / "general")))
    repeats = [image.repeats for image in plan.images if image.is_regularization]
    assert sum(repeats) == 8 and max(repeats) - min(repeats) <= 1


def test_regularization_images_within_the_training_folder_are_refused(tmp_path):
    preset = small_preset(tmp_path)
    folder = make_images(tmp_path / "images" / "general")
    told = problems_of(preset.changed({"data.regularization_folder": str(folder)}))
    assert "lies in the training folder" in told["data.regularization_folder"]


def test_a_broken_image_is_a_warning_or_a_problem(tmp_path):
    preset = small_preset(tmp_path)
    broken = tmp_path / "images" / "2_sks thing" / "9.png"
    broken.touch()
    assert str(broken) in [warning.where for warning in make_plan(preset).warnings]
    assert str(broken) in problems_of(preset.changed({"data.broken_images": "stop"}))


def test_too_little_disk_is_told_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.plan_sizes.shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    told = problems_of(small_preset(tmp_path))
    assert "1.0 kB are free" in told["run.folder"]


def test_faults_of_the_model_stand_at_its_setting(tmp_path):
    preset = small_preset(tmp_path)
    assert "model.base" in problems_of(preset.changed({"model.base": str(tmp_path / "none.safetensors")}))
    assert set(problems_of(preset.changed({"model.vae": str(tmp_path / "none.safetensors")}))) == {"model.vae"}


def test_what_would_stop_the_run_late_is_told_before_the_start(tmp_path):
    preset = small_preset(tmp_path)
    (tmp_path / "file").touch()
    faulty = preset.changed({"captions.clip_skip": 12, "data.cache_folder": str(tmp_path / "file")})
    told = problems_of(faulty)
    assert set(told) == {"captions.clip_skip", "data.cache_folder"}
    assert "3 layers" in told["captions.clip_skip"]


def test_noise_prediction_with_zero_terminal_snr_is_warned_of(tmp_path):
    plan = make_plan(small_preset(tmp_path, model__zero_terminal_snr="yes"))
    assert "model.zero_terminal_snr" in [warning.where for warning in plan.warnings]
    both = small_preset(tmp_path, model__zero_terminal_snr="yes", model__prediction="v_prediction")
    assert make_plan(both).warnings == ()


def test_the_sentence_tells_what_will_be_trained(tmp_path):
    preset = small_preset(
        tmp_path,
        model__base=DEMO,
        run__length="epochs",
        run__epochs=2,
        run__save_every_epochs=1,
        adapter__text_encoder_1=True,
        captions__cache_text=False,
        sample__prompts="a",
        sample__every_epochs=1,
    )
    plan = make_plan(preset)
    forecast = make_forecast(preset, plan, Table(), None)
    assert sentence(preset, plan, forecast) == (
        "UNet and text encoder 1, rank 2, 4 images × 2 repeats ÷ batch 1 = 8 steps an epoch in 3 buckets, 2 epochs, "
        "time not measured yet, on the processor."
    )
    assert beside(plan, forecast).startswith("74912 parameters; 2 checkpoints and 3 samples to come; about ")


def test_the_json_has_what_other_programs_rely_on(tmp_path):
    content = json.loads(make_plan(small_preset(tmp_path)).to_json())
    assert content["subsets"][0]["repeats"] == 2 and content["subsets"][0]["images"] == 4
    assert {"path", "size_px", "bucket_px", "resized_px", "crop_left_top_px"} <= set(content["images"][0])
    assert content["buckets"][0].keys() == {"size_px", "images", "batches"}
    assert {"steps_per_epoch", "epochs", "steps", "problems", "warnings"} <= set(content)
    assert content["model"]["kind"] == "base"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(5, "5 B"), (1500, "1.5 kB"), (23_400_000, "23 MB"), (6.9e9, "6.9 GB"), (1e12, "1000.0 GB")],
)
def test_sizes_are_written_for_people(size_bytes, text):
    assert size_text(size_bytes) == text
