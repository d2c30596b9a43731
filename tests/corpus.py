"""Folders of pictures as people have them, one for each layout and each fault, with what must be found in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tool_runs import nfd

Files = dict[str, "str | bytes | None"]


@dataclass(frozen=True)
class Case:
    """`files`: by path (None is a picture). `shape`: what is recognised. `chosen`: what is chosen in the folder.

    `subsets`: name → (repeats, class word, images, captions). `trainable`: whether it can be trained as it is.
    """

    files: Files
    shape: str
    subsets: dict[str, tuple[int | None, str, int, int]]
    trainable: bool = False
    chosen: str = ""
    said: str = ""


METADATA = {"a": {"caption": "a cat", "tags": "cat, sofa"}, "b.png": {"tags": "dog"}}
DATASET = """
[general]
caption_extension = ".txt"
[[datasets]]
  [[datasets.subsets]]
  image_dir = "cats"
  num_repeats = 7
  class_tokens = "cat"
  [[datasets.subsets]]
  image_dir = "dogs"
  is_reg = true
"""

LAYOUTS: dict[str, Case] = {
    "training folder": Case(
        {"10_cat/a.png": None, "10_cat/a.txt": "x", "3_dog/b.jpg": None},
        "training folder",
        {"10_cat": (10, "cat", 1, 1), "3_dog": (3, "dog", 1, 0)},
        trainable=True,
        said="a training folder: 2 folders named like 10_name; 2 images, 1 with captions (.txt) beside them, 1 without",
    ),
    "one subset": Case(
        {"5_cat/a.png": None}, "one subset", {"5_cat": (5, "cat", 1, 0)}, trainable=True, chosen="5_cat"
    ),
    "folder above, with img, log and model": Case(
        {"img/10_cat/a.png": None, "log/x.log": "", "model/last.safetensors": b"0"},
        "deeper",
        {"img/10_cat": (10, "cat", 1, 0)},
        trainable=True,
        said="lie deeper, in img",
    ),
    "images of a class beside their regularization": Case(
        {"img/10_cat/a.png": None, "reg/1_animal/r.png": None},
        "deeper",
        {"img/10_cat": (10, "cat", 1, 0), "reg/1_animal": (1, "animal", 1, 0)},
    ),
    "flat, with captions of another ending": Case(
        {"a.png": None, "a.caption": "a", "b.png": None, "b.caption": "b", "c.png": None, "c.txt": "c"},
        "flat",
        {"flat": (None, "flat", 3, 3)},
        said="(.caption, .txt) beside them",
    ),
    "tree of classes": Case(
        {"qzy/flawed/fold/1.jpg": None, "qzy/flawed/spot/1.jpg": None, "qzy/good/1.jpg": None, "qzy/good/1.tags": "ok"},
        "classes",
        {
            "qzy/flawed/fold": (None, "qzy flawed fold", 1, 0),
            "qzy/flawed/spot": (None, "qzy flawed spot", 1, 0),
            "qzy/good": (None, "qzy good", 1, 1),
        },
    ),
    "some folders with repeats": Case(
        {"10_cat/a.png": None, "dogs/b.png": None},
        "mixed",
        {"10_cat": (10, "cat", 1, 0), "dogs": (None, "dogs", 1, 0)},
    ),
    "captions in a tree of their own": Case(
        {"images/10_a/x.png": None, "images/10_b/x.png": None, "captions/10_a/x.txt": "a", "captions/10_b/x.txt": "b"},
        "deeper",
        {"images/10_a": (10, "a", 1, 1), "images/10_b": (10, "b", 1, 1)},
        said="in 10_a, 10_b",
    ),
    "captions in a folder beside the images": Case(
        {"cat/a.png": None, "cat/b.png": None, "cat/captions/a.txt": "a", "cat/captions/b.txt": "b"},
        "classes",
        {"cat": (None, "cat", 2, 2)},
    ),
    "captions beside the chosen folder": Case(
        {"photos/a.png": None, "captions/a.tags": "a"}, "flat", {"photos": (None, "photos", 1, 1)}, chosen="photos"
    ),
    "metadata file": Case(
        {"a.png": None, "b.png": None, "c.png": None, "meta_cap.json": json.dumps(METADATA)},
        "metadata",
        {"flat": (None, "flat", 3, 2)},
        said="2 with captions in the metadata file, 1 without",
    ),
    "data set": Case(
        {"dataset.toml": DATASET, "cats/a.png": None, "cats/a.txt": "c", "dogs/d.png": None, "unused/u.png": None},
        "data set",
        {"cats": (7, "cat", 1, 1), "dogs": (1, "", 1, 0)},
        said="an sd-scripts data set (dataset.toml) of 2 folders",
    ),
    "masks beside the images": Case(
        {"10_cat/a.png": None, "masks/10_cat/a.png": None},
        "training folder",
        {"10_cat": (10, "cat", 1, 0)},
        trainable=True,
    ),
}


@dataclass(frozen=True)
class Fault:
    """A tool and its settings; `renamed`: old → new names; `after`: what is written. Everything else stays."""

    files: Files
    tool: str
    values: dict[str, object] = field(default_factory=dict)
    after: Files = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)


FAULTS: dict[str, Fault] = {
    "captions in UTF-16, Latin-1 and with a mark": Fault(
        {
            "1_x/a.png": None,
            "1_x/a.txt": "é, cat".encode("utf-16"),
            "1_x/b.png": None,
            "1_x/b.txt": "é, cat".encode("latin-1"),
            "1_x/c.png": None,
            "1_x/c.txt": "é, cat".encode("utf-8-sig"),
        },
        "name_captions",
        {"existing": "append", "after": "black background", "names": "none"},
        {f"1_x/{name}.txt": "é, cat, black background\n" for name in "abc"},
    ),
    "names in Chinese, emoji and both Unicode forms": Fault(
        {"1_猫/图.png": None, "1_猫/图.txt": "猫", "1_猫/🎈 é.png": None, f"1_猫/🎈 {nfd('é')}.txt": "balloon"},
        "rename",
        {"from_top": False},
        renamed={
            "1_猫/图.png": "1_猫/猫_01.png",
            "1_猫/图.txt": "1_猫/猫_01.txt",
            "1_猫/🎈 é.png": "1_猫/猫_02.png",
            f"1_猫/🎈 {nfd('é')}.txt": "1_猫/猫_02.txt",
        },
    ),
    "twins that differ in case only": Fault(
        {"1_x/A.png": None, "1_x/a.png": None, "1_x/A.txt": "loud", "1_x/a.txt": "quiet"},
        "rename",
        {"from_top": False},
        renamed={
            "1_x/A.png": "1_x/x_01.png",
            "1_x/A.txt": "1_x/x_01.txt",
            "1_x/a.png": "1_x/x_02.png",
            "1_x/a.txt": "1_x/x_02.txt",
        },
    ),
    "broken and empty files": Fault(
        {"1_x/a.png": b"", "1_x/b.png": b"no picture", "1_x/b.txt": "b", "1_x/c.jpg": None},
        "rename",
        {"from_top": False},
        renamed={
            "1_x/a.png": "1_x/x_01.png",
            "1_x/b.png": "1_x/x_02.png",
            "1_x/b.txt": "1_x/x_02.txt",
            "1_x/c.jpg": "1_x/x_03.jpg",
        },
    ),
    "hidden folders and files of the system": Fault(
        {
            "1_x/a.png": None,
            "1_x/.ipynb_checkpoints/a-checkpoint.png": None,
            "__MACOSX/1_x/a.png": None,
            ".x.png": None,
        },
        "rename",
        {"from_top": False},
        renamed={"1_x/a.png": "1_x/x_01.png"},
    ),
}
