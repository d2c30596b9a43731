"""Tab "Queue": what waits and runs, and all runs that were. Drawn by the browser (queue.js), which speaks the JSON API.

Only what concerns the form is here: putting it into the queue, and loading an entry into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from engine import queue as queues
from engine.queue import preset_of
from launchers.worker import start_worker
from ui import form as forms
from ui import last, plan_bar, run_list
from ui.check import check
from ui.language import say
from ui.words import escape


def build() -> None:
    """Draw the tab."""
    gr.HTML(
        '<div id="queue-root" class="drawn"></div>',
        elem_id="queue-page",
        js_on_load="window.atelierQueue.start(element)",
    )


def add(asked: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Put the form at the end of the queue, or into the entry that it was loaded from ("edited"), if that still waits.
    Raises UserError."""
    found, edited = check(content, anew=True), str(asked.get("edited") or "")
    if found.preset is None or found.problems:
        return {"message": plan_bar.blocked(found.problems)}
    here, name = queues.queue(), escape(found.preset.run.name)
    run_list.know_folder(found.preset.run.folder)
    if edited and any(entry.id == edited and entry.state == "waiting" for entry in here.entries()):
        here.replace_preset(edited, found.preset)
        done = say("“{name}” in the queue is changed.", name=name)
    else:
        here.add(queues.of_preset(found.preset))
        done = say("“{name}” waits in the queue.", name=name)
    start_worker()
    return {"message": f'<p class="done">{done}</p>', "edited": ""}


def edit(asked: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Load an entry into the form; what stood there can be brought back on the tab Presets. Raises UserError."""
    entry = queues.queue().get(str(asked.get("entry") or ""))
    preset = preset_of(entry)
    last.keep_before(content)
    done = say("“{name}” is in the form. “Change in queue” puts it back.", name=escape(entry.title))
    return {
        "message": f'<p class="done">{done}</p>',
        "edited": entry.id,
        "tab": "training",
        "shown": forms.show_all(preset),
    }
