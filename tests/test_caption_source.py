"""Which caption each showing has: cached variants and live draws; what is prepared, and what disk it takes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.caption_source import CaptionSource, cached_texts, steps_of
from engine.data import order
from engine.data.caption_draws import EMPTY, Caption
from engine.plan import Plan, make_plan
from engine.preset import SETTINGS, Preset
from tests.training import small_preset

ALL = {
    "captions__shuffle": True,
    "captions__separator": " ",
    "captions__tag_dropout": 0.2,
    "captions__dropout": 0.3,
    "captions__dropout_every_epochs": 3,
    "captions__token_warmup": 7,
    "captions__trigger": "zkt",
    "captions__wildcards": True,
    "captions__prefix": "{x|y}",
}


@pytest.fixture
def planned(tmp_path):
    """The preset and plan of 4 epochs of 8 showings (4 images × 2 repeats), with further settings."""

    def made(**changes: Any) -> tuple[Preset, Plan]:
        preset = small_preset(tmp_path, run__length="epochs", run__epochs=4, **changes)
        return preset, make_plan(preset)

    return made


def run_of(preset: Preset, plan: Plan, first_step: int = 0) -> list[Caption]:
    """Every caption that the run shows, in order, as the batches ask for it."""
    source = CaptionSource(preset, plan)
    found = []
    for step in range(first_step, plan.steps):
        epoch, place = divmod(step, plan.steps_per_epoch)
        groups = source.epoch_steps(epoch)
        showings = order.showings(groups)
        for batch, numbers in zip(groups[place], showings[place], strict=True):
            found += [source.caption(index, number, step) for index, number in zip(batch, numbers, strict=True)]
    return found


@pytest.mark.parametrize("variants", [1, 3, 8, 100])
@pytest.mark.parametrize("size", [{}, {"run__accumulation": 3}, {"run__batch_size": 2, "run__gpus": 2}])
def test_all_that_a_run_asks_for_is_prepared_and_nothing_twice(planned, variants, size):
    changes = {**ALL, **size, "captions__variants": max(variants, 2)}
    preset, plan = planned(**changes)
    prepared = CaptionSource(preset, plan).all()
    assert len(set(prepared)) == len(prepared)
    assert set(run_of(preset, plan)) <= set(prepared)
    assert len(prepared) <= cached_texts(preset, plan.images, plan.epochs, plan.steps)


def test_with_as_many_variants_as_showings_cached_text_is_live_text(planned):
    cached, live = ({**ALL, "captions__cache_text": on, "captions__variants": 8} for on in (True, False))
    assert run_of(*planned(**cached)) == run_of(*planned(**live))


def test_fewer_variants_come_back(planned):
    preset, plan = planned(captions__shuffle=True, captions__separator=" ", captions__variants=2)
    per_image = Counter(caption.one.split()[-1].isdigit() for caption in run_of(preset, plan))
    assert sum(per_image.values()) == 32
    assert len(set(run_of(preset, plan))) == 8  # 4 images × 2 variants


def test_captions_do_not_depend_on_where_a_run_was_resumed(planned):
    preset, plan = planned(**ALL)
    assert run_of(preset, plan)[13:] == run_of(preset, plan, 13)


def test_without_anything_drawn_each_image_has_its_own_caption_once(planned):
    preset, plan = planned()
    texts = {Caption.of(image.caption) for image in plan.images}
    assert set(CaptionSource(preset, plan).all()) == set(run_of(preset, plan)) == texts


def test_dropped_captions_are_one_more_text_at_the_exact_rate(planned):
    preset, plan = planned(captions__dropout=0.25)
    assert CaptionSource(preset, plan).all()[-1] == EMPTY
    source = CaptionSource(preset, plan)
    empty = sum(source.caption(0, showing, 0) == EMPTY for showing in range(8000))
    assert empty / 8000 == pytest.approx(0.25, abs=0.02)


def test_every_nth_epoch_is_without_captions(planned):
    preset, plan = planned(captions__dropout_every_epochs=2)
    epochs = [run_of(preset, plan)[at : at + 8] for at in range(0, 32, 8)]
    assert [set(captions) == {EMPTY} for captions in epochs] == [False, True, False, True]


def test_warm_up_shows_more_tags_from_step_to_step(planned):
    preset, plan = planned(captions__token_warmup=0.5, captions__separator=" ")
    lengths = [len(caption.one.split()) for caption in run_of(preset, plan)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 1 and set(lengths[16:]) == {5}


def test_the_second_caption_goes_to_the_second_encoder_with_draws_of_its_own(planned, tmp_path):
    planned()
    for path in (tmp_path / "images" / "2_sks thing").glob("*.txt"):
        path.with_suffix(".txt2").write_text("a b c d e f g h")
    preset, plan = planned(captions__second_extension=".txt2", captions__shuffle=True, captions__separator=" ")
    captions = run_of(preset, plan)
    assert {"".join(sorted(caption.two.split())) for caption in captions} == {"abcdefgh"}
    assert all("sks" in caption.one for caption in captions)


def test_the_trigger_word_is_not_for_regularization_images(planned, tmp_path):
    planned()
    (tmp_path / "images").rename(tmp_path / "general")
    preset, plan = planned(data__regularization_folder=str(tmp_path / "general"), captions__trigger="zkt")
    source = CaptionSource(preset, plan)
    for index, image in enumerate(plan.images):
        assert source.caption(index, 0, 0).one.startswith("zkt, ") != image.is_regularization


def test_disk_is_counted_with_the_variants(planned):
    preset, plan = planned()
    many, more = planned(captions__shuffle=True, captions__separator=" ", captions__variants=5)
    text_bytes = 77 * 2048 * 4
    assert more.disk_bytes - plan.disk_bytes == (4 * 5 - 4) * text_bytes
    assert planned(captions__dropout=0.5)[1].disk_bytes - plan.disk_bytes == text_bytes
    live = planned(captions__shuffle=True, captions__cache_text=False)[1]
    assert plan.disk_bytes - live.disk_bytes == 4 * text_bytes
    assert many.captions.variants == 5 and preset.captions.variants == 8


# Each setting with a value, and the others that it needs: what the run shows must change
EFFECTS = {
    "captions.second_extension": (".txt2", {}),
    "captions.lines": ("all", {}),
    "captions.trigger": ("zkt", {}),
    "captions.prefix": ("a", {}),
    "captions.suffix": ("a", {}),
    "captions.shuffle": (True, {}),
    "captions.keep_tokens": (2, {"captions.shuffle": True}),
    "captions.keep_separator": ("|||", {}),
    "captions.separator": (".", {"captions.trigger": "x"}),
    "captions.secondary_separator": (";;;", {}),
    "captions.wildcards": (True, {}),
    "captions.tag_dropout": (0.5, {}),
    "captions.never_dropped": ("a", {"captions.tag_dropout": 0.5}),
    "captions.dropout": (0.5, {}),
    "captions.dropout_every_epochs": (2, {}),
    "captions.token_warmup": (30, {}),
    "captions.token_warmup_min": (3, {"captions.token_warmup": 30}),
    "captions.weighted": (True, {"captions.shuffle": True}),
    "captions.variants": (2, {"captions.shuffle": True}),
    "captions.cache_text": (False, {"captions.shuffle": True, "captions.variants": 2}),
    "run.seed": (7, {"captions.shuffle": True}),
}


def test_every_setting_of_the_captions_is_tried_here():
    read_elsewhere = {"captions.extension", "captions.max_tokens", "captions.clip_skip"}
    names = {item.path for item in SETTINGS if item.section == "captions"}
    assert names - read_elsewhere == {path for path in EFFECTS if path.startswith("captions.")}


@pytest.mark.parametrize("path", EFFECTS)
def test_each_setting_changes_what_is_shown(planned, tmp_path, path):
    planned()
    for file in (tmp_path / "images" / "2_sks thing").glob("*.txt"):
        file.write_text("a, (b, c:2), {d|e} ||| f;;;g. h\nsecond line")
        file.with_suffix(".txt2").write_text("other")
    value, others = EFFECTS[path]
    preset = planned()[0].changed(others)
    changed = preset.changed({path: value})
    assert run_of(changed, make_plan(changed)) != run_of(preset, make_plan(preset))


@pytest.mark.parametrize(("amount", "steps"), [(0, 0), (0.25, 25), (0.999, 99), (1, 1), (30, 30)])
def test_below_one_is_a_share_of_the_run(amount, steps):
    assert steps_of(amount, 100) == steps


WARNINGS = {
    "captions.wildcards": ({}, "a {red|blue} thing"),
    "captions.weighted": ({}, "a (red:1.2) thing"),
    "captions.keep_separator": ({"captions__keep_separator": "|||"}, "a, b"),
    "captions.secondary_separator": ({"captions__secondary_separator": ";;;"}, "a, b"),
    "captions.shuffle": ({"captions__shuffle": True}, "no tags here"),
    "captions.token_warmup": ({"captions__token_warmup": 1000}, "a, b"),
    "adapter.text_encoder_stop": (
        {"adapter__text_encoder_stop": 32, "adapter__text_encoder_1": True, "captions__cache_text": False}, "a, b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", WARNINGS)
def test_settings_that_would_do_nothing_with_these_captions_are_told(planned, tmp_path, where):
    changes, caption = WARNINGS[where]
    assert where not in [warning.where for warning in planned()[1].warnings]
    for path in (tmp_path / "images" / "2_sks thing").glob("*.txt"):
        path.write_text(caption)
    assert where in [warning.where for warning in planned(**changes)[1].warnings]
