"""An index in place of a training folder: the same subsets as folders of those names would give."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tool_runs import carry_out, make

from engine import subset_keys
from engine.caption_source import CaptionSource
from engine.data.index import READ_HERE
from engine.data.scan import CaptionReading, scan
from engine.errors import Problem
from engine.plan import make_plan
from engine.plan_sizes import estimate_disk
from engine.preparing import by_flips
from engine.preset import Preset

REFERENCE = Path(__file__).parent / "reference"

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


def test_a_run_is_planned_of_an_index_with_its_regularization_folders(index: Path, tmp_path: Path):
    preset = Preset().changed({"data.folder": str(index), "captions.extension": ".txt"})
    plan = make_plan(preset)
    found = [(subset.name, subset.repeats, subset.images, subset.is_regularization) for subset in plan.subsets]
    assert found == [("cats", 7, 1, False), ("dogs", 1, 1, False), ("reg", 1, 1, True)]
    assert not of_index(plan.problems, index)
    assert make_plan(preset.changed({"data.regularization_folder": str(index)})).images == plan.images
    make(tmp_path / "other", {"1_animal/x.png": None})
    other = make_plan(preset.changed({"data.regularization_folder": str(tmp_path / "other")}))
    assert [subset.name for subset in other.subsets] == ["cats", "dogs", "1_animal"]
    assert any("these are not trained. Leave this empty" in str(warning) for warning in other.warnings)


OWN = """
[general]
shuffle_caption = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "cats"
  flip_aug = true
  keep_tokens = 1
  caption_prefix = "photo,"
  caption_tag_dropout_rate = 0.5
  caption_extension = ".caption"
[[datasets]]
resolution = [768, 512]
enable_bucket = false
  [[datasets.subsets]]
  image_dir = "dogs"
  class_tokens = "dog, big"
  shuffle_caption = false
  enable_wildcard = true
  caption_dropout_every_n_epochs = 2
"""


def test_each_folder_is_trained_by_what_the_index_tells_of_it(index: Path):
    (index.parent / "cats" / "a.caption").write_text("a cat, sits, grey, in a box, on a rug", encoding="utf-8")
    (index.parent / "dogs" / "b.txt").write_text("{big|small} dog\nanother dog", encoding="utf-8")
    index.write_text(OWN, encoding="utf-8")
    preset = Preset().changed({"data.folder": str(index), "captions.keep_tokens": 2, "captions.shuffle": True})
    plan = make_plan(preset)
    cats, dogs = plan.images
    assert not of_index(plan.problems, index)
    assert [image.bucket_px for image in (cats, dogs)] == [(512, 512), (768, 512)]
    assert [image.value(preset, "data.flip") for image in (cats, dogs)] == [True, False]
    chosen = {
        cats.subset: {"keep_tokens": 1, "prefix": "photo,", "tag_dropout": 0.5},
        dogs.subset: {
            "keep_tokens": 0,
            "shuffle": False,
            "wildcards": True,
            "lines": "random",
            "dropout_every_epochs": 2,
        },
    }  # fmt: skip
    source = CaptionSource(preset, plan)
    for number, image in enumerate((cats, dogs)):
        for_all = preset.changed({f"captions.{name}": value for name, value in chosen[image.subset].items()})
        alone = CaptionSource(for_all, dataclasses.replace(plan, images=(dataclasses.replace(image, own=()),)))
        for step in range(12):
            assert source.caption(number, 0, step) == alone.caption(0, 0, step)
    assert len({source.caption(1, 0, step).one for step in range(12)}) > 2  # lines, choices, and none
    assert set(source.all()) >= {source.caption(number, 0, step) for number in (0, 1) for step in range(plan.steps)}
    [told] = [warning.message for warning in of_index(plan.warnings, index) if "go before" in warning.message]
    assert "data.flip = on for cats" in told
    assert "captions.shuffle = off for dogs" in told


def test_only_mirrored_folders_are_encoded_mirrored_and_counted(index: Path):
    index.write_text(OWN, encoding="utf-8")
    preset = Preset().changed({"data.folder": str(index)})
    cats, dogs = make_plan(preset).images
    assert by_flips(preset, [cats, dogs]) == [((False,), [dogs]), ((False, True), [cats])]
    sizes = [estimate_disk(preset, 0, images, 0, 0).total_bytes for images in ((cats,), (dogs,), ())]
    assert (sizes[0] - sizes[2]) / (2 * 512 * 512) == (sizes[1] - sizes[2]) / (768 * 512)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch_size = 4", "batch_size = 4 for cats, dogs, and a run has one for all pictures (run.batch_size is 1)"),
        ("validation_split = 0.2", "Set validation.share to 0.2, or take validation_split out of the file."),
        ('resize_interpolation = "cubic"', "Set data.resampling to bicubic"),
        ("alpha_mask = true", "Set loss.mask to alpha"),
        ("network_multiplier = 0.5", "tells network_multiplier = 0.5 for cats, dogs, which Atelier does not do"),
        ("face_crop_aug_range = [1.0, 2.0]", "which Atelier does not do"),
        ("custom_attributes = {diff_output_preservation = true}", "use regularization folders"),
        ("shufle_caption = true", "there is no such key. Did you mean shuffle_caption?"),
        ('keep_tokens = "two"', "which needs a number (got 'two')"),
        ('resolution = "big"', "which needs a size such as 1024 or [1024, 768]"),
        ("random_crop = true", "data.random_crop: needs a new cut each epoch, so latents cannot be cached"),
        ("caption_tag_dropout_rate = 2.0", "captions.tag_dropout: must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_done_as_it_is_told_is_a_problem(index: Path, line: str, said: str):
    text = INDEX.format(dogs="dogs").replace("resolution = 512", "").replace("shuffle_caption = true", line)
    index.write_text(text, encoding="utf-8")
    problems = make_plan(Preset().changed({"data.folder": str(index)})).problems
    assert any(said in problem.message for problem in of_index(problems, index))


def test_what_changes_nothing_is_no_problem_and_not_told(index: Path):
    same = """
    cache_info = true
    batch_size = 1
    network_multiplier = 1.0
    resolution = 1024
    keep_tokens = 2
    alpha_mask = false
    validation_seed = 7
    custom_attributes = {note = "mine"}"""
    text = INDEX.format(dogs="dogs").replace("resolution = 512", "").replace("shuffle_caption = true", same)
    index.write_text(text, encoding="utf-8")
    plan = make_plan(Preset().changed({"data.folder": str(index)}))
    assert not of_index((*plan.problems, *plan.warnings), index)


def test_every_key_of_sd_scripts_has_a_place():
    listed = json.loads((REFERENCE / "dataset_toml_keys.json").read_text(encoding="utf-8"))
    assert set(listed) - {"subsets"} <= {*subset_keys.KNOWN, *READ_HERE}


def of_index(found: Sequence[Problem], index: Path) -> list[Problem]:
    return [problem for problem in found if problem.where == str(index)]


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


def test_a_data_set_file_that_is_nested_without_end_is_a_sentence(tmp_path: Path):
    path = tmp_path / "set.toml"
    path.write_text("a = " + "[" * 100_000, encoding="utf-8")
    assert any("not valid TOML: it is nested too deeply" in str(problem) for problem in scan(path).problems)
