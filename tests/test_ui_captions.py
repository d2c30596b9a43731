"""What the Captions tab is told: pages, tags, sentences; and that only its own page may ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ui import captions_answers, captions_tab


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """130 pictures; every other one has a caption."""
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "0.png")
    for number in range(130):
        (folder / f"{number}.png").write_bytes((folder / "0.png").read_bytes())
        if number % 2 == 0:
            (folder / f"{number}.txt").write_text(f"even, number {number}")
    return folder


def ask(folder: Path, what: str, **more: Any) -> dict[str, Any]:
    return captions_answers.answer({"ask": what, "folder": str(folder), **more})


def test_pages_begin_at_whole_pages_and_never_behind_the_end(images):
    assert [ask(images, "view", first=first)["first"] for first in (0, 59, 60, 125, 900, -5)] == [0, 0, 60, 120, 120, 0]
    assert len(ask(images, "view", first=120)["items"]) == 10
    assert ask(images, "view", at="75.png")["first"] == 60
    assert ask(images, "view", first=120, filter="untagged")["first"] == 60


def test_a_view_counts_what_the_filter_lets_through_and_searches_all_tags(images):
    found = ask(images, "view", filter="even", tag_search="NUMBER 12")
    assert (found["total"], found["matching"], found["captioned"]) == (130, 65, 65)
    assert [tag for tag, _ in found["tags"]] == [
        "number 12",
        "number 120",
        "number 122",
        "number 124",
        "number 126",
        "number 128",
    ]
    assert ask(images, "view")["tags"][0] == ("even", 65)


def test_the_next_page_is_made_ready_when_asked_and_never_beside_a_question(images, monkeypatch):
    asked: list[str] = []

    def remember(paths):
        names = [path.name for path in paths]
        asked.extend(names)
        return [(False, None)] * len(names)

    monkeypatch.setattr(captions_answers.thumbnails, "asked_for", remember)
    ask(images, "view")
    assert asked == [f"{number}.png" for number in range(60)]
    assert ask(images, "ahead", first=60) == {"count": 10}
    assert asked[60:] == [f"{number}.png" for number in range(120, 130)]


def test_sorting_goes_over_all_pages(images):
    assert [item["text"] for item in ask(images, "view", sort="fewest tags")["items"][:3]] == [""] * 3
    assert ask(images, "ids", sort="longest")["ids"][0] == "100.png"


def test_what_cannot_be_is_a_sentence(images, tmp_path):
    assert ask(images, "view", filter="(")["error"].startswith("The filter: ")
    assert "there is no such folder" in ask(tmp_path / "none", "view")["error"]
    assert "Choose" in captions_answers.answer({"ask": "view", "folder": " "})["error"]
    assert "images" in ask(images, "view", extension=".png")["error"]
    assert "not there any more" in ask(images, "large", item="gone.png")["error"]


def test_a_change_of_many_is_previewed_applied_and_undone(images):
    found = ask(images, "preview", operation="add_tag", values={"new": "x"}, scope="filtered", filter="even")
    assert (found["changed"], found["considered"], len(found["examples"])) == (65, 65, 5)
    assert found["examples"][0] == {"item": "0.png", "before": "even, number 0", "after": "even, number 0, x"}
    done = ask(images, "apply", preview=found["key"])
    assert (done["count"], done["undo"]) == (65, "Add tags")
    assert ask(images, "undo")["redo"] == "Add tags"
    assert (images / "0.txt").read_text() == "even, number 0"


def test_another_page_or_site_is_refused(images):
    asked = {"ask": "view", "folder": str(images), "key": "guessed"}
    assert "Load it again" in json.loads(captions_tab.captions(json.dumps(asked)))["error"]


def test_the_forms_of_all_operations_are_told(images):
    told = ask(images, "hello")["operations"]
    assert {item["name"] for item in told} == set(captions_answers.OPERATIONS)
    json.dumps(told)


def test_the_history_is_listed_newest_first_and_gone_back_to_any_change(images):
    for number in (0, 2):
        asked = {"item": f"{number}.png", "text": "new", "base": f"even, number {number}"}
        shown = ask(images, "view")["items"]
        digest = next(item["digest"] for item in shown if item["id"] == asked["item"])
        assert ask(images, "edit", **asked, digest=digest)["count"] == 1
    found = ask(images, "history")
    assert [change["title"] for change in found["done"]] == ["Edit 2.png", "Edit 0.png"]
    assert found["size"].endswith("B")
    answer = ask(images, "turn_to", id=found["done"][1]["id"])
    assert (answer["count"], answer["undo"], answer["redo"]) == (2, None, "Edit 0.png")
    assert [change["title"] for change in ask(images, "history")["undone"]] == ["Edit 0.png", "Edit 2.png"]
    assert "not in the history" in ask(images, "turn_to", id="gone")["error"]
