"""The chooser looks below its roots only, whatever path is asked for, and tells what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import UserError
from ui import chooser, last
from ui.roots import Root, looked_up, roots


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a training folder, hidden things and links, and a secret beside it."""
    root = tmp_path / "root"
    (root / "training" / "10_cat").mkdir(parents=True)
    for name in ("a.png", "b.JPG", "a.txt"):
        (root / "training" / "10_cat" / name).write_bytes(b"x" * 1500)
    (root / "model.safetensors").write_bytes(b"x" * 2_000_000)
    (root / "training" / "notes.txt").touch()
    (root / ".ssh").mkdir()
    (root / ".ssh" / "key").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.safetensors").touch()
    (tmp_path / "root-and-more").mkdir()
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "file out.safetensors").symlink_to(tmp_path / "secret" / "key.safetensors")
    (root / "twice").symlink_to(root / "out")
    (root / "broken").symlink_to(root / "nothing")
    (root / "round").symlink_to(root / "round")
    (root / "in").symlink_to(root / "training")
    (root / "to hidden").symlink_to(root / ".ssh")
    monkeypatch.setenv("ATELIER_ROOTS", str(root))
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    return root


ATTACKS = [
    "/", "/etc", "/etc/passwd", "{root}/..", "{root}/../secret", "{root}/training/../../secret",
    "{root}/../root-and-more", "{root}/out", "{root}/out/key.safetensors", "{root}/twice",
    "{root}/file out.safetensors", "{root}/in/../../secret", "{root}/.ssh", "{root}/.ssh/key", "{root}/to hidden",
    "{root}/training/../.ssh/key", "{root}/round", "{root}/broken", "{root}/%2e%2e/secret", "{root}/..%2fsecret",
    "{root}\\..\\secret", "{root}/..\\secret", "file://{root}/../secret", "training", "../secret", "~", "~root", "",
    ".", "..", "\0", "{root}\0/../secret", "{root}/" + "x" * 5000, "//localhost/share", "/proc/self/root",
    "/proc/self/cwd", "{root}/training/notes.txt/../../../secret",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack[:40].replace("\0", "NUL"))
def test_nothing_outside_of_the_roots_is_seen(machine: Path, attack: str) -> None:
    path = attack.replace("{root}", str(machine))
    with pytest.raises(UserError, match="not among the folders"):
        looked_up(path, roots({}))
    assert chooser.answer(path, "model.base", is_opened=True).keys() == {"error"}
    begun = chooser.answer(path, "model.base")  # where to begin falls back to what may be seen
    assert Path(begun["path"]).is_relative_to(machine) and "key" not in [item["name"] for item in begun["files"]]


def test_links_that_lead_out_and_hidden_things_are_not_listed(machine: Path) -> None:
    found = chooser.answer(str(machine), "model.base", is_opened=True)
    assert [item["name"] for item in found["folders"]] == ["in", "training"]
    assert [(item["name"], item["size"]) for item in found["files"]] == [("model.safetensors", "2.0 MB")]
    assert found["parts"] == [{"title": "Drive: root", "path": str(machine)}]


def test_folders_tell_how_many_pictures_they_hold_with_the_folders_right_below(machine: Path) -> None:
    found = chooser.answer(str(machine), "data.folder", is_opened=True)
    assert {item["name"]: item["pictures"] for item in found["folders"]} == {"in": 2, "training": 2}
    assert chooser.pictures_in(machine / "training", until=0.0) is None
    below = chooser.answer(str(machine / "training" / "10_cat"), "run.folder", is_opened=True)
    assert below["files"] == [] and [part["title"] for part in below["parts"]][1:] == ["training", "10_cat"]


def test_it_begins_where_the_field_points_or_near_it(machine: Path) -> None:
    begun = [
        chooser.answer(str(machine / path), "model.base")["path"] for path in ("model.safetensors", "training/no/such")
    ]
    assert begun == [str(machine), str(machine / "training")]


def test_the_usual_roots_are_the_home_the_program_and_the_folders_of_the_form(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("ATELIER_ROOTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    for name in ("me", "home", "pictures"):
        (tmp_path / name).mkdir()
    last.remember({"data": {"folder": str(tmp_path / "pictures")}, "run": {"folder": "/"}}, "basic", "x")
    found = roots(last.recall().content)
    assert {Root("home", tmp_path / "me"), Root("form", tmp_path / "pictures")} <= set(found)
    assert Path("/") not in [root.path for root in found]
    assert len({root.path for root in found}) == len(found)


def test_only_the_page_itself_may_ask(machine: Path) -> None:
    for key in ("", "guess", None, 7):
        assert "error" in json.loads(chooser.look_into(json.dumps({"key": key, "path": str(machine), "open": True})))
