"""The part "Report" of the tab Data set: begun when it is opened, told as it grows, made anew when asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from engine.errors import PresetError
from engine.preset import BY_PATH
from ui import fields, report_job, report_page
from ui import form as forms
from ui.data_page import problem_list
from ui.handlers import QUIET
from ui.language import say
from ui.tool_handlers import group
from ui.tool_panel import GIVEN


@dataclass
class ReportTab:
    again: gr.Button
    report: gr.HTML
    timer: gr.Timer
    seen: gr.State


def build(timer: gr.Timer) -> ReportTab:
    """Draw the part. The timer stands outside of all tabs."""
    report = gr.HTML(elem_id="report")
    with gr.Row(elem_classes="buttons"):
        again = gr.Button("Look again", elem_id="report-again", min_width=140)
    return ReportTab(again, report, timer, gr.State(""))


def connect(tab: ReportTab, part: gr.Tab, given: gr.Textbox) -> None:
    """Wire it: the report is made for what the form holds when the part is opened."""
    outputs = [tab.report, tab.timer, tab.seen]
    shown: dict[str, Any] = {"inputs": [given, tab.seen], "outputs": outputs, "js": GIVEN, **QUIET}
    part.select(_shower(asks=True), **shown)
    tab.again.click(_shower(asks=True, again=True), **shown)
    tab.timer.tick(_shower(asks=False), **shown)


def _shower(asks: bool, again: bool = False):
    def show(given: str, seen: str) -> list[Any]:
        try:
            preset = report_job.preset_of(_values(group(given, fields.FORM)))
        except PresetError as error:
            return [problem_list(error.problems, "problem"), gr.Timer(active=False), ""]
        job = report_job.ask(preset, again) if asks else report_job.known(preset)
        if job is None:
            note = f'<p class="quiet">{say("The settings of the data set were changed. Look again.")}</p>'
            return [note, gr.Timer(active=False), ""]
        is_over = job.is_over
        text = report_page.page(job)
        return [gr.skip() if text == seen else text, gr.Timer(active=not is_over), text]

    return show


def _values(shown: forms.Shown) -> dict[str, Any]:
    return {path: forms.read(BY_PATH[path], shown.get(path, BY_PATH[path].default)) for path in report_job.PATHS}
