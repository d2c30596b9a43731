"""Tab "Queue": what waits and runs, and all runs that were. Drawn by the browser (queue.js), which speaks the JSON API.

Only what concerns the form is here: putting it into the queue, and loading an entry into it.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from engine import queue as queues
from engine.errors import UserError
from engine.queue import preset_of
from launchers.worker import start_worker
from ui import form as forms
from ui import last, plan_bar, run_list
from ui.check import check
from ui.data_page import problem_list
from ui.handlers import QUIET
from ui.language import say
from ui.words import escape

_CHOSEN = "(before, ...shown) => [window.atelierQueue.edited(), ...shown]"


def build() -> None:
    """Draw the tab."""
    gr.HTML(
        '<div id="queue-root" class="drawn"></div>',
        elem_id="queue-page",
        js_on_load="window.atelierQueue.start(element)",
    )


def connect(bar: plan_bar.PlanBar, form: forms.Form, tabs: gr.Tabs, look: dict[str, Any]) -> None:
    """Wire "Add to queue", and what the tab's script writes for `bar.edit`."""
    bar.add.click(add, [bar.edited, *form.inputs], [bar.message, bar.edited], **QUIET)
    shown = [bar.message, bar.edited, tabs, *form.inputs]
    edited = bar.edit.click(edit, [bar.edited, *form.inputs], shown, js=_CHOSEN, **QUIET)
    edited.then(**look)


def add(edited: str, *shown: Any) -> list[Any]:
    """Put the form at the end of the queue, or into the entry that it was loaded from, if that still waits."""
    found = check(forms.read_all(shown), anew=True)
    if found.preset is None or found.problems:
        return [plan_bar.blocked(found.problems), gr.skip()]
    here, name = queues.queue(), escape(found.preset.run.name)
    try:
        run_list.know_folder(found.preset.run.folder)
        if edited and any(entry.id == edited and entry.state == "waiting" for entry in here.entries()):
            here.replace_preset(edited, found.preset)
            done = say("“{name}” in the queue is changed.", name=name)
        else:
            here.add(queues.of_preset(found.preset))
            done = say("“{name}” waits in the queue.", name=name)
        start_worker()
    except UserError as error:
        return [problem_list(error.problems, "problem"), gr.skip()]
    return [f'<p class="done">{done}</p>', ""]


def edit(chosen: str, *shown: Any) -> list[Any]:
    """Load an entry into the form; what stood there can be brought back on the tab Presets."""
    try:
        entry = queues.queue().get(chosen)
        preset = preset_of(entry)
        last.keep_before(forms.read_all(shown))
    except UserError as error:
        return [problem_list(error.problems, "problem"), "", gr.skip(), *[gr.skip()] * len(shown)]
    done = say("“{name}” is in the form. “Add to queue” changes it in the queue.", name=escape(entry.title))
    return [f'<p class="done">{done}</p>', entry.id, gr.Tabs(selected="training"), *forms.show_all(preset)]
