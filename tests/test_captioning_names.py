"""Captions from names, and balance."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_runs import actions, carry_out, contents, failure, files, make, propose, undo

from captioning.balancing import MOST_REPEATS, balanced_repeats
from engine.errors import UserError


def texts(folder: Path) -> dict[str, str]:
    return {name: raw.decode() for name, raw in files(folder).items() if name.endswith((".txt", ".caption"))}


def test_folders_and_their_parents_become_keywords_and_fixed_tags_are_added(tmp_path: Path):
    data = make(tmp_path / "top", {"qzy/flawed/10_black_spot/1.jpg": None, "qzy/good/2.jpg": None, "3.jpg": None})
    before = contents(data)
    proposal = propose("name_captions", folder=data, after="black background", trigger="qzy")
    assert contents(data) == before
    assert [(Path(row.source).name, row.note) for row in proposal.rows] == [
        ("3.jpg", "qzy, top, black background"),
        ("1.jpg", "qzy, flawed, black, spot, black background"),
        ("2.jpg", "qzy, good, black background"),
    ]
    code, job = carry_out(tmp_path / "job", "name_captions", folder=data, after="black background", trigger="qzy")
    assert code == 0
    assert texts(data) == {
        "3.txt": "qzy, top, black background\n",
        "qzy/flawed/10_black_spot/1.txt": "qzy, flawed, black, spot, black background\n",
        "qzy/good/2.txt": "qzy, good, black background\n",
    }
    assert undo(job).failed == []
    assert contents(data) == before


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"names": "file"}, "red-hat, cat"),
        ({"names": "file", "separators": "_- "}, "red, hat, cat"),
        ({"names": "file", "drop_numbers": False}, "red-hat, 07, cat"),
        ({"names": "both"}, "my cat, red-hat, cat"),
        ({"names": "both", "from_top": True, "separators": "_ "}, "data, my, cat, red-hat"),
        ({"names": "none", "before": "a, b", "after": "b, c"}, "a, b, c"),
    ],
)
def test_whose_names_and_how_they_are_cut(tmp_path: Path, values: dict[str, object], text: str):
    data = make(tmp_path / "data", {"10_my cat/red-hat_07_cat.png": None})
    assert propose("name_captions", folder=data, **values).rows[0].note == text


@pytest.mark.parametrize(
    ("existing", "text"),
    [
        ("keep", "mine, cat\nsecond"),
        ("only empty", "mine, cat\nsecond"),
        ("append", "mine, cat, good\nsecond\n"),
        ("prepend", "good, mine, cat\nsecond\n"),
        ("replace", "cat, good\n"),
    ],
)
def test_what_becomes_of_captions_that_are_there(tmp_path: Path, existing: str, text: str):
    data = make(tmp_path / "data", {"cat_good/a.png": None, "cat_good/a.txt": "mine, cat\nsecond"})
    before = contents(data)
    _, job = carry_out(tmp_path / "job", "name_captions", folder=data, existing=existing)
    assert texts(data)["cat_good/a.txt"] == text
    after = contents(data)
    if existing != "replace":
        carry_out(tmp_path / "again", "name_captions", folder=data, existing=existing)
        assert contents(data) == after
    if after != before:
        assert undo(job).failed == []
    assert contents(data) == before


def test_an_image_without_any_keyword_is_named_and_no_empty_caption_written(tmp_path: Path):
    data = make(tmp_path / "data", {"10_cat/7.png": None, "10_cat/red.png": None})
    code, job = carry_out(tmp_path / "job", "name_captions", folder=data, names="file")
    assert code == 2
    assert {Path(done.row.source).name: done.outcome for done in job.read_table()[0]} == {
        "7.png": "failed",
        "red.png": "done",
    }
    assert texts(data) == {"10_cat/red.txt": "red\n"}


def test_repeats_are_proposed_with_their_effect_and_folders_renamed(tmp_path: Path):
    data = make(
        tmp_path / "data",
        {f"1_cat/{n}.png": None for n in range(6)} | {f"10_dog/{n}.png": None for n in range(2)} | {"fox/a.png": None},
    )
    before = contents(data)
    proposal = propose("balance", folder=data)
    assert actions(proposal, data) == [
        ("1_cat", "keep", "1_cat"),
        ("10_dog", "rename", "3_dog"),
        ("fox", "rename", "6_fox"),
    ]
    assert proposal.rows[1].note == "2 images: 10 → 3 repeats, 20 → 6 an epoch (74 % → 33 %)"
    assert proposal.summary == "2 folders with other repeats; 27 → 18 images per epoch."
    code, job = carry_out(tmp_path / "job", "balance", folder=data)
    assert code == 0
    assert sorted(path.name for path in data.iterdir()) == ["1_cat", "3_dog", "6_fox"]
    assert sorted(files(data).values()) == sorted(raw for name, raw in before.items() if not name.endswith("/"))
    assert {row.action for row in propose("balance", folder=data).rows} == {"keep"}
    assert undo(job).failed == []
    assert contents(data) == before


def test_folders_in_folders_and_those_that_change_places_are_renamed(tmp_path: Path):
    names = {f"2_a/{n}.png": None for n in range(4)} | {f"2_a/1_b/{n}.png": None for n in range(2)}
    data = make(tmp_path / "data", names)
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "balance", folder=data)
    assert code == 0
    assert {str(path.relative_to(data)) for path in data.rglob("*") if path.is_dir()} == {"1_a", "1_a/2_b"}
    assert undo(job).failed == []
    assert contents(data) == before


def test_a_wish_for_images_per_epoch_is_met_as_closely_as_whole_numbers_allow(tmp_path: Path):
    data = make(tmp_path / "data", {"1_a/1.png": None, "1_b/1.png": None, "1_b/2.png": None})
    assert propose("balance", folder=data, images_per_epoch=100).summary.endswith("3 → 100 images per epoch.")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"1_a/x.png": None, "1_a/y.png": None, "3_b/x.png": None, "2_b/notes.txt": "x"}, "as another folder"),
        ({"1_a/x.png": None, "y.png": None}, "holds images directly"),
        ({"1_a/x.png": None}, "has one class only"),
    ],
)
def test_what_cannot_be_balanced_is_told(tmp_path: Path, names: dict[str, None], said: str):
    data = make(tmp_path / "data", names)
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "balance", folder=data)
    assert code == 2
    assert said in failure(job)
    assert contents(data) == before


def test_a_data_set_file_is_not_renamed_under_its_feet(tmp_path: Path):
    toml = '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "a"\n'
    data = make(tmp_path / "data", {"a/x.png": None, "d.toml": toml})
    with pytest.raises(UserError, match="whose repeats are in that file"):
        propose("balance", folder=data)


CLASSES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), min_size=1, max_size=6)


@given(CLASSES, st.integers(0, 5000))
def test_no_other_allowed_number_of_repeats_comes_closer_to_equal(subsets: list[tuple[str, int]], wanted: int):
    found = balanced_repeats(subsets, wanted)
    images = {word: sum(count for other, count in subsets if other == word) for word, _ in subsets}
    aim = wanted / len(images) if wanted else max(images.values())
    for (word, _), repeats in zip(subsets, found, strict=True):
        assert 1 <= repeats <= MOST_REPEATS

        def off(number: int, count: int = images[word]) -> float:
            return max(number * count / aim, aim / (number * count))

        others = [other for other in (repeats - 1, repeats + 1) if 1 <= other <= MOST_REPEATS]
        assert all(off(repeats) <= off(other) + 1e-9 for other in others)
