"""The workbench's sessions: edits are journalled, undone after a restart, and never lose another's edit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioning.bench.folder import read_content
from captioning.bench.merging import merged
from captioning.bench.session import Edit, Outcome, Session
from engine.errors import UserError
from engine.tools import journal


def make_folder(root: Path, captions: dict[str, bytes | None]) -> Path:
    """A folder with an image for each name, and its caption's bytes."""
    for name, raw in captions.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / f"{name}.png")
        if raw is not None:
            (root / f"{name}.txt").write_bytes(raw)
    return root


def opened(root: Path, journals: Path | None = None) -> Session:
    session = Session(root, ".txt", journals or root.parent / "journals")
    session.refresh(at_once=True)
    return session


@pytest.fixture
def images(tmp_path: Path) -> Path:
    captions = {"1_a/1": b"cat, red\n", "1_a/2": b"dog", "1_a/10": None, "b/x": "café, Long_Hair\r\n".encode("cp1252")}
    return make_folder(tmp_path / "images", captions)


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.*")}


def edit(session: Session, key: str, text: str) -> Outcome:
    item = session.by_id[key]
    return session.edit([Edit(key, text, item.content.digest, item.text)], "Edit")


def test_items_are_those_of_training_in_natural_order_with_their_text_whatever_its_encoding(images):
    session = opened(images)
    texts = {item.id: item.text for item in session.items}
    assert texts == {"1_a/1.png": "cat, red", "1_a/2.png": "dog", "1_a/10.png": "", "b/x.png": "café, Long_Hair"}
    assert list(texts) == ["1_a/1.png", "1_a/2.png", "1_a/10.png", "b/x.png"]
    assert session.by_id["b/x.png"].content.guessed == "Windows-1252"


def test_a_saved_caption_keeps_the_end_that_the_file_had_and_is_utf_8(images):
    session = opened(images)
    for key, text in [("1_a/1.png", "cat"), ("1_a/2.png", "dog, é"), ("1_a/10.png", "new"), ("b/x.png", "café  \n\n")]:
        assert edit(session, key, text).count == 1
    found = [(images / name).read_bytes() for name in ("1_a/1.txt", "1_a/2.txt", "1_a/10.txt", "b/x.txt")]
    assert found == [b"cat\n", "dog, é".encode(), b"new\n", "café\n".encode()]


def test_undo_of_everything_restores_every_byte_after_a_restart_and_redo_does_it_all_again(images):
    before = bytes_of(images)
    session = opened(images)
    edit(session, "1_a/10.png", "a new one")
    preview = session.preview("prefix", {"text": "mycat, ", "mode": "add"}, session.items)
    assert session.apply(preview.key).count == 4
    edit(session, "b/x.png", "other")
    after = bytes_of(images)

    again = opened(images)  # the program was started anew
    assert [transaction.title for transaction in again.history.done()] == ["Edit", "Text in front", "Edit"]
    for _ in range(3):
        assert again.undo().failed == []
    assert bytes_of(images) == before
    assert again.undo().transaction is None
    third = opened(images)
    for _ in range(3):
        assert third.redo().failed == []
    assert bytes_of(images) == after


def test_a_new_edit_ends_what_could_be_done_again(images):
    session = opened(images)
    edit(session, "1_a/1.png", "one")
    session.undo()
    edit(session, "1_a/1.png", "two")
    assert session.redo().transaction is None
    assert (images / "1_a/1.txt").read_bytes() == b"two\n"


def test_the_journal_is_on_the_disk_before_a_caption_is_written(images, monkeypatch):
    """Killed at the first caption: the journal alone tells what was there, and undo works."""
    session = opened(images)
    monkeypatch.setattr("captioning.bench.history._carry_out", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        edit(session, "1_a/1.png", "lost")
    monkeypatch.undo()
    (images / "1_a/1.txt").write_bytes(b"lost\n")  # as if the kill had come after the writing
    again = opened(images)
    assert again.undo().count == 1
    assert (images / "1_a/1.txt").read_bytes() == b"cat, red\n"


def test_the_second_of_two_windows_is_told_and_nothing_is_written(images):
    mine, theirs = opened(images), opened(images)
    edit(theirs, "1_a/1.png", "cat, red, big")
    second = edit(mine, "1_a/1.png", "cute cat, red")
    assert (images / "1_a/1.txt").read_bytes() == b"cat, red, big\n"
    (conflict,) = second.conflicts
    assert (conflict.theirs, conflict.merged) == ("cat, red, big", "cute cat, red, big")
    settled = mine.edit([Edit("1_a/1.png", conflict.merged, conflict.digest, conflict.theirs)], "Edit")
    assert settled.count == 1 and not settled.conflicts
    assert (images / "1_a/1.txt").read_bytes() == b"cute cat, red, big\n"


def test_an_edit_by_another_program_is_seen_and_never_undone_over(images):
    session = opened(images)
    edit(session, "1_a/1.png", "mine")
    version = session.version
    (images / "1_a/1.txt").write_bytes(b"an editor's\n")
    session.refresh(at_once=True)
    assert session.version > version and session.by_id["1_a/1.png"].text == "an editor's"
    result = session.undo()
    assert result.count == 0 and "was edited since" in result.failed[0].message
    assert (images / "1_a/1.txt").read_bytes() == b"an editor's\n"


def test_an_operation_leaves_captions_that_changed_since_the_look(images):
    session = opened(images)
    preview = session.preview("delete_tag", {"old": "RED, dog"}, session.items)
    (images / "1_a/2.txt").write_bytes(b"dog, wet\n")
    outcome = session.apply(preview.key)
    assert outcome.count == 1
    assert [problem.where for problem in outcome.failed] == ["1_a/2.png"]
    assert (images / "1_a/2.txt").read_bytes() == b"dog, wet\n"
    with pytest.raises(UserError, match="Look again"):
        session.apply(preview.key)


def test_images_that_come_and_go_are_seen(images):
    session = opened(images)
    Image.new("RGB", (4, 4)).save(images / "b" / "later.png")
    (images / "1_a/1.png").unlink()
    session.refresh(at_once=True)
    assert "b/later.png" in session.by_id and "1_a/1.png" not in session.by_id
    gone = session.edit([Edit("1_a/1.png", "x", "", "")], "Edit")
    assert gone.count == 0 and "not there any more" in gone.failed[0].message


def test_faults_are_sentences(images, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="belongs to images"):
        Session(images, ".png", tmp_path)
    session = opened(images)
    assert "NUL" in edit(session, "1_a/1.png", "a\0b").failed[0].message
    (images / "1_a/1.txt").unlink()
    (images / "1_a/1.txt").symlink_to("nowhere.txt")
    session.refresh(at_once=True)
    assert "is a link to a file that is not there" in edit(session, "1_a/1.png", "x").failed[0].message


def test_a_read_only_folder_is_told_and_nothing_else_is_lost(images, monkeypatch):
    session = opened(images)

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("engine.tools.journal_entries.write_bytes_whole", refuse)
    outcome = edit(session, "1_a/1.png", "new")
    assert outcome.count == 0 and "may not be written to" in outcome.failed[0].message
    monkeypatch.undo()
    assert session.undo().failed == []
    assert (images / "1_a/1.txt").read_bytes() == b"cat, red\n"


def test_a_damaged_history_is_told_and_captions_stay(images):
    session = opened(images)
    edit(session, "1_a/1.png", "new")
    session.history.file.write_bytes(json.dumps({"v": 1}).encode() + b"\nnonsense\n")
    with pytest.raises(UserError, match="none of a history"):
        opened(images).undo()
    assert (images / "1_a/1.txt").read_bytes() == b"new\n"


def test_each_transaction_is_a_journal_that_the_command_line_undoes_too(images):
    session = opened(images)
    edit(session, "1_a/1.png", "new")
    (path,) = [path for path in session.history.folder.glob("*.jsonl") if path != session.history.file]
    assert journal.undo(path).restored == [images / "1_a/1.txt"]
    assert read_content(images / "1_a/1.txt").text == "cat, red"


TAGS = st.lists(st.sampled_from(["a", "b", "c", "d", "e f"]), unique=True, max_size=5)


@given(base=TAGS, theirs=TAGS, mine=TAGS)
def test_a_merge_has_what_either_put_in_and_nothing_that_either_took_out(base, theirs, mine):
    result = merged(", ".join(base), ", ".join(theirs), ", ".join(mine), ",").split(", ")
    found = set(filter(None, result))
    assert len(found) == len(list(filter(None, result)))
    assert found == (set(theirs) | set(mine)) - (set(base) - set(theirs)) - (set(base) - set(mine))


@settings(max_examples=40)
@given(base=st.text(max_size=20), other=st.text(max_size=20))
def test_a_merge_where_only_one_changed_anything_is_that_one(base, other):
    assert merged(base, other, base, ",") == other
    assert merged(base, base, other, ",") == other


@settings(max_examples=15)
@given(steps=st.lists(st.sampled_from(["undo", "redo", "edit 0", "edit 1", "both"]), max_size=8))
def test_undo_of_all_restores_every_byte_whatever_was_done(tmp_path_factory, steps):
    root = make_folder(tmp_path_factory.mktemp("set"), {"0": b"a\r\nb", "1": None})
    before = bytes_of(root)
    for number, step in enumerate(steps):
        session = opened(root, root / "journals")
        if step in ("undo", "redo"):
            getattr(session, step)()
        elif step == "both":
            session.apply(session.preview("suffix", {"text": f", {number}"}, session.items).key)
        else:
            edit(session, f"{step[-1]}.png", f"text {number}")
    session = opened(root, root / "journals")
    while session.undo().transaction:
        pass
    assert {name: raw for name, raw in bytes_of(root).items() if "journals" not in name} == before


def test_the_history_is_gone_back_and_forth_to_any_change(images):
    session = opened(images)
    before = bytes_of(images)
    for text in ("one", "two", "three"):
        edit(session, "1_a/1.png", text)
    keys = [transaction.id for transaction in session.history.done()]
    assert session.turn_to(keys[1]).count == 2
    assert session.by_id["1_a/1.png"].text == "one"
    assert opened(images).turn_to(keys[2]).count == 2
    assert (images / "1_a" / "1.txt").read_bytes() == b"three\n"
    session.refresh(at_once=True)
    session.turn_to(keys[0])
    assert bytes_of(images) == before
    with pytest.raises(UserError, match="not in the history any more"):
        session.turn_to("20200101-000000-abc")


def test_old_changes_are_let_go_only_when_asked_and_the_newest_can_still_be_undone(images):
    session = opened(images)
    for text in ("one", "two", "three", "four"):
        edit(session, "1_a/1.png", text)
    session.undo()
    edit(session, "1_a/2.png", "wolf")  # ends what could be done again: its journal leads nowhere
    journals = session.history.folder
    assert len(list(journals.glob("2*.jsonl"))) == 5
    captions = bytes_of(images)
    assert session.forget(2) == 2
    assert bytes_of(images) == captions
    again = opened(images).history
    assert {change.id for change in again.done()} == {path.stem for path in journals.glob("2*.jsonl")}
    session.turn_to(again.done()[0].id)
    assert {key: session.by_id[key].text for key in ("1_a/1.png", "1_a/2.png")} == {
        "1_a/1.png": "two",
        "1_a/2.png": "dog",
    }
    assert session.undo().transaction is None


def test_captions_in_a_tree_that_mirrors_the_images_are_read_and_written_there(tmp_path):
    make_folder(tmp_path / "set" / "images", {"a/1": None, "a/2": None})
    mirror = tmp_path / "set" / "captions" / "a"
    mirror.mkdir(parents=True)
    (mirror / "1.txt").write_text("a cat\n")
    session = opened(tmp_path / "set", tmp_path / "journals")
    assert {key: item.text for key, item in session.by_id.items()} == {"images/a/1.png": "a cat", "images/a/2.png": ""}
    assert "Training reads those beside the pictures" in str(session.problems[0])
    edit(session, "images/a/2.png", "a dog")
    assert (mirror / "2.txt").read_text() == "a dog\n"
    assert not (tmp_path / "set" / "images" / "a" / "2.txt").exists()
    (mirror / "1.txt").write_text("two cats\n")  # by another program
    session.refresh(at_once=True)
    assert session.by_id["images/a/1.png"].text == "two cats"


def test_the_folders_of_an_index_are_opened_each_with_the_ending_of_its_captions(tmp_path):
    make_folder(tmp_path / "cats", {"1": b"a cat"})
    make_folder(tmp_path / "reg", {"r": None})
    (tmp_path / "cats" / "1.caption").write_text("its own")
    index = tmp_path / "set.toml"
    subsets = ['image_dir = "cats"\ncaption_extension = ".caption"', 'image_dir = "reg"\nis_reg = true']
    index.write_text("[[datasets]]\n" + "\n".join(f"[[datasets.subsets]]\n{subset}" for subset in subsets))
    session = opened(index, tmp_path / "journals")
    assert {key: item.text for key, item in session.by_id.items()} == {"cats/1.png": "its own", "reg/r.png": ""}
    edit(session, "reg/r.png", "an animal")
    assert (tmp_path / "reg" / "r.txt").read_text() == "an animal\n"
