"""The user's presets: nothing is overwritten silently, nothing shipped is deleted, differences are exact, loading is
exact and can be undone, files of others come in with a receipt, and no key gets into any of them.
"""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from engine import kohya
from engine.errors import PresetError, UserError
from engine.preset import BY_PATH, ROOT, SETTINGS, VERSION, Preset, load
from ui import applying, form, form_answers, last, preset_files, preset_views, presets_tab

SHIPPED = [load(path) for path in sorted((ROOT / "presets").glob("*.json"))]
DEMO = load(ROOT / "presets" / "demo.json")
# A form in which the user has entered what is theirs
MINE = {
    "model.base": "/models/mine.safetensors", "data.folder": "/pictures", "run.name": "zoe", "captions.trigger": "zoe",
    "sample.prompts": "zoe in a park\nzoe asleep", "sharing.license": "CC0",
}  # fmt: skip
TOKEN = "hf_" + "aB3" * 12


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))


def test_a_taken_name_gets_a_number() -> None:
    one, two = Preset(), Preset().changed({"adapter.rank": 32})
    paths = [preset_files.save(one, "mine", overwrite=False), preset_files.save(two, "mine", overwrite=False)]
    assert [path.stem for path in paths] == ["mine", "mine-2"]
    assert [load(path) for path in paths] == [one, two]


def test_saving_over_is_possible_when_asked_for() -> None:
    preset_files.save(Preset(), "mine", overwrite=False)
    path = preset_files.save(Preset().changed({"adapter.rank": 32}), "mine", overwrite=True)
    assert load(path).adapter.rank == 32
    assert len([item for item in preset_files.preset_files() if item.own]) == 1
    assert [load(kept).adapter.rank for kept in (last.own_presets() / ".bin").iterdir()] == [16]


@pytest.mark.parametrize("name", ["", "  ", "../out", "a/b", ".hidden", "x" * 130, 'a"b'])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="file name"):
        preset_files.save(Preset(), name, overwrite=False)


def test_own_presets_can_be_deleted_and_shipped_ones_cannot() -> None:
    path = preset_files.save(Preset(), "mine", overwrite=False)
    in_bin = preset_files.delete(str(path))
    assert not path.exists() and load(Path(in_bin)) == Preset()
    with pytest.raises(UserError, match="cannot be deleted"):
        preset_files.delete(str(ROOT / "presets" / "demo.json"))


def test_only_listed_presets_can_be_opened(tmp_path: Path) -> None:
    Preset().save(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="no longer there"):
        preset_files.load_listed(str(tmp_path / "elsewhere.json"))


def test_differences_are_exactly_the_settings_that_differ() -> None:
    left, right = Preset(), Preset().changed({"adapter.rank": 32, "data.flip": True})
    assert preset_files.differences(left, right) == [("data.flip", False, True), ("adapter.rank", 16, 32)]
    assert preset_files.differences(left, left) == []


def test_the_form_is_remembered_even_with_faults_and_a_damaged_memory_is_a_first_visit(tmp_path: Path) -> None:
    assert last.recall().preset == str(ROOT / "presets" / "demo.json")
    last.remember({"adapter": {"rank": 0}}, "expert", "somewhere.json")
    kept = last.recall()
    assert (kept.content["adapter"], kept.level, kept.preset) == ({"rank": 0}, "expert", "somewhere.json")
    (last.own_presets() / ".last.json").write_text("{", encoding="utf-8")
    assert last.recall().content == {}


def asked(what: str, shown: dict[str, Any], **more: Any) -> dict[str, Any]:
    return form_answers.answer({"ask": what, "form": shown, **more})


def loaded(shown: dict[str, Any], preset: Preset, keep: bool = True) -> dict[str, Any]:
    """What the form shows after a preset is loaded into what it shows now."""
    return form.show_content(applying.applied(preset, form.read_all(shown), keep)[0])


def test_loading_a_and_then_b_is_b_on_a_fresh_page_for_all_pairs() -> None:
    """Fresh: as on a first visit (the demo), or nothing but defaults."""
    for fresh in (form.show_all(DEMO), form.show_all(Preset())):
        alone = [loaded(fresh, preset) for preset in SHIPPED]
        for (a, _), (b, wanted) in itertools.product(zip(SHIPPED, alone, strict=True), repeat=2):
            assert loaded(loaded(fresh, a), b) == wanted, (a.about[:30], b.about[:30])


def test_a_recipe_leaves_the_user_s_folders_alone_whatever_was_loaded_before() -> None:
    mine = form.show_all(Preset().changed(MINE).model_copy(update={"author": "Zoe"}))
    recipes = [preset for preset in SHIPPED if preset != DEMO]
    for a, b in itertools.product(recipes, repeat=2):
        shown = loaded(loaded(mine, a), b)
        assert shown == loaded(mine, b)
        content = form.read_all(shown)
        assert {path: applying.value_of(content, path) for path in MINE} == MINE and content["author"] == "Zoe"
        rest = [item.path for item in SETTINGS if item.path not in MINE]
        assert [applying.value_of(content, path) for path in rest] == [b.get(path) for path in rest]


def test_without_keeping_the_form_is_exactly_the_preset() -> None:
    mine = form.show_all(Preset().changed(MINE))
    assert all(loaded(mine, preset, keep=False) == form.show_all(preset) for preset in SHIPPED)


def test_a_preset_s_own_folders_win_over_the_form_s() -> None:
    content, kept = applying.applied(DEMO, form.read_all(form.show_all(Preset().changed(MINE))), True)
    assert content["model"]["base"] == DEMO.model.base and content["run"]["name"] == DEMO.run.name
    assert set(kept) == {"captions.trigger", "sharing.license"}


def test_faulty_fields_of_the_user_s_are_kept_as_they_are() -> None:
    shown = form.show_all(Preset()) | {"run.name": "a/b"}
    assert applying.applied(SHIPPED[0], form.read_all(shown), True)[0]["run"]["name"] == "a/b"


def test_each_file_and_folder_is_the_user_s_or_the_recipe_s() -> None:
    paths = {item.path for item in SETTINGS if item.kind in ("file", "folder")}
    assert paths <= {*applying.YOURS, *applying.RECIPE_S} <= set(BY_PATH)
    assert all(BY_PATH[path].type is str for path in applying.YOURS)


def test_own_presets_are_loaded_as_saved_and_recipes_keep_what_is_the_user_s() -> None:
    path = preset_files.save(Preset(), "mine", overwrite=False)
    assert presets_tab.keeps_yours(str(path)) is False
    assert presets_tab.keeps_yours(str(ROOT / "presets" / "style.json")) is True


def test_what_loading_changes_is_told_before_it_is_done() -> None:
    present = form.read_all(form.show_all(Preset().changed({"adapter.rank": 7})))
    content, kept = applying.applied(SHIPPED[0], present, True)
    rows = applying.changes(present, content)
    assert ("adapter.rank", 7, SHIPPED[0].adapter.rank) in rows
    assert {path for path, _, _ in rows} == {
        item.path for item in SETTINGS if applying.value_of(present, item.path) != SHIPPED[0].get(item.path)
    }
    assert f"Loading changes {len(rows)} settings" in preset_views.changes(rows, kept)


def test_a_load_is_undone_and_done_again() -> None:
    before, style = form.show_all(Preset().changed(MINE)), str(ROOT / "presets" / "style.json")
    after = asked("load", before, chosen=style, keep=True, keep_for=style)["shown"]
    assert after != before
    undone = asked("undo", after)["shown"]
    assert undone == before
    assert asked("undo", undone)["shown"] == after


def test_a_click_ahead_of_the_box_loads_an_own_preset_exactly() -> None:
    """The box still stands for the recipe that was chosen before."""
    path = str(preset_files.save(Preset().changed({"adapter.rank": 3}), "bare", overwrite=False))
    mine, style = form.show_all(Preset().changed(MINE)), str(ROOT / "presets" / "style.json")
    assert asked("load", mine, chosen=path, keep=True, keep_for=style)["shown"] == form.show_all(load(Path(path)))
    assert asked("load", mine, chosen=path, keep=True, keep_for=path)["shown"] != form.show_all(load(Path(path)))


def test_before_the_first_load_there_is_nothing_to_undo() -> None:
    assert last.before() is None and "Nothing was loaded" in asked("undo", form.show_all(Preset()))["message"]


def brought(name: str, content: Any) -> dict[str, Any]:
    """What is told of a file that the browser brings."""
    text = content if isinstance(content, str) else json.dumps(content)
    return asked("import", {}, name=name, data=base64.b64encode(text.encode()).decode())


FOREIGN = {
    "kohya.json": {"sdxl": True, "network_dim": 48, "LoRA_type": "Standard"},
    "one.json": {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "lora_rank": 48,
                 "learning_rate": 1e-4},
    "scripts.toml": "network_dim = 48\nnetwork_alpha = 8\nlearning_rate = 1e-4\n",
    "ours.json": {"version": VERSION, "adapter": {"rank": 48}},
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_trainer_becomes_a_preset_of_the_user_s(name: str) -> None:
    for number in (1, 2):
        told = brought(name, FOREIGN[name])
        path = Path(told["chosen"])
        assert "Saved as" in told["message"] and load(path).adapter.rank == 48
        assert str(path) in [listed for _, listed in asked("presets", {})["items"]]
        assert path.stem == Path(name).stem + ("" if number == 1 else "-2")
        assert ("details" in told["receipt"]) == (name != "ours.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": VERSION + 1, "adapter": {"rank": 4}}, "newer Atelier"),
        ({"hello": 1}, "neither"),
        ("{", "not valid JSON"),
        (" " * 5_000_000, "too large"),
    ],
)
def test_what_is_no_preset_is_refused_in_a_sentence_without_the_place_where_it_was_kept(content, words) -> None:
    told = brought("theirs.json", content)
    assert words in told["message"] and tempfile.gettempdir() not in told["message"] and "receipt" not in told
    assert [item for item in preset_files.preset_files() if item.own] == []


@pytest.mark.parametrize("name", ["", "../../up.json", "..", "C:\\x\\up.json", "a\0b.json", "x" * 400])
def test_the_name_of_a_file_that_comes_in_leads_nowhere_and_its_bytes_are_kept_nowhere(
    tmp_path, name, monkeypatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # its own: other tests use the system's
    told = brought(name, {"version": VERSION, "adapter": {"rank": 48}})
    assert told["message"] and not list((tmp_path / "temporary").iterdir())
    assert "chosen" not in told or Path(told["chosen"]).parent == last.own_presets()
    assert asked("import", {}, name="a.json", data="no base64!")["message"]


def test_an_import_with_faults_shows_its_receipt_and_saves_nothing() -> None:
    told = brought("theirs.json", {"sdxl": True, "output_name": "a/b", "network_dim": 4})
    assert "Nothing was saved" in told["message"] and "network_dim" in told["receipt"]
    assert [item for item in preset_files.preset_files() if item.own] == []


def test_a_receipt_shows_every_group_and_renders_nothing_of_the_file() -> None:
    line = kohya.Line("<b>key</b>", "<script>alert(1)</script>", "adapter.rank", "note {x}")
    receipt = kohya.Receipt("a preset", (line,), (line,), (line,), (line,), ("<i>warning</i>",))
    shown = preset_views.receipt(receipt, "<img>.json")
    assert shown.count("<details") == 4 and shown.count(" open>") == 1
    assert not any(mark in shown for mark in ("<b>", "<script", "<img", "<i>", "{x}"))


def test_the_file_for_kohya_ss_holds_the_form_and_tells_what_it_cannot() -> None:
    preset = Preset().changed({"adapter.rank": 48, "captions.trigger": "<zoe>", "run.name": "zoe"})
    told = asked("export", form.show_all(preset), name="")
    assert told["file"] == "zoe kohya_ss.json" and json.loads(told["text"])["network_dim"] == 48
    assert "&lt;zoe&gt;" in told["receipt"] and "Trigger word" in told["receipt"] and "downloads" in told["message"]


TEXTS = [*(item.path for item in SETTINGS if item.type is str and not item.choices), "about", "author"]


@pytest.mark.parametrize("path", TEXTS)
def test_a_planted_token_is_refused_by_name_and_kept_nowhere(tmp_path: Path, path: str) -> None:
    shown = form.show_all(Preset()) | {path: f"see {TOKEN}"}
    message = asked("save", shown, name="mine", over=False)["message"]
    assert "key or token" in message and TOKEN not in message
    content = form.read_all(shown)
    last.remember(content, "basic", "x")
    last.keep_loaded(content)
    last.keep_before(content)
    kept = [file for file in last.own_presets().rglob("*") if file.is_file()]
    assert len(kept) == 4 and not any(TOKEN in file.read_text(encoding="utf-8") for file in kept)


TOKENS = ("wandb_v1_" + "a1" * 20, "0123456789" * 4, "ghp_" + "a" * 36, "sk-" + "a1" * 20, "https://me:pass@host/x",
          "https://host/x?token=abcdef0123456789ab")  # fmt: skip
HARMLESS = (
    "/home/me/.cache/hub/models--x/snapshots/0123456789012345678901234567890123456789/x.safetensors", "risk-taking cat",
    "zkt token: a word", "https://example.org/cat", "a (password:1.2) on a note", "",
)  # fmt: skip


def test_tokens_are_known_from_harmless_text() -> None:
    for text in TOKENS:
        with pytest.raises(PresetError, match="key or token"):
            Preset().changed({"sharing.comment": text})
    for text in HARMLESS:
        assert Preset().changed({"sharing.comment": text, "model.base": text}).model.base == text


def test_a_saved_preset_carries_version_note_and_author() -> None:
    preset = Preset().model_copy(update={"about": "for cats", "author": "Zoe"})
    path = preset_files.save(preset, "mine", overwrite=False)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["version"], content["about"], content["author"]) == (VERSION, "for cats", "Zoe")
    shown = form.show_content(applying.applied(load(path), {}, False)[0])
    again = load(preset_files.save(Preset.model_validate(form.read_all(shown)), "mine", overwrite=True))
    assert (again.about, again.author) == ("for cats", "Zoe")


def test_a_name_taken_between_the_look_and_the_writing_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pages that save under one name at once."""
    one = preset_files.save(Preset(), "mine", overwrite=False)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    two = preset_files.save(Preset().changed({"adapter.rank": 3}), "mine", overwrite=False)
    assert one != two and load(one).adapter.rank == 16


def test_shipped_presets_are_listed_by_use_and_size() -> None:
    titles = [item.title for item in preset_files.preset_files()]
    assert titles[0] == "demo" and titles[-5:] == [f"{size} GB card" for size in (6, 8, 12, 16, 24)]
