"""The validation curve on the page: beside the loss, the best marked, the bands as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import event_log, events
from engine.preset import Preset
from engine.run import RunFolder, create
from ui import run_page
from ui.run_answers import look
from ui.run_view import RunView


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create(Preset(), tmp_path / "runs" / "a run")


def step(number: int) -> events.Step:
    return events.Step(number, 1, 0.5, {"unet": 1e-4}, 1.0, 0.5, 4, 10**9)


def validated(number: int, loss: float | None, best_step: int, best_loss: float | None) -> events.Validated:
    low = None if loss is None else loss / 2
    high = None if loss is None else loss * 1.5
    return events.Validated(number, loss, [low, high], [0, 500, 1000], best_step, best_loss, 8, 1.0)


def started(from_step: int = 0) -> events.Started:
    return events.Started("a run", 40, 10, 10, from_step, 1, "CPU")


def view_of(run: RunFolder, *told: events.Event) -> RunView:
    log = event_log.EventLog(run.events)
    for event in told:
        log.emit(event)
    view = RunView(run)
    view.refresh()
    return view


def four_validations(run: RunFolder) -> RunView:
    return view_of(
        run, started(), validated(0, 0.9, 0, None), step(1), step(10), validated(10, 0.6, 10, 0.6), step(20),
        validated(20, 0.4, 20, 0.4), step(30), validated(30, 0.7, 20, 0.4),
    )  # fmt: skip


def test_the_curve_has_a_dot_for_each_and_one_ring_at_the_best(run):
    page = run_page.curves(four_validations(run))
    assert page.count('class="dot points"') == 4
    assert page.count('class="ring points"') == 1
    assert "key points" in page


def test_the_table_shows_the_bands_before_at_the_best_and_now(run):
    page = run_page.curves(four_validations(run))
    assert "<th>0–499</th><th>500–999</th>" in page
    assert [name in page for name in ("before", "step 20 (best)", "step 30", "step 10<")] == [True, True, True, False]
    assert "<td>0.2000</td><td>0.6000</td><td>0.4000</td>" in page


def test_the_best_is_among_the_figures(run):
    assert "0.4000 at step 20" in run_page.progress(four_validations(run), "running")


def test_without_validation_the_page_is_as_before(run):
    view = view_of(run, started(), step(1))
    page = run_page.curves(view) + run_page.progress(view, "running")
    assert "alidation" not in page and 'points"' not in page


def test_a_validation_that_is_not_finite_leaves_a_gap(run):
    view = view_of(run, started(), step(1), validated(1, None, 0, None), step(2), validated(2, 0.3, 2, 0.3))
    page = run_page.curves(view)
    assert page.count('class="dot points"') == 1 and "<td>–</td>" in page


def test_a_resumed_run_forgets_validations_after_its_state(run):
    view = view_of(run, started(), step(1), validated(10, 0.6, 10, 0.6), validated(20, 0.4, 20, 0.4), started(10))
    assert list(view.validations) == [10]


def test_a_look_brings_the_curves_when_there_is_a_new_validation(run, monkeypatch):
    monkeypatch.setattr("ui.run_list._known_folders", [run.path.parent])
    view_of(run, started(), step(1))
    seen = {name: part["digest"] for name, part in look("", "", {})["parts"].items()}
    view_of(run, validated(1, 0.3, 1, 0.3))
    assert "ring points" in look(str(run.path), "", seen)["parts"]["curves"]["content"]


def test_why_a_run_ended_early_is_said(run):
    view = view_of(run, started(), step(1), events.Finished(1, "checkpoints/x", 60.0, "nothing better came"))
    assert "ended early: nothing better came" in run_page.progress(view, "finished")
