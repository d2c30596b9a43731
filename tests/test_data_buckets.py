"""Buckets equal those of sd-scripts, and hold what any bucket must hold."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from conftest import REFERENCE
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.data.buckets import BucketRules, Placement, bucket_sizes, flip, place, random_crop
from engine.errors import DatasetError

CONFIGS = json.loads((REFERENCE / "buckets.json").read_text(encoding="utf-8"))["configs"]
SIZES = st.tuples(st.integers(1, 12_000), st.integers(1, 12_000))


def rules_of(config: dict) -> BucketRules:
    return BucketRules(
        width_px=config["resolution_wh"][0],
        height_px=config["resolution_wh"][1],
        min_px=config["min_bucket_reso"],
        max_px=config["max_bucket_reso"],
        step_px=config["bucket_reso_steps"],
        upscale=not config["bucket_no_upscale"],
    )


@st.composite
def valid_rules(draw: st.DrawFn) -> BucketRules:
    step_px = draw(st.sampled_from([8, 16, 32, 64, 128]))
    low, high = draw(st.integers(1, 8)), draw(st.integers(8, 32))
    sides = st.integers(low * step_px, high * step_px)
    rules = BucketRules(draw(sides), draw(sides), low * step_px, high * step_px, step_px, upscale=draw(st.booleans()))
    assume(not rules.problems())
    return rules


@given(valid_rules(), SIZES)
def test_the_bucket_found_by_bisection_is_the_nearest_of_all(rules: BucketRules, size_px: tuple[int, int]):
    assume(rules.upscale)
    sizes, aspect = bucket_sizes(rules), size_px[0] / size_px[1]
    nearest = size_px if size_px in sizes else min(sizes, key=lambda size: abs(size[0] / size[1] - aspect))
    assert place(size_px, rules).bucket_px == nearest


@pytest.mark.parametrize("config", CONFIGS)
def test_bucket_lists_equal_the_reference(config: dict):
    rules = rules_of(config)
    assert rules.problems() == ()
    assert [list(size) for size in bucket_sizes(rules)] == (config["buckets"] or [])


@pytest.mark.parametrize(
    ("config", "image"),
    [(config, image) for config in CONFIGS for image in config["images"] if "error" not in image],
)
def test_bucket_resize_and_cut_equal_the_reference(config: dict, image: dict):
    found = place(tuple(image["size_wh"]), rules_of(config))
    assert found == Placement(
        bucket_px=tuple(image["bucket_wh"]),
        resized_px=tuple(image["resized_wh"]),
        crop_left_top_px=tuple(image["pixel_crop_left_top"]),
    )


def test_where_the_reference_ends_in_an_error_the_size_and_the_remedy_are_named():
    failing = [(config, image) for config in CONFIGS for image in config["images"] if "error" in image]
    assert failing
    for config, image in failing:
        with pytest.raises(DatasetError, match=r"got 1 × 1 px.*Allow upscaling"):
            place(tuple(image["size_wh"]), rules_of(config))


@pytest.mark.parametrize("size_px", [(63, 500), (20_000, 3), (1, 9000), (30_000, 60)])
def test_images_that_would_get_a_zero_sized_bucket_are_refused(size_px: tuple[int, int]):
    with pytest.raises(DatasetError, match=f"got {size_px[0]} × {size_px[1]} px"):
        place(size_px, BucketRules(upscale=False))


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DatasetError, match="no pixels"):
        place((0, 100), BucketRules())


def test_the_cut_is_on_the_axis_that_is_cut():
    """1920 × 1080 in a bucket of 1344 × 768 loses pixels left and right, none at the top."""
    assert place((1920, 1080), BucketRules()).crop_left_top_px == (10, 0)


@given(valid_rules())
def test_bucket_lists_keep_to_steps_limits_and_area(rules: BucketRules):
    for width_px, height_px in bucket_sizes(rules):
        assert width_px % rules.step_px == height_px % rules.step_px == 0
        assert rules.min_px <= min(width_px, height_px) <= max(width_px, height_px) <= rules.max_px
        assert width_px * height_px <= rules.width_px * rules.height_px


@given(valid_rules())
def test_every_bucket_comes_with_its_mirror_image(rules: BucketRules):
    assert {size[::-1] for size in bucket_sizes(rules)} == set(bucket_sizes(rules))


@given(SIZES, valid_rules())
def test_the_cut_lies_inside_the_resized_image(size_px: tuple[int, int], rules: BucketRules):
    try:
        found = place(size_px, rules)
    except DatasetError:
        assume(False)
        return
    for bucket, resized, start in zip(found.bucket_px, found.resized_px, found.crop_left_top_px, strict=True):
        assert bucket > 0
        assert bucket % rules.step_px == 0
        assert 0 <= start <= resized - bucket


@given(SIZES, valid_rules())
def test_the_shape_is_kept_within_rounding(size_px: tuple[int, int], rules: BucketRules):
    try:
        width_px, height_px = place(size_px, rules).resized_px
    except DatasetError:
        assume(False)
        return
    assert abs(width_px * size_px[1] - height_px * size_px[0]) <= max(size_px)


@given(SIZES, valid_rules())
def test_nothing_is_enlarged_without_upscaling(size_px: tuple[int, int], rules: BucketRules):
    try:
        found = place(size_px, replace(rules, upscale=False))
    except DatasetError:
        assume(False)
        return
    assert all(resized <= size for resized, size in zip(found.resized_px, size_px, strict=True))


@given(SIZES, valid_rules())
def test_upscaling_refuses_no_image_and_cuts_along_one_axis_only(size_px: tuple[int, int], rules: BucketRules):
    found = place(size_px, replace(rules, upscale=True)) if bucket_sizes(replace(rules, upscale=True)) else None
    assert found is not None
    assert any(resized == bucket for resized, bucket in zip(found.resized_px, found.bucket_px, strict=True))


@given(SIZES)
def test_without_buckets_every_image_gets_the_resolution(size_px: tuple[int, int]):
    found = place(size_px, BucketRules(832, 1216, enabled=False))
    assert found.bucket_px == (832, 1216)


@pytest.mark.parametrize(
    ("rules", "where", "text"),
    [
        (BucketRules(step_px=60), "data.bucket_step_px", "multiple of 8 (got 60)"),
        (BucketRules(step_px=0), "data.bucket_step_px", "got 0"),
        (BucketRules(min_px=300), "data.bucket_min_px", "Use 320"),
        (BucketRules(max_px=2000), "data.bucket_max_px", "Use 1984"),
        (BucketRules(min_px=1088), "data.bucket_min_px", "above the resolution's side 1024"),
        (BucketRules(max_px=960), "data.bucket_max_px", "below the resolution's side 1024"),
        (BucketRules(min_px=2112), "data.bucket_min_px", "above the longest side 2048"),
        (BucketRules(width_px=0), "data.width_px", "8 at least (got 0)"),
        (BucketRules(width_px=1001, enabled=False), "data.width_px", "Use 1000"),
        (BucketRules(32, 32, upscale=False), "data.bucket_step_px", "larger than the resolution"),
    ],
)
def test_bad_rules_are_named_with_setting_value_and_remedy(rules: BucketRules, where: str, text: str):
    assert [problem.where for problem in rules.problems() if text in problem.message] == [where]


def test_all_faults_of_the_rules_are_told_at_once():
    found = BucketRules(min_px=100, max_px=3000).problems()
    assert [problem.where for problem in found] == ["data.bucket_min_px", "data.bucket_max_px"]


def test_random_cuts_reach_every_place_evenly():
    placement = Placement((64, 64), (67, 64), (1, 0))
    counts = Counter(random_crop(placement, 7, epoch, index) for epoch in range(20) for index in range(100))
    assert set(counts) == {(0, 0), (1, 0), (2, 0), (3, 0)}
    assert min(counts.values()) > 400


def test_random_cuts_and_flips_depend_on_seed_epoch_and_image_only():
    placement = Placement((64, 64), (1000, 900), (0, 0))
    assert random_crop(placement, 1, 2, 3) == random_crop(placement, 1, 2, 3)
    assert len({random_crop(placement, *parts) for parts in ((1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4))}) == 4
    assert 400 < sum(flip(5, 0, index) for index in range(1000)) < 600


def test_random_cuts_are_the_same_on_every_machine():
    """Written down once; a change here changes what a resumed run trains on."""
    placement = Placement((64, 64), (1000, 900), (0, 0))
    assert [random_crop(placement, 42, 0, index) for index in range(3)] == [(834, 47), (856, 508), (818, 230)]
    assert [flip(42, 0, index) for index in range(8)] == [False, False, True, False, False, False, True, True]
