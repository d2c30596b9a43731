"""The folder over which pictures are ordered."""

from __future__ import annotations

import pytest

from engine.drawing.desk import Desk, pictures_in
from engine.drawing.settings import DrawingPreset
from engine.errors import UserError
from engine.locks import locked


def test_requests_wait_in_their_order_and_come_back_as_they_were(tmp_path):
    here = Desk(tmp_path / "drawing")
    assert here.waiting() == []
    presets = [DrawingPreset().changed({"picture.seed": seed}) for seed in range(3)]
    asked = [here.ask(preset) for preset in presets]
    assert here.waiting() == asked and [here.preset_of(request) for request in asked] == presets
    here.remove(asked[0])
    here.cancel()
    assert here.waiting() == [] and not here.is_asked_to_stop()  # nobody draws, so there is nothing to stop
    with pytest.raises(UserError):
        here.preset_of(asked[1])


def test_a_process_that_draws_is_stopped_or_asked_to_leave(tmp_path):
    here = Desk(tmp_path)
    here.ask(DrawingPreset())
    with locked(here.lock, 1, "the folder", "busy"):
        here.cancel()
        assert here.is_asked_to_stop() and not here.is_asked_to_leave()
        here.forget("stop")
        here.ask_to_leave()
        assert here.is_asked_to_stop() and here.is_asked_to_leave()
        here.forget()
    assert not here.is_asked_to_stop() and not here.is_running()


def test_pictures_are_listed_newest_first(tmp_path):
    for name in ("2026-01-02/00001-5.png", "2026-01-02/00002-6.png", "2026-02-01/00001-7.png", "other/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == ["00001-7.png", "00002-6.png", "00001-5.png"]
