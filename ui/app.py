"""The page: its tabs, what happens between them, and the server that shows it on this machine only."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engine.errors import Problem, UserError
from ui import (
    caption_panel,
    captions_tab,
    chooser,
    data_tab,
    field_reset,
    first_steps,
    forecast_panel,
    last,
    layout_help,
    measuring,
    page_language,
    plan_bar,
    preset_files,
    presets_tab,
    queue_tab,
    rate_chart,
    report_tab,
    run_list,
    run_tab,
    sample_tab,
    tool_panel,
    tools_tab,
    training_tab,
)
from ui import form as forms
from ui.check import Check, check
from ui.data_page import PAGE_IMAGES
from ui.handlers import QUIET
from ui.language import say
from ui.page_language import Blocks

_SHOW_MARKS = "(marks) => window.atelier.showMarks(marks)"
_SHOW_LEVEL = "(level) => window.atelier.showLevel(level)"


@dataclass
class Page:
    """All parts that handlers speak to."""

    form: forms.Form
    tabs: gr.Tabs
    level: gr.Radio
    problems: gr.HTML
    rates: gr.HTML
    forecast: forecast_panel.ForecastPanel
    data: data_tab.DataTab
    presets: presets_tab.PresetsTab
    captions: caption_panel.CaptionPanel
    bar: plan_bar.PlanBar
    reset: gr.HTML
    steps: gr.HTML
    sampling: sample_tab.SampleTab
    tools: tool_panel.ToolPanel
    tools_place: gr.Tab
    seen: gr.State


def build() -> gr.Blocks:
    """The whole page as Gradio blocks."""
    form = forms.Form()
    with Blocks(title="Atelier", fill_width=True, analytics_enabled=False) as blocks:
        with gr.Row(elem_id="top", equal_height=True):
            gr.HTML('<h1>Atelier</h1><span class="quiet">SDXL LoRA trainer</span>', elem_id="brand", min_width=240)
            run_tab.build_status()
            first_steps.build_button()
            gr.HTML(page_language.switch(), elem_id="language", js_on_load="window.atelier.languageSwitch(element)")
        steps = first_steps.build()
        tool_timers = [gr.Timer(tool_panel.TICK_SECONDS, active=False) for _ in range(5)]
        forecast_timer = gr.Timer(forecast_panel.TICK_SECONDS, active=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Data set", id="data", elem_id="tab-data"):
                data = data_tab.build(form, tool_timers[:2])
            with gr.Tab("Captions", id="captions", elem_id="tab-captions", render_children=True):
                captions = captions_tab.build(tool_timers[2:4])
            with gr.Tab("Training", id="training", elem_id="tab-training", render_children=True):
                level, problems, rates, forecast = training_tab.build(form, forecast_timer)
            with gr.Tab("Run", id="run", elem_id="tab-run", render_children=True):
                run_tab.build()
            with gr.Tab("Sample", id="sample", elem_id="tab-sample", render_children=True):
                sampling = sample_tab.build_tab()
            with gr.Tab("Tools", id="tools", elem_id="tab-tools", render_children=True) as tools_place:
                tools = tools_tab.build(tool_timers[4])
            with gr.Tab("Queue", id="queue", elem_id="tab-queue", render_children=True):
                queue_tab.build()
            with gr.Tab("Presets", id="presets", elem_id="tab-presets", render_children=True) as place:
                presets = presets_tab.build(form, place)
        bar = plan_bar.build()
        chooser.build()
        reset = field_reset.build()
        parts = (form, tabs, level, problems, rates, forecast, data, presets, captions, bar, reset, steps, sampling)
        parts += (tools, tools_place)
        _connect(blocks, Page(*parts, gr.State({})))
    return blocks


def _connect(blocks: gr.Blocks, page: Page) -> None:
    form, data = page.form, page.data
    looked: list[Any] = [
        page.problems,
        page.bar.plan,
        page.bar.marks,
        page.rates,
        page.forecast.forecast,
        page.bar.message,
        *data.outputs,
        page.seen,
    ]
    look: dict[str, Any] = {
        "fn": _look,
        "inputs": [page.seen, page.level, page.presets.chosen, data.subset, data.number, *form.inputs],
        "outputs": looked,
        **QUIET,
    }
    show_marks: dict[str, Any] = {
        "fn": None,
        "inputs": [page.bar.marks],
        "js": _SHOW_MARKS,
        "api_visibility": "private",
    }
    gr.on(form.triggers, trigger_mode="always_last", **look).then(**show_marks)
    gr.on([data.subset.input], trigger_mode="always_last", **look)
    put_back = getattr(page.reset, "submit")(field_reset.put_back, None, form.inputs[:-2], **QUIET)  # noqa: B009
    put_back.then(**look).then(**show_marks)
    filled = first_steps.connect(page.steps, form, [page.bar.message, page.presets.chosen], look)
    filled.then(**show_marks)
    for button, pages in ((data.back, -1), (data.forth, 1)):
        turn = button.click(_turner(pages), [data.number], [data.number], **QUIET)
        turn.then(**look)
    page.level.change(None, [page.level], js=_SHOW_LEVEL, api_visibility="private")
    page.level.input(**{**look, "trigger_mode": "always_last"})

    forecast_panel.connect(page.forecast, form, {**look})
    presets_tab.connect(page.presets, form, {**look})
    lists = [page.presets.chosen, page.presets.left, page.presets.right]
    arrived = blocks.load(_arrive, None, [page.tabs, page.level, *lists, *form.inputs], **QUIET)
    arrived.then(**look).then(**show_marks)
    arrived.then(None, [page.level], js=_SHOW_LEVEL, api_visibility="private")
    arrived.then(**presets_tab.propose(page.presets)).then(**presets_tab.look(page.presets, form))

    captions = page.captions
    prepared = tool_panel.connect(data.prepare, form, {**look}), data.prepare_part
    tools = tool_panel.connect(page.tools, form, {**look}), page.tools_place
    for looks, part in (prepared, tools, *caption_panel.connect(captions, form, {**look})):
        for name in ("mark", "show_tool", "follow"):
            arrived.then(**looks[name])
        part.select(**looks["follow"])

    sample_tab.connect(page.sampling, arrived)
    helped = layout_help.connect(data.layout, form, data.parts, data.prepare, {**prepared[0], "form": {**look}})
    arrived.then(**helped)
    report_tab.connect(data.report, data.report_part, form)
    begun = page.bar.start.click(_start, form.inputs, [page.bar.message, page.tabs], **QUIET)
    begun.then(None, js=run_tab.LOOK, api_visibility="private")
    queue_tab.connect(page.bar, form, page.tabs, {**look})


def _look(seen: dict[str, Any], level: str, preset: str, subset: str, first: float, *shown: Any) -> list[Any]:
    """After each change of the form: keep it, check it, and send what is to be seen anew."""
    content = forms.read_all(shown)
    if preset:  # none is chosen while the page is still being filled
        _keep(content, level, preset, seen)
    found = check(content)
    parts = [
        ("problems", training_tab.problems_of(found)),
        ("plan", plan_bar.sentence(found)),
        ("marks", plan_bar.marks(found, field_reset.changed(content, field_reset.loaded()))),
        ("rates", rate_chart.picture(found) or seen.get("rates")),
        ("forecast", forecast_panel.table(found)),
    ]
    updates = [gr.skip() if seen.get(name) == value else value for name, value in parts]
    message = gr.skip() if seen.get("plan") == plan_bar.sentence(found) else ""  # it was about another form
    seen.update(parts)
    return [*updates, message, *data_tab.show(found, subset, int(first or 0), seen), seen]


def _keep(content: dict[str, Any], level: str, preset: str, seen: dict[str, Any]) -> None:
    """Remember the form for the next visit; a disk that refuses this is told once and does not disturb the work."""
    try:
        last.remember(content, level, preset)
    except UserError as error:
        if not seen.get("told"):
            print(f"The form cannot be remembered for the next visit. {error}", file=sys.stderr)
        seen["told"] = True


def _turner(pages: int):
    return lambda first: max(0, int(first or 0) + pages * PAGE_IMAGES)


def _arrive() -> list[Any]:
    """A page was opened: the form as it was left (on the first visit the demo), and the running run if there is one."""
    kept = last.recall()
    shown = forms.show_content(kept.content) if kept.content else _first_form(kept.preset)
    run_list.know_folder(str(forms.read_all(shown)["run"]["folder"]))
    is_running = run_list.running(run_list.all_runs()) is not None
    return [
        gr.Tabs(selected="run" if is_running else "data"),
        kept.level,
        *presets_tab.choices_update(kept.preset, None, None),
        *shown,
    ]


def _first_form(preset: str) -> list[Any]:
    try:
        first = preset_files.load_listed(preset)
        last.keep_loaded(first.model_dump())
        return forms.show_all(first)
    except UserError:
        return forms.show_content({})


def _start(*shown: Any) -> list[Any]:
    """Start names everything that is in its way; otherwise the run begins and the page turns to it."""
    found: Check = check(forms.read_all(shown), anew=True)
    if found.preset is None or found.problems:
        return [plan_bar.blocked(found.problems), gr.skip()]
    if measuring.goes_on():
        sentence = say("three steps are being measured now. Wait for them, or cancel on the tab Training.")
        return [plan_bar.blocked([Problem("", sentence)]), gr.skip()]
    try:
        run_list.start(found.preset)
    except UserError as error:
        return [plan_bar.blocked(error.problems), gr.skip()]
    return ["", gr.Tabs(selected="run")]
