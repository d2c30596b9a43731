"""What the report of a training set says, each figure against a folder made for it."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.__main__ import main
from engine.data.looks import Looks
from engine.data.near_same import Print, fingerprint, near_groups
from engine.data_report import report
from engine.data_report_text import words
from engine.preset import Preset


def scene(seed: int, size_px: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth picture of its own for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size_px, Image.Resampling.BICUBIC)


def put(path: Path, image: Image.Image, caption: str | None = None, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.fixture
def preset(tmp_path: Path):
    """A preset whose training folder is tmp_path/images and whose resolution is 64 × 64."""

    def make(**changes):
        (tmp_path / "images" / "2_x").mkdir(parents=True, exist_ok=True)
        values = {
            "data.folder": str(tmp_path / "images"),
            "data.cache_folder": str(tmp_path / "cache"),
            **{f"data.{name}_px": 64 for name in ("width", "height")},
            **{f"data.bucket_{name}_px": px for name, px in (("min", 32), ("step", 16), ("max", 128))},
        }
        return Preset().changed({**values, **{key.replace("__", "."): value for key, value in changes.items()}})

    return make


def names(paths) -> list[str]:
    return [Path(getattr(path, "path", path)).name for path in paths]


def test_captions_are_counted_for_each_subset(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    put(subset / "a.png", scene(1), "one, two")
    put(subset / "b.png", scene(2), "")
    put(subset / "c.png", scene(3))
    found = report(preset(), look=False)
    assert (found.images, found.shown) == (3, 6)
    row = found.subsets[0]
    assert (row.name, row.repeats, row.shown) == ("2_x", 2, 6)
    assert (row.captions_found, row.captions_missing, row.captions_empty) == (1, 1, 1)
    assert names(found.captions_missing) == ["c.png"] and names(found.captions_empty) == ["b.png"]


def test_tokens_are_counted_per_encoder_with_trigger_and_affixes(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    put(subset / "a.png", scene(1), "cat " * 74)
    put(subset / "b.png", scene(2), "cat " * 160)
    (subset / "b.txt2").write_text("dog")
    one, two = report(preset(captions__second_extension=".txt2"), look=False).encoders
    assert (one.longest_tokens, one.longer) == (160, ((75, 1), (150, 1), (225, 0)))
    assert (two.longest_tokens, two.longer) == (74, ((75, 0), (150, 0), (225, 0)))
    assert names(one.cut) == ["b.png"] and one.cut[0].text == "160 tokens, 75 are read" and two.cut == ()
    with_affixes = report(preset(captions__prefix="a b"), look=False).encoders[0]
    assert names(with_affixes.cut) == ["a.png", "b.png"]


def test_small_thin_and_cut_images_are_named(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    put(subset / "right.png", scene(1, (64, 64)), "")
    put(subset / "small.png", scene(2, (32, 32)), "")
    put(subset / "thin.png", scene(3, (640, 100)), "")
    found = report(preset(), look=False)
    assert [(n, note.text) for n, note in zip(names(found.enlarged), found.enlarged, strict=True)] == [
        ("small.png", "32 × 32, enlarged 2.00 times")
    ]
    assert names(found.extreme) == ["thin.png"] and "6.4 to 1" in found.extreme[0].text
    assert names(found.cut_away) == ["thin.png"]
    square = next(bucket for bucket in found.buckets if bucket.size_px == (64, 64))
    assert (square.images, square.shown, square.mean_cut_share) == (2, 4, 0.0)
    assert sum(part.images for part in found.sizes) == 3 and found.sizes[0].images == 3


def test_the_share_that_is_cut_away_is_that_of_the_pixels(tmp_path, preset):
    put(tmp_path / "images" / "2_x" / "a.png", scene(1, (100, 64)), "")
    found = report(preset(data__bucketing=False), look=False)
    assert found.buckets[0].worst_cut_share == pytest.approx(0.36)


def test_damaged_files_are_named_where_they_are_decoded(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    whole = put(subset / "a.png", scene(1), "")
    (subset / "cut.png").write_bytes(whole.read_bytes()[:900])
    (subset / "empty.jpg").write_bytes(b"")
    found = report(preset())
    assert sorted(names(found.broken)) == ["cut.png", "empty.jpg"]
    assert names(report(preset(), look=False).broken) == ["empty.jpg"]


def test_only_pixels_that_are_not_opaque_are_alpha(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    opaque = scene(1).convert("RGBA")
    put(subset / "opaque.png", opaque, "")
    glass = opaque.copy()
    glass.putpixel((3, 3), (0, 0, 0, 40))
    put(subset / "glass.png", glass, "")
    assert names(report(preset()).alpha) == ["glass.png"]


def test_twins_of_the_same_bytes_and_near_ones(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    first = put(subset / "a.png", scene(1, (400, 300)), "")
    (subset / "copy.png").write_bytes(first.read_bytes())
    put(subset / "small.jpg", scene(1, (400, 300)).resize((300, 225)), "", quality=60)
    put(subset / "other.png", scene(2, (400, 300)), "")
    put(subset / "mirrored.png", scene(1, (400, 300)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "")
    same, near = report(preset()).twins
    assert (names(same.paths), same.is_same_bytes) == (["a.png", "copy.png"], True)
    assert (names(near.paths), near.is_same_bytes) == (["a.png", "small.jpg"], False)


def test_tags_are_counted_once_a_caption(tmp_path, preset):
    subset = tmp_path / "images" / "2_x"
    put(subset / "a.png", scene(1), "red, round, red")
    put(subset / "b.png", scene(2), "red, blue")
    found = report(preset(), look=False)
    assert dict(found.tags) == {"red": 2, "round": 1, "blue": 1} and found.tags[0] == ("red", 2)
    assert found.tags_in_all == 3


def test_an_empty_folder_is_a_problem_not_a_fault(preset):
    found = report(preset())
    assert found.images == 0 and found.buckets == () and found.problems
    assert "0 images" in words(found)


def test_what_was_looked_at_is_remembered_by_content(tmp_path, preset, monkeypatch):
    subset = tmp_path / "images" / "2_x"
    path = put(subset / "a.png", scene(1), "")
    then = time.time() - 60
    os.utime(path, (then, then))
    first = report(preset())
    monkeypatch.setattr("engine.data.looks.open_small", lambda *_: pytest.fail("decoded again"))
    path.rename(subset / "b.png")
    assert report(preset()).broken == first.broken == ()
    monkeypatch.undo()
    scene(2).convert("RGBA").save(subset / "b.png")
    (subset / "b.png").write_bytes((subset / "b.png").read_bytes()[:-600])
    assert names(report(preset()).broken) == ["b.png"]


def test_a_damaged_memory_is_made_anew(tmp_path):
    path = put(tmp_path / "a.png", scene(1))
    with Looks(tmp_path / "cache") as looks:
        seen = looks.of(path)
    memory = tmp_path / "cache" / "looks.index"
    assert memory.stat().st_size
    memory.write_bytes(b"not a line\n" + memory.read_bytes()[:-9])
    assert Looks(tmp_path / "cache").of(path) == seen


def test_stopping_keeps_what_was_looked_at(tmp_path):
    paths = [put(tmp_path / f"{n}.png", scene(n)) for n in range(4)]

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Looks(tmp_path / "cache") as looks:
        looks.of_all(paths, stop)
    assert len((tmp_path / "cache" / "looks.index").read_bytes().splitlines()) >= 2


def test_the_command_prints_words_and_json(tmp_path, preset, capsys):
    put(tmp_path / "images" / "2_x" / "a.png", scene(1), "red")
    preset().save(tmp_path / "preset.json")
    assert main(["check", str(tmp_path / "preset.json"), "--report"]) == 0
    told = capsys.readouterr().out
    assert "1 image, 2 shown per epoch" in told and "most frequent: red (1)" in told
    assert main(["check", str(tmp_path / "preset.json"), "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subsets"][0]["captions_found"] == 1


PRINTS = st.builds(Print, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.just(bytes(48)))


@settings(max_examples=40)
@given(st.lists(PRINTS, max_size=6), st.lists(st.tuples(st.integers(0, 63), st.integers(0, 63)), max_size=12))
def test_groups_are_what_links_reach(prints: list[Print], changes: list[tuple[int, int]]):
    prints = [*prints, *(Print(p.dhash ^ (1 << a), p.phash ^ (1 << b), p.colors) for p in prints for a, b in changes)]
    reached = {n: {n} for n in range(len(prints))}
    for one in range(len(prints)):
        for two in range(one):
            bits = [(getattr(prints[one], h) ^ getattr(prints[two], h)).bit_count() for h in ("dhash", "phash")]
            if max(bits) <= 2:
                joined = reached[one] | reached[two]
                for member in joined:
                    reached[member] = joined
    expected = {tuple(sorted(group)) for group in reached.values() if len(group) > 1}
    assert {tuple(group) for group, _ in near_groups(prints, 2)} == expected


def test_colours_and_mirrors_tell_pictures_apart():
    red, blue = (np.full((40, 40, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    assert near_groups([fingerprint(red), fingerprint(blue)], 4) == []
    assert near_groups([fingerprint(red), fingerprint(red)], 0) == [([0, 1], 0)]


@pytest.mark.parametrize("quality", [30, 90])
def test_recompressed_and_resized_copies_are_found(quality: int):
    prints = []
    for seed in range(12):
        original = scene(seed, (240, 180))
        buffer = io.BytesIO()
        original.resize((150, 112)).save(buffer, "JPEG", quality=quality)
        prints += [fingerprint(np.asarray(original)), fingerprint(np.asarray(Image.open(buffer).convert("RGB")))]
    assert [group for group, _ in near_groups(prints, 4)] == [[n, n + 1] for n in range(0, 24, 2)]
