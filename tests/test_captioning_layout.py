"""Any layout is understood, and arranged into a folder that trains: the same images, captions and repeats."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from corpus import DATASET, LAYOUTS
from tool_runs import carry_out, contents, failure, make, propose, undo

from captioning import arrange
from captioning.dataset_toml import dataset_text
from captioning.layout import understand
from engine.data.index import IndexedFolder, read_index
from engine.data.scan import scan
from engine.errors import UserError
from engine.toml_text import parse_toml
from engine.tools import moving

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised_and_told_and_nothing_is_touched(tmp_path: Path, name: str):
    case = LAYOUTS[name]
    data = make(tmp_path / "flat", case.files)
    before = contents(tmp_path)
    found = understand(data / case.chosen)
    assert found.shape == case.shape
    assert {
        subset.name: (
            subset.repeats,
            subset.class_word,
            len(subset.pictures),
            sum(p.has_caption for p in subset.pictures),
        )
        for subset in found.subsets
    } == case.subsets
    assert case.said in found.sentence
    assert found.is_trainable == case.trainable
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_arranged_folder_trains_the_same_images_and_captions(tmp_path: Path, name: str):
    case = LAYOUTS[name]
    data = make(tmp_path / "flat", case.files)
    before = contents(data)
    understood = understand(data / case.chosen)
    code, job = carry_out(tmp_path / "job", "arrange", folder=data / case.chosen, output=tmp_path / "new", repeats=4)
    assert code == 0
    assert contents(data) == before
    scanned = scan(tmp_path / "new")
    assert not scanned.problems
    trained = sorted((item.path.read_bytes(), s.repeats) for s in scanned.subsets for item in s.items)
    meant = [(p.image.read_bytes(), s.repeats or 4) for s in understood.subsets for p in s.pictures]
    assert trained == sorted(meant)
    captions = [item for s in scanned.subsets for item in s.items if item.caption_name]
    assert len(captions) == sum(has for _, _, _, has in case.subsets.values())
    assert all(image.stat().st_nlink == 2 for image in (tmp_path / "new").rglob("*.png"))
    assert undo(job).failed == []
    assert not (tmp_path / "new").exists()
    assert contents(data) == before


def test_repeats_and_class_words_are_chosen_and_names_that_meet_get_numbers(tmp_path: Path):
    data = make(tmp_path / "data", {"a/x.png": None, "a/x.txt": "a", "b/X.png": None, "b/X.txt": "b", "b/y.jpg": None})
    code, _ = carry_out(
        tmp_path / "job", "arrange", folder=data, output=tmp_path / "new", class_word="cat", subsets="a = 2\nb = 2 cat"
    )
    assert code == 0
    made = {name for name in contents(tmp_path / "new") if not name.endswith("/")}
    assert made == {"2_cat/x.png", "2_cat/x.txt", "2_cat/X_2.png", "2_cat/X_2.txt", "2_cat/y.jpg"}
    assert (tmp_path / "new" / "2_cat" / "X_2.txt").read_text() == "b"


def test_images_of_one_stem_keep_sharing_their_caption(tmp_path: Path):
    data = make(tmp_path / "data", {"x.png": None, "x.jpg": None, "x.txt": "both"})
    carry_out(tmp_path / "job", "arrange", folder=data, output=tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new" / "1_data").iterdir()) == ["x.jpg", "x.png", "x.txt"]


def test_balance_shows_every_class_equally(tmp_path: Path):
    files = {f"cat/{n}.png": None for n in range(6)} | {f"dog/{n}.png": None for n in range(2)}
    data = make(tmp_path / "data", files)
    carry_out(tmp_path / "job", "arrange", folder=data, output=tmp_path / "new", balance=True)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["1_cat", "3_dog"]


def test_regularization_pictures_get_a_folder_of_their_own(tmp_path: Path):
    data = make(tmp_path / "data", {"img/10_cat/a.png": None, "reg/1_animal/r.png": None})
    carry_out(tmp_path / "job", "arrange", folder=data, output=tmp_path / "new")
    made = {name for name in contents(tmp_path / "new") if not name.endswith("/")}
    assert made == {"train/10_cat/a.png", "regularization/1_animal/r.png"}


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_where_links_cannot_be_copies_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    """Another disk, a file system without links, too many links."""

    def no_links(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    data = make(tmp_path / "data", {"a.png": None})
    monkeypatch.setattr(moving.os, "link", no_links)
    code, job = carry_out(tmp_path / "job", "arrange", folder=data, output=tmp_path / "new")
    copy = tmp_path / "new" / "1_data" / "a.png"
    assert (code, copy.read_bytes(), copy.stat().st_nlink) == (0, (data / "a.png").read_bytes(), 1)
    assert list(copy.parent.iterdir()) == [copy]
    assert undo(job).failed == []
    assert not copy.exists()


def test_undo_never_removes_the_last_name_of_an_image(tmp_path: Path):
    data = make(tmp_path / "data", {"a.png": None, "b.png": None})
    _, job = carry_out(tmp_path / "job", "arrange", folder=data, output=tmp_path / "new")
    (data / "a.png").unlink()
    (tmp_path / "new" / "1_data" / "mine.txt").write_text("mine")
    told = [str(problem) for problem in undo(job).failed]
    assert "its original is not there any more, so this copy stays" in told[0]
    assert "holds files that came later" in told[1]
    assert (tmp_path / "new" / "1_data" / "a.png").is_file()
    assert not (tmp_path / "new" / "1_data" / "b.png").exists()


def test_an_index_names_the_folders_and_is_understood_again(tmp_path: Path):
    data = make(tmp_path / 'da"ta\\猫', {"cat/a.png": None, "cat/a.caption": "a", "dog/b.png": None})
    index = tmp_path / "index.toml"
    code, job = carry_out(
        tmp_path / "job", "arrange", folder=data, output=index, form="index", subsets="cat = 3 my cat"
    )
    assert code == 0
    found = understand(index)
    assert [(s.folder, s.repeats, s.class_word, len(s.pictures)) for s in found.subsets] == [
        (data / "cat", 3, "my cat", 1),
        (data / "dog", 1, "dog", 1),
    ]
    assert found.extension == ".caption"
    assert undo(job).failed == []
    assert not index.exists()


def test_what_is_written_as_a_data_set_is_read_as_it_was(tmp_path: Path):
    subsets = [
        IndexedFolder('a "b" \\ \t 猫', 3, "my cat", caption_extension=".txt"),
        IndexedFolder("reg", 1, "", True, ".caption"),
        IndexedFolder("c", 2, caption_extension=".txt", told=TOLD),
        IndexedFolder("d", 3, caption_extension=".txt", told={**TOLD, "flip_aug": False}),
    ]
    path = tmp_path / "d.toml"
    path.write_text(dataset_text(subsets, "about"), encoding="utf-8")
    assert read_index(path) == subsets
    content = parse_toml(path.read_text(encoding="utf-8"))
    assert [len(dataset["subsets"]) for dataset in content["datasets"]] == [2, 2]
    listed = json.loads((REFERENCE / "dataset_toml_keys.json").read_text(encoding="utf-8"))
    for dataset in content["datasets"]:
        assert all("[[datasets]]" in listed[key] for key in dataset)
        keys = {key for subset in dataset["subsets"] for key in subset}
        assert all("[[datasets.subsets]] dreambooth" in listed[key] for key in keys)


TOLD = {
    "resolution": [768, 512], "batch_size": 2, "enable_bucket": True, "network_multiplier": 1.0, "flip_aug": True,
    "keep_tokens": 2, "caption_prefix": 'a "b",', "caption_dropout_rate": 0.25, "face_crop_aug_range": [1.0, 1.5],
    "custom_attributes": {"note": "x", "diff_output_preservation": True},
}  # fmt: skip


def test_what_a_data_set_tells_besides_is_kept_in_an_index_and_missed_in_links(tmp_path: Path):
    data = make(tmp_path / "data", {"cat/a.png": None})
    folder = IndexedFolder("cat", 2, told={"keep_tokens": 2, "resolution": 768})
    (data / "set.toml").write_text(dataset_text([folder]), encoding="utf-8")
    carry_out(tmp_path / "job", "arrange", folder=data / "set.toml", output=tmp_path / "new.toml", form="index")
    assert [found.told for found in read_index(tmp_path / "new.toml")] == [folder.told]
    told = propose("arrange", folder=data / "set.toml", output=tmp_path / "links").warnings
    assert "tells keep_tokens, resolution of its folders" in str(told[-1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"output": "data/inside"}, "lies in the folder of the images"),
        ({"output": "full"}, "is there already and holds files"),
        ({"form": "index", "output": "index.toml"}, "an index cannot tell 1 caption that lie elsewhere"),
        ({"class_word": "a/b"}, "cannot be a folder's name"),
    ],
)
def test_what_cannot_be_arranged_is_told_and_nothing_done(tmp_path: Path, values: dict[str, str], said: str):
    make(tmp_path, {"data/images/a.png": None, "data/captions/a.txt": "x", "full/x": ""})
    before = contents(tmp_path)
    values = {k: str(tmp_path / v) if k == "output" else v for k, v in values.items()}
    found = [str(p) for p in propose("arrange", folder=tmp_path / "data", **values).problems]
    assert said in found[0]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("files", "chosen", "said"),
    [
        ({"x.txt": "x"}, "", "holds no images"),
        ({}, "nowhere", "no such folder"),
        ({"d.toml": "x = 1", "a.png": None}, "d.toml", "is no sd-scripts data set"),
        ({"d.toml": DATASET}, "d.toml", "is not there"),
        ({"d.toml": "[[datasets]]\n"}, "d.toml", "names no folder"),
        ({"d.toml": "[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 1"}, "d.toml", "without image_dir"),
        ({"m.json": "[1]", "a.png": None}, "m.json", "is no metadata file"),
        ({"m.json": "{", "a.png": None}, "m.json", "cannot be read"),
        ({"a.png": None}, "a.png", "is a file, not a folder"),
    ],
)
def test_what_is_no_layout_is_a_sentence(tmp_path: Path, files: dict, chosen: str, said: str):
    data = make(tmp_path / "data", files)
    data.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=said):
        propose("arrange", folder=data / chosen if chosen else data)


def test_a_line_of_subsets_that_cannot_be_read_is_a_sentence(tmp_path: Path):
    data = make(tmp_path / "data", {"cat/a.png": None})
    for line, said in (("cat 3", "cannot be read"), ("cat = x", "cannot be read"), ("dog = 3", "There are cat")):
        with pytest.raises(UserError, match=said):
            propose("arrange", folder=data, subsets=line)


def test_metadata_keys_may_be_paths_names_or_stems(tmp_path: Path):
    data = make(
        tmp_path / "data", {"x/a.png": None, "x/b.png": None, "y/c.png": None, "y/d.png": None, "x/d.png": None}
    )
    keys = [str(data / "x" / "a.png"), "x\\b", "c", "d"]
    content = {key: {"caption": f"of {key[-1]}", "tags": ["t1", "t2"]} for key in keys}
    (data / "meta.json").write_text(json.dumps(content), encoding="utf-8")
    texts = {p.image.name: p.text for s in understand(data).subsets for p in s.pictures}
    assert texts == {"a.png": "of g, t1, t2", "b.png": "of b, t1, t2", "c.png": "of c, t1, t2", "d.png": None}


def test_a_metadata_file_goes_before_captions_where_it_was_chosen_and_behind_them_where_it_lies_there(tmp_path: Path):
    metadata = json.dumps({"a": {"caption": "one\n\ntwo", "tags": "cat, sofa"}, "b": {"tags": ["dog", "red"]}})
    data = make(tmp_path / "data", {"a.png": None, "b.png": None, "a.txt": "beside", "meta.json": metadata})

    def texts(chosen: Path) -> list[str | None]:
        return [picture.text for picture in understand(chosen).subsets[0].pictures]

    assert texts(data) == [None, "dog, red"]
    assert texts(data / "meta.json") == ["one, cat, sofa\ntwo, cat, sofa", "dog, red"]
    (data / "set.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "."\nmetadata_file = "meta.json"')
    assert texts(data / "set.toml") == texts(data / "meta.json")


def test_several_files_that_could_be_meant_are_told(tmp_path: Path):
    entry = json.dumps({"a": {"caption": "x"}})
    data = make(tmp_path / "data", {"a.png": None, "1.json": entry, "2.json": entry})
    found = understand(data)
    assert "several metadata files tell captions" in str(found.warnings[0])
    assert found.subsets[0].pictures[0].text is None


def test_the_made_folder_is_what_can_be_trained(tmp_path: Path):
    data = make(tmp_path / "data", {"img/10_cat/a.png": None, "reg/1_animal/r.png": None})
    for form, made in (("links", "data-arranged/train"), ("index", "data-arranged.toml")):
        values = {"folder": str(data), "form": form}
        carry_out(tmp_path / f"job-{form}", "arrange", **values)
        assert arrange.made_folder(arrange.Settings.model_validate(values)) == tmp_path / made
        assert [subset.name for subset in scan(tmp_path / made).subsets] == ["10_cat"]
        general = {"data.regularization_folder": str(tmp_path / "data-arranged" / "regularization")}
        told = {"captions.extension": ".txt", **general} if form == "links" else {}
        assert arrange.made_settings(arrange.Settings.model_validate(values)) == told


def test_a_failed_arrangement_tells_why(tmp_path: Path):
    data = make(tmp_path / "data", {"a.png": None})
    code, job = carry_out(tmp_path / "job", "arrange", folder=data, output=data / "inside")
    assert code == 2
    assert "would be found twice" in failure(job)
