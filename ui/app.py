"""The page: its tabs, and what happens between the parts that Gradio draws. The form itself is form.js's."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ui import (
    caption_panel,
    captions_tab,
    chooser,
    comparing_tab,
    data_tab,
    first_steps,
    form_answers,
    page_language,
    plan_bar,
    presets_tab,
    queue_tab,
    report_tab,
    run_tab,
    sample_tab,
    served_functions,
    tool_panel,
    tools_tab,
    training_tab,
)
from ui.page_language import Blocks


@dataclass
class Page:
    """All parts that handlers speak to."""

    data: data_tab.DataTab
    captions: caption_panel.CaptionPanel
    tools: tool_panel.ToolPanel
    tools_place: gr.Tab
    given: gr.Textbox
    filled: gr.Textbox


def build() -> gr.Blocks:
    """The whole page as Gradio blocks."""
    with Blocks(title="Atelier", fill_width=True, analytics_enabled=False) as blocks:
        with gr.Row(elem_id="top", equal_height=True):
            gr.HTML('<h1>Atelier</h1><span class="quiet">SDXL LoRA trainer</span>', elem_id="brand", min_width=240)
            run_tab.build_status()
            first_steps.build_button()
            gr.HTML(page_language.switch(), elem_id="language", js_on_load="window.atelier.languageSwitch(element)")
        _form()
        first_steps.build()
        tool_timers = [gr.Timer(tool_panel.TICK_SECONDS, active=False) for _ in range(5)]
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Data set", id="data", elem_id="tab-data"):
                data = data_tab.build(tool_timers[:2])
            with gr.Tab("Captions", id="captions", elem_id="tab-captions", render_children=True):
                captions = captions_tab.build(tool_timers[2:4])
            with gr.Tab("Training", id="training", elem_id="tab-training", render_children=True):
                training_tab.build()
            with gr.Tab("Run", id="run", elem_id="tab-run", render_children=True):
                run_tab.build()
            with gr.Tab("Sample", id="sample", elem_id="tab-sample", render_children=True):
                sample_tab.build()
            with gr.Tab("Compare", id="compare", elem_id="tab-compare", render_children=True):
                comparing_tab.build()
            with gr.Tab("Tools", id="tools", elem_id="tab-tools", render_children=True) as tools_place:
                tools = tools_tab.build(tool_timers[4])
            with gr.Tab("Queue", id="queue", elem_id="tab-queue", render_children=True):
                queue_tab.build()
            with gr.Tab("Presets", id="presets", elem_id="tab-presets", render_children=True):
                presets_tab.build()
        plan_bar.build()
        chooser.build()
        given, filled = (gr.Textbox(visible="hidden", elem_id=f"fields-{name}") for name in ("given", "filled"))
        _connect(Page(data, captions, tools, tools_place, given, filled))
    return blocks


def _form() -> None:
    """Where the form asks from, outside of all tabs."""
    gr.HTML(
        f'<div id="form-place" data-key="{served_functions.KEY}"></div>',
        elem_id="form",
        js_on_load="window.atelierForm.start(element, server)",
        server_functions=[form],
    )


def form(asked: str) -> str:
    """One question of the form, and its answer, both JSON."""
    return served_functions.answered(asked, form_answers.answer)


def _connect(page: Page) -> None:
    bridge = tool_panel.Bridge(page.given, page.filled)
    panels = (page.data.prepare, page.data.prepare_part), (page.tools, page.tools_place)
    looks_of = [(tool_panel.connect(panel, bridge), part) for panel, part in panels]
    for looks, part in (*looks_of, *caption_panel.connect(page.captions, bridge)):
        part.select(**looks["follow"])
    report_tab.connect(page.data.report, page.data.report_part, page.given)
