"""Batches, repeats, regularization images and steps, against sd-scripts' figures."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from conftest import REFERENCE
from hypothesis import given
from hypothesis import strategies as st

from engine.data.order import (
    Entry,
    batch_counts,
    epoch_batches,
    epochs_for_steps,
    regularization_repeats,
    step_batches,
    steps_for_epochs,
    steps_per_epoch,
)

ROWS = json.loads((REFERENCE / "steps.json").read_text(encoding="utf-8"))["rows"]
SQUARE, WIDE, TALL = (64, 64), (96, 32), (32, 96)
ENTRIES = st.lists(st.builds(Entry, st.sampled_from([SQUARE, WIDE, TALL]), st.integers(0, 4)), max_size=30)

# "5 sq + 3 wide + 2 tall, repeats 2"; the figures put the wide images into the square bucket
TRAINING = {
    "A": [Entry(SQUARE, 2)] * 8 + [Entry(TALL, 2)] * 2,
    "B": [Entry(SQUARE, 3)] * 4 + [Entry(SQUARE, 1)] * 5,
}
REGULARIZATION = {"regS": [1] * 3, "regL": [1] * 40, "reg2": [2] * 6}


def entries_of(case: str) -> list[Entry]:
    training, _, regularization = case.partition("+")
    entries = TRAINING[training]
    if not regularization:
        return entries
    total = sum(entry.repeats for entry in entries)
    repeats = regularization_repeats(total, REGULARIZATION[regularization])
    return entries + [Entry(SQUARE, count) for count in repeats]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['case']}-{row['batch_size']}-{row['grad_accum']}" for row in ROWS])
def test_batches_and_steps_equal_the_reference(row: dict):
    entries, accumulation = entries_of(row["case"]), row["grad_accum"]
    counts = batch_counts(entries, row["batch_size"])
    batches = epoch_batches(entries, row["batch_size"], seed=1, epoch=0)
    assert {f"{w}x{h}": images for (w, h), (images, _) in counts.items()} == row["buckets"]
    assert len(batches) == sum(count for _, count in counts.values()) == row["batches_per_epoch"]
    assert steps_for_epochs(3, len(batches), accumulation) == row["steps_for_3_epochs(max_train_epochs)"]
    assert epochs_for_steps(100, len(batches), accumulation) == row["epochs_for_100_steps"]


@pytest.mark.parametrize("row", [row for row in ROWS if "+" in row["case"]], ids=lambda row: row["case"])
def test_regularization_images_match_the_training_images(row: dict):
    case = row["case"].partition("+")[2]
    repeats = regularization_repeats(row["num_train_images_with_repeats"], REGULARIZATION[case])
    assert sum(repeats) == row["reg_registered_with_repeats"]
    assert sum(count > 0 for count in repeats) == row["reg_registered_unique"]


def test_regularization_images_are_taken_in_order():
    assert regularization_repeats(3, [2, 2, 2]) == (2, 2, 0)
    assert regularization_repeats(8, [1, 1, 1]) == (3, 3, 2)
    assert regularization_repeats(5, []) == ()


@given(st.integers(0, 200), st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_regularization_repeats_reach_the_count_and_overshoot_by_less_than_one_image(total: int, own: list[int]):
    used = regularization_repeats(total, own)
    assert sum(used) >= total
    assert sum(used) - total < max(own)


@given(ENTRIES, st.integers(1, 7), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_draws_every_image_by_its_repeats_and_never_mixes_buckets(
    entries: list[Entry], batch_size: int, seed: int, epoch: int
):
    batches = epoch_batches(entries, batch_size, seed, epoch)
    drawn = Counter(index for batch in batches for index in batch)
    assert drawn == {index: entry.repeats for index, entry in enumerate(entries) if entry.repeats}
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(len({entries[index].bucket_px for index in batch}) == 1 for batch in batches)
    short = Counter(entries[batch[0]].bucket_px for batch in batches if len(batch) < batch_size)
    assert all(count == 1 for count in short.values())


def test_the_order_is_a_function_of_seed_and_epoch():
    entries = [Entry(SQUARE, 3)] * 20
    assert epoch_batches(entries, 2, 1, 5) == epoch_batches(entries, 2, 1, 5)
    assert len({tuple(epoch_batches(entries, 2, *parts)) for parts in ((1, 5), (1, 6), (2, 5))}) == 3


def test_the_order_is_the_same_on_every_machine():
    """Written down once; a change here changes what a resumed run trains on."""
    entries = [Entry(SQUARE, 1)] * 5 + [Entry(WIDE, 2)] * 2
    assert epoch_batches(entries, 2, seed=42, epoch=3) == [(5, 6), (6, 5), (4, 2), (0, 3), (1,)]


def test_every_image_comes_first_about_equally_often():
    entries = [Entry(SQUARE, 1)] * 4
    first = Counter(epoch_batches(entries, 1, 9, epoch)[0][0] for epoch in range(2000))
    assert all(400 < first[index] < 600 for index in range(4))


def test_no_images_are_no_batches():
    assert epoch_batches([], 4, 0, 0) == []
    assert batch_counts([], 4) == {}


def test_accumulation_groups_the_batches_of_an_epoch():
    batches = [(0,), (1,), (2,), (3,), (4,)]
    assert step_batches(batches, 2) == [((0,), (1,)), ((2,), (3,)), ((4,),)]
    assert len(step_batches(batches, 2)) == steps_per_epoch(5, 2)
