"""Tab "Run": one run followed live. A tick reads what is new and sends only the parts that changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gradio as gr
from gradio.components import Component

from engine.errors import UserError
from engine.run import Request, RunFolder, Status
from ui import run_list, run_page
from ui.handlers import QUIET
from ui.run_view import RunView, view_of
from ui.words import escape

TICK_SECONDS = 2.0


@dataclass
class RunTab:
    run: gr.Dropdown
    resume: gr.Button
    requests: dict[Request, gr.Button]
    message: gr.HTML
    progress: gr.HTML
    curves: gr.HTML
    samples: gr.HTML
    checkpoints: gr.HTML
    log: gr.Textbox
    seen: gr.State
    timer: gr.Timer

    @property
    def outputs(self) -> list[Component]:
        buttons = [self.resume, *self.requests.values()]
        return [self.run, *buttons, self.progress, self.curves, self.samples, self.checkpoints, self.log]


def build(timer: gr.Timer) -> RunTab:
    """Draw the tab. The timer stands outside of all tabs: inside it would begin with the first visit."""
    with gr.Row(elem_id="run-controls", equal_height=True):
        run = gr.Dropdown([], label="Run", show_label=False, container=False, elem_id="run-choice", scale=3)
        resume = gr.Button("Resume", interactive=False, elem_id="resume", min_width=110)
        requests: dict[Request, gr.Button] = {
            "stop": gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", min_width=110),
            "save": gr.Button("Save now", interactive=False, elem_id="save-now", min_width=110),
            "sample": gr.Button("Sample now", interactive=False, elem_id="sample-now", min_width=110),
        }
    message = gr.HTML(elem_id="run-message")
    progress = gr.HTML(run_page.empty(), elem_id="run-progress")
    curves = gr.HTML(elem_id="run-curves")
    samples = gr.HTML(elem_id="run-samples")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1):
            checkpoints = gr.HTML(elem_id="run-checkpoints")
        with gr.Column(scale=1):
            log = gr.Textbox(
                label="Log",
                lines=12,
                max_lines=12,
                interactive=False,
                autoscroll=True,
                elem_id="run-log",
                visible=False,
            )
    return RunTab(
        run,
        resume,
        requests,
        message,
        progress,
        curves,
        samples,
        checkpoints,
        log,
        gr.State({}),
        timer,
    )


def connect(tab: RunTab, header: gr.HTML) -> dict[str, Any]:
    """Wire the tick and the buttons; returns the look at the run, for others to follow with."""
    look: dict[str, Any] = {
        "fn": tick,
        "inputs": [tab.run, tab.seen],
        "outputs": [header, *tab.outputs, tab.seen],
        **QUIET,
    }
    tab.timer.tick(**look)
    tab.run.input(**look)
    tab.resume.click(_resume, [tab.run], [tab.message], **QUIET).then(**look)
    for what, button in tab.requests.items():
        button.click(ask(what), [tab.run], [tab.message], **QUIET).then(**look)
    return look


def tick(chosen: str | None, seen: dict[str, Any]) -> list[Any]:
    """What the header and the tab get; parts that did not change since `seen` are left alone."""
    all_of = run_list.all_runs()
    active = run_list.running(all_of)
    shown = _shown(chosen, seen, [str(run.path) for run in all_of], active)
    choices = run_list.choices(all_of, active)
    parts: list[tuple[str, Any, Any]] = []
    if shown is None:
        view, state = None, None
    else:
        view = active if active and active.run.path == Path(shown) else view_of(Path(shown))
        state = run_list.status(view)
    active_line = run_page.header(active or view, "running" if active else state)
    parts.append(("header", active_line, active_line))
    parts.append(("run", (choices, shown), gr.update(choices=choices, value=shown)))
    parts += _button_parts(state)
    parts += _page_parts(view, state) if view and state else _empty_parts()
    updates = [_unless_seen(seen, *part) for part in parts]
    return [*updates, seen]


def _shown(chosen: str | None, seen: dict[str, Any], paths: list[str], active: RunView | None) -> str | None:
    """The run to show: the chosen one, but a run that has just begun is followed at once."""
    running = str(active.run.path) if active else None
    begun = running is not None and running != seen.get("active")
    seen["active"] = running
    if begun or (chosen not in paths and running):
        return running
    if chosen in paths:
        return chosen
    return paths[0] if paths else None


def _button_parts(state: Status | None) -> list[tuple[str, Any, Any]]:
    resumable = state in ("stopped", "killed", "failed", "new")
    running = state == "running"
    able = [("resume", resumable), ("stop", running), ("save", running), ("sample", running)]
    return [(name, on, gr.update(interactive=on)) for name, on in able]


def _page_parts(view: RunView, state: Status) -> list[tuple[str, Any, Any]]:
    with view.lock:
        progress = run_page.progress(view, state)
        curves_key = (view.run.path, len(view.curves.steps), view.steps_done, tuple(view.validations))
        samples, samples_key = run_page.samples(view)
        checkpoints = run_page.checkpoints(view)
        log = view.log_tail()
        return [
            ("progress", progress, progress),
            ("curves", curves_key, _Later(view)),
            ("samples", (view.run.path, samples_key), samples),
            ("checkpoints", checkpoints, checkpoints),
            ("log", (view.run.path, log), gr.update(value=log, visible=True)),
        ]


@dataclass
class _Later:
    """Curves are drawn only when they are sent."""

    view: RunView

    def draw(self) -> str:
        with self.view.lock:
            return run_page.curves(self.view)


def _empty_parts() -> list[tuple[str, Any, Any]]:
    names = ("curves", "samples", "checkpoints")
    log = ("log", None, gr.update(value="", visible=False))
    return [("progress", None, run_page.empty()), *((name, None, "") for name in names), log]


def _unless_seen(seen: dict[str, Any], name: str, signature: Any, value: Any) -> Any:
    if seen.get(name, ...) == signature:
        return gr.skip()
    seen[name] = signature
    return value.draw() if isinstance(value, _Later) else value


def ask(what: Request):
    def asked(chosen: str | None) -> str:
        run = _existing(chosen)
        if run is None or not run.is_running():
            return '<p class="fault">No training is running here.</p>'
        run.request(what)
        return ""

    return asked


def _resume(chosen: str | None) -> str:
    run = _existing(chosen)
    if run is None:
        return '<p class="fault">Choose a run to resume.</p>'
    try:
        run_list.resume(run.path)
    except UserError as error:
        return f'<p class="fault">{escape(error)}</p>'
    return ""


def _existing(chosen: str | None) -> RunFolder | None:
    """The chosen run, if it is one of those listed: the page never opens another folder."""
    listed = {str(run.path): run for run in run_list.all_runs()}
    return listed.get(cast(str, chosen))
