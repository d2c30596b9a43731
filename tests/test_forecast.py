"""Forecasts of time come from the nearest measured run, say how sure they are, and no file can spoil them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from engine import event_log, events
from engine.__main__ import main
from engine.cards import Card, nvidia_cards
from engine.data import order
from engine.errors import UserError
from engine.forecast import CUDA_BYTES, make_forecast
from engine.forecast_words import rows, unlike
from engine.measured import MOST_ROWS, Table, measure_events, note, read_table, table_path
from engine.pace import image_tflop
from engine.plan_memory import MemoryForecast
from engine.sentence import sentence, span
from tests.forecasts import CARD, SQUARE, plan_with, preset_with, row_of
from tests.training import small_preset

GOLDEN = Path(__file__).parent / "golden" / "sentences.txt"
ONE = [(24, 80, False)]
WIDE = [(1024, 1024), (1152, 896), (896, 1152)]
BOTH = {"adapter__text_encoder_1": True, "adapter__text_encoder_2": True, "captions__cache_text": False}
# Name → settings, folders, buckets, card, measured?
TELLING = {
    "the sentence of the design": ({**BOTH, "adapter__rank": 32, "run__batch_size": 4}, ONE, [SQUARE], CARD, True),
    "several subsets": ({"run__batch_size": 2}, [(24, 80, False), (10, 20, False)], [SQUARE], CARD, True),
    "subsets of equal repeats": ({}, [(3, 10, False), (5, 10, False)], [SQUARE], CARD, True),
    "many subsets": ({}, [(3, 2 + place, False) for place in range(5)], [SQUARE], CARD, True),
    "regularization": ({"run__batch_size": 4}, [(20, 10, False), (200, 1, True)], WIDE, CARD, True),
    "accumulation": ({"run__batch_size": 2, "run__accumulation": 4}, ONE, [SQUARE], CARD, True),
    "two GPUs": ({"run__batch_size": 2, "run__gpus": 2}, ONE, [SQUARE], CARD, True),
    "steps decide": ({"run__length": "steps", "run__steps": 1600, "run__batch_size": 4}, ONE, WIDE, CARD, True),
    "time unknown": ({}, ONE, [SQUARE], CARD, False),
    "card unknown": ({"memory__device": "cuda"}, ONE, [SQUARE], None, False),
    "on the processor": ({"memory__device": "cpu"}, ONE, [SQUARE], None, True),
    "text encoder alone": (
        {"adapter__unet": False, "adapter__text_encoder_1": True, "captions__cache_text": False}, ONE, [SQUARE], CARD,
        True,
    ),
    "LoKr with convolutions": (
        {"adapter__algorithm": "lokr", "adapter__rank": 8, "adapter__conv_rank": 4}, ONE, [SQUARE], CARD, True
    ),
    "a part of the blocks": ({"adapter__blocks": "b_lora_style"}, ONE, [SQUARE], CARD, True),
    "too large": ({"run__batch_size": 512}, [(512, 1, False)], [SQUARE], Card("small", 2**30, 2**30), True),
}  # fmt: skip


def told(name: str) -> str:
    settings, folders, sizes, card, is_measured = TELLING[name]
    preset = preset_with(**settings)
    plan = plan_with(preset, folders, sizes)
    full_size = MemoryForecast(5_200_000_000, 1_400_000_000, 806_000_000 * preset.run.batch_size)
    plan = dataclasses.replace(plan, memory=full_size)
    table = Table((row_of(preset, plan, card, sizes=((*SQUARE, 0.65 / 4 * preset.run.batch_size),)),))
    return sentence(preset, plan, make_forecast(preset, plan, table if is_measured else Table(), card))


def test_telling_presets_have_the_sentences_of_the_golden_file():
    """To renew it after a change that is meant: write what this test shows."""
    found = "".join(f"{name}\n    {told(name)}\n" for name in TELLING)
    assert found == GOLDEN.read_text(encoding="utf-8")


def test_time_comes_from_the_same_conditions_first_and_is_else_scaled_by_the_work():
    preset = preset_with(run__batch_size=4)
    plan = plan_with(preset, ONE)
    other = preset.changed({"memory.gradient_checkpointing": True})
    slow, exact = row_of(other, plan, seconds_per_unit=9.0), row_of(preset, plan, sizes=((*SQUARE, 2.0),))
    found = make_forecast(preset, plan, Table((exact, slow)), CARD).time
    assert (found.certainty, found.step_seconds, found.seconds) == ("measured", 2.0, pytest.approx(2.0 * plan.steps))
    scaled = make_forecast(other, plan, Table((exact,)), CARD).time
    assert scaled.certainty == "scaled" and scaled.basis == exact
    base = exact.conditions
    dearer = image_tflop(dataclasses.replace(base, checkpointing=True), SQUARE) / image_tflop(base, SQUARE)
    plain = make_forecast(preset, plan, Table((dataclasses.replace(exact, sizes=()),)), CARD).time.step_seconds
    assert dearer == pytest.approx(20.8 / 14.6, rel=0.01) and plain
    assert scaled.step_seconds == pytest.approx(plain * dearer)
    assert unlike(base, slow.conditions) == ["gradient checkpointing"]


@pytest.mark.parametrize("change", [{"device": "another card"}, {"model": "base 1"}, {"on_gpu": False}])
def test_another_device_or_model_tells_nothing(change):
    preset = preset_with()
    plan = plan_with(preset, ONE)
    row = row_of(preset, plan)
    strange = dataclasses.replace(row, conditions=dataclasses.replace(row.conditions, **change))
    found = make_forecast(preset, plan, Table((strange,)), CARD)
    assert found.time.seconds is None and found.memory_bytes == plan.memory.total_bytes + CUDA_BYTES


def test_a_measured_run_corrects_the_estimate_of_memory():
    preset = preset_with(run__batch_size=4)
    plan = plan_with(preset, ONE)
    row = row_of(preset, plan, memory_bytes=round(1.2 * plan.memory.total_bytes))
    exact = make_forecast(preset, plan, Table((row,)), CARD)
    assert (exact.memory_bytes, exact.memory_certainty) == (row.memory_bytes + CUDA_BYTES, "measured")
    other = preset.changed({"run.batch_size": 2})
    planned = plan_with(other, ONE)
    scaled = make_forecast(other, planned, Table((row,)), CARD)
    assert scaled.memory_bytes == pytest.approx(1.2 * planned.memory.total_bytes + CUDA_BYTES, rel=1e-6)
    assert scaled.fits and json.loads(scaled.to_json())["fits"] is True


def test_a_run_is_measured_from_its_events_by_the_buckets_that_its_steps_showed(tmp_path):
    """With a pace that is a known function of the bucket, each bucket gets its own seconds."""
    preset = preset_with(run__batch_size=2, sample__prompts="a", run__save_every_epochs=0)
    plan = plan_with(preset, [(8, 3, False)], [(1024, 1024), (512, 512)])
    batches = order.epoch_steps(plan.entries, 2, 1, preset.run.seed, 0)
    seconds = {SQUARE: 2.0, (512, 512): 0.5}
    entries = [event_log.Entry("t", events.Started("n", plan.steps, 1, plan.steps_per_epoch, 0, 1, CARD.name))]
    for number, batch in enumerate(batches, start=1):
        took = seconds[plan.images[batch[0][0]].bucket_px]
        step = events.Step(number, 1, 0.1, {}, 0.1, took if number > 2 else 99.0, 2, 5_000 + number)
        entries.append(event_log.Entry("2026-11-12", step))
    entries.append(event_log.Entry("2026-11-12", events.Sampled(1, 0, "a", 1, "p", 28.0)))
    row = measure_events(preset, json.loads(plan.to_json()), entries)
    assert row is not None
    assert {(width, height): took for width, height, took in row.sizes} == seconds
    assert row.memory_bytes == 5_000 + len(batches) and row.conditions.device == CARD.name
    prompt = plan.prompts[0]
    assert row.sample_seconds == pytest.approx(28.0 / prompt.steps / (prompt.width_px * prompt.height_px / 2**20))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    return tmp_path


def test_the_table_keeps_the_last_run_of_each_kind_and_does_not_grow_without_end(home):
    preset = preset_with()
    row = row_of(preset, plan_with(preset, ONE))
    note(row)
    later = dataclasses.replace(row, seconds_per_unit=0.2)
    note(later)
    assert read_table() == Table((later,))
    kinds = [dataclasses.replace(row, conditions=dataclasses.replace(row.conditions, rank=at)) for at in range(1, 9)]
    text = ",\n".join(json.dumps(dataclasses.asdict(kind)) for kind in kinds * 40)
    table_path().write_text(f'{{"v": 1, "rows": [{text}]}}')
    note(row)
    assert len(read_table().rows) == MOST_ROWS and read_table().rows[-1] == row


BROKEN = {
    "half a file": '{"v": 1, "rows": [',
    "another program's": "[1, 2]",
    "no text": "\udcff",
    "deep": "[" * 20000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_told_of_kept_aside_and_begun_anew(home, content):
    table_path().write_bytes(content.encode("utf-8", "surrogateescape"))
    preset = preset_with()
    plan = plan_with(preset, ONE)
    forecast = make_forecast(preset, plan, read_table(), CARD)
    assert "cannot be read" in forecast.fault and dict(rows(preset, plan, forecast))["Note"] == forecast.fault
    note(row_of(preset, plan))
    assert len(read_table().rows) == 1 and (home / "measured.broken.json").exists()


def test_rows_that_make_no_sense_are_left_out_and_a_newer_table_is_left_alone(home):
    preset = preset_with()
    row = row_of(preset, plan_with(preset, ONE))
    good = dataclasses.asdict(row)
    wrong = [
        {**good, "seconds_per_unit": -1}, {**good, "conditions": {**good["conditions"], "rank": "16"}},
        {**good, "sizes": [1]}, {"a": 1}, 7, {**good, "steps": "many"},
    ]  # fmt: skip
    table_path().write_text(json.dumps({"v": 1, "rows": [*wrong, good]}))
    assert read_table().rows == (row,)
    table_path().write_text(newer := json.dumps({"v": 2, "rows": []}))
    with pytest.raises(UserError, match="newer"):
        note(row)
    assert table_path().read_text() == newer


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (42, "40 s"), (3120, "52 min"), (7500, "2 h 5 min"), (273600, "3 d 4 h")]
)
def test_spans_are_told_no_finer_than_they_are_known(seconds, text):
    assert span(seconds) == text


def test_cards_are_read_from_what_the_driver_prints():
    answer = "NVIDIA GeForce RTX 3060, 12288, 11000\nodd line\n"
    assert nvidia_cards(answer) == (Card("NVIDIA GeForce RTX 3060", 12288 * 2**20, 11000 * 2**20),)


@pytest.mark.slow
def test_a_run_leaves_what_it_measured_and_the_next_forecast_uses_it(tmp_path, home, capsys):
    preset = small_preset(tmp_path, run__steps=6)
    preset.save(tmp_path / "preset.json")
    assert main(["train", str(tmp_path / "preset.json")]) == 0
    capsys.readouterr()
    assert main(["forecast", str(tmp_path / "preset.json"), "--json"]) == 0
    time = json.loads(capsys.readouterr().out)["time"]
    assert time["certainty"] == "measured" and time["seconds"] > 0 and time["basis"]["optimizer"] == "adamw"
