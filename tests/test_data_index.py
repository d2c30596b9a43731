"""An index in place of a training folder: the same subsets as folders of those names would give."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_runs import carry_out, make

from engine.data.scan import CaptionReading, scan
from engine.plan import make_plan
from engine.preset import Preset

FILES = {
    "cats/a.png": None,
    "cats/a.caption": "a cat",
    "cats/deeper/x.png": None,
    "dogs/b.png": None,
    "reg/r.png": None,
}
INDEX = """
[general]
shuffle_caption = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "cats"
  num_repeats = 7
  caption_extension = ".caption"
  [[datasets.subsets]]
  image_dir = "{dogs}"
  class_tokens = "dog"
  [[datasets.subsets]]
  image_dir = "reg"
  is_reg = true
"""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    data = make(tmp_path / "data", FILES)
    (data / "set.toml").write_text(INDEX.format(dogs=data / "dogs"), encoding="utf-8")
    return data / "set.toml"


def test_folders_repeats_class_words_and_captions_are_read_of_an_index(index: Path):
    found = scan(index)
    assert not found.problems
    assert [(s.name, s.repeats, [(i.path.name, i.caption) for i in s.items]) for s in found.subsets] == [
        ("cats", 7, [("a.png", "a cat")]),
        ("dogs", 1, [("b.png", "dog")]),
    ]
    regularization = scan(index, regularization=True)
    assert [(s.name, s.is_regularization) for s in regularization.subsets] == [("reg", True)]


def test_what_an_index_tells_and_is_not_read_is_told(index: Path):
    assert "not resolution, shuffle_caption. Import the file" in str(scan(index).warnings[0])


def test_a_run_is_planned_of_an_index(index: Path):
    preset = Preset().changed({"data.folder": str(index), "captions.extension": ".txt"})
    plan = make_plan(preset)
    assert [(subset.name, subset.repeats, subset.images) for subset in plan.subsets] == [("cats", 7, 1), ("dogs", 1, 1)]
    assert any("names 1 regularization folders, which are not trained" in str(warning) for warning in plan.warnings)
    both = make_plan(preset.changed({"data.regularization_folder": str(index)}))
    assert [subset.name for subset in both.subsets] == ["cats", "dogs", "reg"]
    assert not any("data." in problem.where for problem in both.problems)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "this is not valid TOML"),
        ("x = 1", "has no [[datasets]]"),
        ("[[datasets]]", "names no folder"),
        ('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "nowhere"', "names a folder that is not there"),
        (
            '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "cats"\nnum_repeats = 0',
            "must be a whole number of at least 1",
        ),
        ('[[datasets]]\n[[datasets.subsets]]\nmetadata_file = "cats/m.json"', "captions in a metadata file"),
    ],
)
def test_an_index_that_cannot_be_used_is_a_sentence(index: Path, text: str, said: str):
    index.write_text(text, encoding="utf-8")
    assert said in str(scan(index).problems[0])


def test_folders_of_one_name_are_told_apart(tmp_path: Path):
    data = make(tmp_path / "data", {"a/x/1.png": None, "b/x/2.png": None})
    entries = "\n".join(f'[[datasets.subsets]]\nimage_dir = "{name}/x"' for name in "ab")
    (data / "set.toml").write_text(f"[[datasets]]\n{entries}\n", encoding="utf-8")
    assert [subset.name for subset in scan(data / "set.toml").subsets] == ["a/x", "b/x"]


def test_an_index_that_arrange_wrote_trains_what_links_would(tmp_path: Path):
    data = make(tmp_path / "data", {"cat/a.png": None, "cat/a.txt": "mine", "dog/b.png": None})
    for form, output in (("index", "index.toml"), ("links", "links")):
        carry_out(tmp_path / f"job-{form}", "arrange", folder=data, output=tmp_path / output, form=form, repeats=3)
    seen = [
        sorted(
            (item.path.read_bytes(), item.caption, s.repeats)
            for s in scan(path, CaptionReading()).subsets
            for item in s.items
        )
        for path in (tmp_path / "index.toml", tmp_path / "links")
    ]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2
