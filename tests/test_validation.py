"""Validation: which pictures, what is measured, and that training does not notice."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine import events, run
from engine.data.held_out import family, held_out
from engine.plan import make_plan
from engine.preset import Preset
from engine.report import Reporter
from engine.run import RunFolder
from engine.stopping import Stopping
from engine.train import train
from engine.validation import Course, Gauge, band_edges
from tests.training import events_of, losses_of, make_images, resume_here, small_preset, steps_of, train_here

NAMES = [Path(f"/somewhere/5_cat/{number:03d}.png") for number in range(40)]


def test_copies_of_a_picture_are_one_family():
    names = ["cat.png", "Cat (2).jpg", "cat copy.webp", "cat_flip.png", "cat-crop2.png", "cat_flipped (3).png"]
    assert {family(Path(name)) for name in names} == {"cat"}
    assert len({family(Path(name)) for name in ("cat_1.png", "cat_2.png", "copy.png", "crop.png")}) == 4


@given(share=st.floats(0.01, 0.9), seed=st.integers(0, 99))
def test_the_share_is_held_out_and_the_order_of_files_does_not_matter(share, seed):
    chosen = held_out(NAMES, share, seed)
    assert len(chosen) == max(1, round(share * len(NAMES)))
    assert held_out(list(reversed(NAMES)), share, seed) == chosen
    moved = held_out([Path("/elsewhere") / path.name for path in NAMES], share, seed)
    assert {path.name for path in moved} == {path.name for path in chosen}


def test_another_seed_holds_out_others_and_a_new_picture_changes_one_at_most():
    assert held_out(NAMES, 0.25, 1) != held_out(NAMES, 0.25, 2)
    for number in range(20):
        more = held_out([*NAMES, Path(f"/somewhere/5_cat/new{number}.png")], 0.25, 1)
        assert len(held_out(NAMES, 0.25, 1) - more) <= 1


def test_a_family_is_held_out_whole():
    copies = [path.with_name(f"{path.stem}_flip.png") for path in NAMES]
    chosen = held_out([*NAMES, *copies], 0.2, 3)
    assert all(path.with_name(f"{path.stem}_flip.png") in chosen for path in chosen if "flip" not in path.stem)


def test_bands_cover_the_timesteps_without_gaps():
    assert band_edges(0, 1000, 4) == [0, 250, 500, 750, 1000]
    assert band_edges(100, 110, 3) == [100, 103, 106, 110]


@pytest.mark.parametrize("losses", [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, math.nan, 1.0], [1.0, 0.995, 0.99]])
def test_a_course_counts_what_brought_nothing_better(losses):
    course = Course().after(0, 0.1, 0.01)
    assert course.best_step == 0 and course.waited == 0
    for step, loss in enumerate(losses, start=1):
        course = course.after(step, loss, 0.01)
    expected = {3.0: (3, 0), 1.0: (1, 2), 2.0: (3, 0)}[losses[0]]
    assert (course.best_step, course.waited) == expected
    assert Course.of(json.loads(json.dumps(course.content()))) == course


@pytest.mark.parametrize("content", [None, {}, Course().content(), {**Course().content(), "from_the_future": 1}])
def test_a_state_without_validations_begins_a_course(content):
    assert Course.of(content) == Course()


def test_the_plan_holds_out_whole_pictures_with_their_repeats(tmp_path):
    plan = make_plan(small_preset(tmp_path, validation__share=0.25))
    assert (len(plan.images), len(plan.validation)) == (3, 1)
    assert sum(bucket.images for bucket in plan.buckets) == 6  # 3 pictures × 2 repeats
    assert (plan.subsets[0].images, plan.subsets[0].held_out) == (3, 1)
    assert plan.validation_steps == (0, 4)
    assert not {image.path for image in plan.images} & {image.path for image in plan.validation}
    assert len(json.loads(plan.to_json())["validation"]) == 1


def test_without_validation_nothing_is_held_out(tmp_path):
    plan = make_plan(small_preset(tmp_path))
    assert plan.validation == () and plan.validation_steps == ()
    assert len(plan.images) == 4


def test_regularization_pictures_are_never_held_out(tmp_path):
    general = make_images(tmp_path / "general")
    plan = make_plan(small_preset(tmp_path, validation__share=0.75, data__regularization_folder=str(general)))
    assert not any(image.is_regularization for image in plan.validation)
    assert sum(image.repeats for image in plan.images if image.is_regularization) == 2


def test_holding_out_everything_is_refused(tmp_path):
    images = make_images(tmp_path / "images", sizes=((64, 64),))
    (problem,) = make_plan(small_preset(tmp_path, data__folder=str(images), validation__share=0.5)).problems
    assert problem.where == "validation.share" and "none is left to train" in problem.message


@pytest.mark.parametrize("place", ["images", "images/2_sks thing", "."])
def test_a_validation_folder_among_the_trained_ones_is_refused(tmp_path, place):
    preset = small_preset(tmp_path)
    problems = make_plan(preset.changed({"validation.folder": str(tmp_path / place)})).problems
    assert [problem.where for problem in problems] == ["validation.folder"]


def test_a_validation_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    problems = make_plan(small_preset(tmp_path, validation__folder=str(tmp_path / "empty"))).problems
    assert [problem.where for problem in problems] == ["validation.folder"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run on one picture, validated on two others in a folder, every second step."""
    folder = tmp_path_factory.mktemp("watched")
    return folder, watched_preset(folder), train_here(watched_preset(folder), folder / "whole")


def watched_preset(folder: Path, **changes) -> Preset:
    return small_preset(
        folder,
        **{
            "validation__folder": str(make_images(folder / "others", sizes=((64, 64), (96, 64)))),
            "validation__every_steps": 2,
            "validation__bands": 2,
            "run__steps": 4,
            "run__save_every_steps": 3,
            "data__flip": True,
            **changes,
        },
    )


def weights(made):
    return load_file(made.checkpoints / "tiny.safetensors")


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_validation_is_told_with_its_bands(watched):
    _, _, made = watched
    told = events_of(made, events.Validated)
    assert [event.step for event in told] == [0, 2, 4]
    assert all(event.edges == [0, 500, 1000] and event.images == 2 for event in told)
    assert all(event.loss == pytest.approx(sum(event.bands) / 2) for event in told)
    assert len({event.loss for event in told}) == 3  # it follows the training
    assert told[0].best_step == 0 and told[0].best_loss is None
    best = min(told[1:], key=lambda event: event.loss)
    assert (told[-1].best_step, told[-1].best_loss) == (best.step, best.loss)


@pytest.mark.slow
def test_training_does_not_notice_and_the_best_weights_are_those_of_the_best_step(watched):
    folder, preset, made = watched
    plain = train_here(preset.changed({"validation.folder": "", "run.save_every_steps": 1}), folder / "plain")
    assert events_of(plain, events.Validated) == []
    assert losses_of(plain) == losses_of(made)
    assert same(weights(plain), weights(made))
    best = events_of(made, events.Validated)[-1].best_step
    name = "tiny.safetensors" if best == 4 else f"tiny-{best:06d}.safetensors"
    assert same(load_file(made.checkpoints / "tiny-best.safetensors"), load_file(plain.checkpoints / name))
    last = made.last_checkpoint()
    assert last is not None and last.name == "tiny.safetensors"


@pytest.mark.slow
def test_a_resume_measures_what_is_due_and_remembers_the_best(watched):
    folder, _, made = watched
    half = RunFolder(shutil.copytree(made.path, folder / "half"))
    (half.state / "step-00000004.safetensors").unlink()
    resume_here(half)
    assert events_of(half, events.Started)[-1].from_step == 3
    *first, again = events_of(half, events.Validated)
    assert (again.step, again.loss, again.best_step) == (4, first[-1].loss, first[-1].best_step)


@pytest.mark.slow
def test_the_same_value_each_time_whatever_the_training_seed(watched):
    folder, preset, made = watched
    other = train_here(preset.changed({"run.seed": 7, "run.steps": 1}), folder / "seed")
    assert events_of(other, events.Validated)[0].loss == events_of(made, events.Validated)[0].loss


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"validation.seed": 5}, {"validation.most_batches": 1}, {"validation.bands": 1}])
def test_what_is_measured_follows_the_settings(watched, changes):
    _, preset, made = watched
    other = train_here(preset.changed({**changes, "run.steps": 1, "run.save_every_steps": 0}))
    assert events_of(other, events.Validated)[0].loss != events_of(made, events.Validated)[0].loss


@pytest.mark.slow
def test_validation_without_caches_and_with_trained_text_encoders(watched):
    _, preset, made = watched
    changes = {
        "data.cache_latents": False, "captions.cache_text": False, "adapter.text_encoder_1": True, "run.steps": 1,
        "validation.every_steps": 1,
    }  # fmt: skip
    live = train_here(preset.changed(changes))
    losses = [event.loss for event in events_of(live, events.Validated)]
    assert losses[0] == pytest.approx(events_of(made, events.Validated)[0].loss, rel=1e-3)
    assert losses[1] != losses[0]


@pytest.mark.slow
def test_patience_ends_the_run_with_the_reason(watched):
    folder, preset, _ = watched
    changes = {"validation.patience": 2, "validation.every_steps": 1, "validation.least_improvement": 0.5}
    made = train_here(preset.changed({**changes, "run.steps": 50, "validation.every_epochs": 0}), folder / "early")
    (finished,) = events_of(made, events.Finished)
    assert finished.step == 3 and "2 validations in a row" in finished.reason
    assert finished.checkpoint == "checkpoints/tiny.safetensors" and weights(made)
    assert made.status() == "finished" and len(steps_of(made)) == 3
    resume_here(made)
    assert len(steps_of(made)) == 3  # patience is still used up


@pytest.mark.slow
def test_a_stop_while_measuring_ends_the_run_there_and_the_resume_measures(watched, monkeypatch):
    folder, _, whole = watched
    measure, stops = Gauge.band_losses, iter((False, True))
    stopping = Stopping()

    def band_losses(gauge, unet):
        stopping.asked = next(stops, False)
        yield from measure(gauge, unet)

    monkeypatch.setattr(Gauge, "band_losses", band_losses)
    made = run.create(watched_preset(folder), folder / "interrupted")
    with run.held(made):
        train(run.open_run(made.path)[1], Reporter(made), stopping)
    assert [event.step for event in events_of(made, events.Stopped)] == [2]
    resume_here(made)
    told = {event.step: event.loss for event in events_of(whole, events.Validated)}
    assert {event.step: event.loss for event in events_of(made, events.Validated)} == told
    assert same(weights(made), weights(whole))


@pytest.mark.slow
def test_an_unreadable_validation_picture_is_left_out_with_a_warning(tmp_path):
    preset = watched_preset(tmp_path, run__steps=1)
    victim = tmp_path / "others" / "2_sks thing" / "1.png"
    victim.write_bytes(victim.read_bytes()[:2000])
    made = train_here(preset)
    assert any(str(victim) == event.where for event in events_of(made, events.Warned))
    assert events_of(made, events.Validated)[0].images == 1
