"""The user's presets: nothing is overwritten silently, nothing shipped is deleted, differences are exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import UserError
from engine.preset import ROOT, Preset, load
from ui import last, preset_files


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


@pytest.mark.parametrize("name", ["", "  ", "../out", "a/b", ".hidden", "x" * 130, 'a"b'])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="file name"):
        preset_files.save(Preset(), name, overwrite=False)


def test_own_presets_can_be_deleted_and_shipped_ones_cannot() -> None:
    path = preset_files.save(Preset(), "mine", overwrite=False)
    preset_files.delete(str(path))
    assert not path.exists()
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
