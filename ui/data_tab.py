"""Tab "Data set": the folders, what is in them, and what becomes of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from captioning.tools import TOOLS
from engine.plan_images import ImagePlan
from ui import data_page, layout_help, report_tab, tool_panel
from ui.check import Check
from ui.data_page import PAGE_IMAGES
from ui.form import Form
from ui.language import say

FIELDS = ("data.folder", "data.regularization_folder", "captions.extension")  # the fields that live on this tab
PREPARING = ("arrange", "rename", "name_captions", "clean", "crop", "balance", "similarity")  # in this order
_ALL = "All folders"


@dataclass
class DataTab:
    notes: gr.HTML
    folders: gr.HTML
    buckets: gr.HTML
    subset: gr.Dropdown
    number: gr.Number
    where: gr.HTML
    gallery: gr.HTML
    back: gr.Button
    forth: gr.Button
    layout: layout_help.LayoutHelp
    parts: gr.Tabs
    prepare: tool_panel.ToolPanel
    prepare_part: gr.Tab
    report: report_tab.ReportTab
    report_part: gr.Tab

    @property
    def outputs(self) -> list[Component]:
        pages = [self.subset, self.number, self.where, self.back, self.forth]
        return [self.notes, self.folders, self.buckets, *pages, self.gallery]


def build(form: Form, timers: Sequence[gr.Timer]) -> DataTab:
    """Draw the tab. `timers`: for the tools and for the report; they stand outside of all tabs."""
    with gr.Row(elem_classes="fields", equal_height=False):
        for path in FIELDS:
            form.add(path)
    notes = gr.HTML(elem_id="data-notes")
    layout = layout_help.build()
    with gr.Tabs(elem_id="data-parts", elem_classes="parts") as parts:
        with gr.Tab("Pictures", id="pictures", elem_id="part-pictures"):
            folders, buckets, pages = _pictures()
        with gr.Tab("Report", id="report", elem_id="part-report", render_children=True) as report_part:
            report = report_tab.build(timers[1])
        with gr.Tab("Prepare", id="prepare", elem_id="part-prepare", render_children=True) as prepare_part:
            prepare = tool_panel.build("prepare", [name for name in PREPARING if name in TOOLS], timers[0])
    subset, back, where, forth, number, gallery = pages
    tools = (layout, parts, prepare, prepare_part, report, report_part)
    return DataTab(notes, folders, buckets, subset, number, where, gallery, back, forth, *tools)


def _pictures() -> tuple[gr.HTML, gr.HTML, tuple[Any, ...]]:
    with gr.Row(equal_height=False, elem_id="data-tables"):
        folders = gr.HTML(elem_id="data-folders")
        buckets = gr.HTML(elem_id="data-buckets")
    with gr.Row(elem_id="data-pages", equal_height=True):
        subset = gr.Dropdown(
            [_ALL],
            value=_ALL,
            label="Pictures of",
            show_label=False,
            filterable=False,
            container=False,
            elem_id="data-subset",
            visible=False,
        )
        back = gr.Button("‹ Back", size="sm", min_width=80, visible=False)
        where = gr.HTML(elem_id="data-where")
        forth = gr.Button("More ›", size="sm", min_width=80, visible=False)
        number = gr.Number(0, visible="hidden")
    gallery = gr.HTML(elem_id="data-gallery")
    return folders, buckets, (subset, back, where, forth, number, gallery)


def show(check: Check, subset: str, first: int, seen: dict[str, Any]) -> list[Any]:
    """What `outputs` get; parts that did not change since `seen` are left alone."""
    plan = check.plan
    names = list(dict.fromkeys(item.name for item in plan.subsets)) if plan else []
    chosen = subset if subset in names else _ALL
    images = [image for image in plan.images if chosen in (_ALL, image.subset)] if plan else []
    first = first if 0 <= first < len(images) else 0
    more = first + PAGE_IMAGES < len(images)
    pictures = tuple((str(image.path), image.caption, image.bucket_px) for image in images[first:][:PAGE_IMAGES])
    parts: dict[str, tuple[Any, Any]] = {
        "notes": _text(data_page.notes(check)),
        "folders": _text(data_page.folders(plan)),
        "buckets": _text(data_page.buckets(plan)),
        "subset": (
            (names, chosen),
            gr.update(choices=[(say("All folders"), _ALL), *names], value=chosen, visible=len(names) > 1),
        ),
        "number": (first, first),
        "where": _text(_where(images, first)),
        "back": ((len(images), first > 0), gr.update(visible=len(images) > PAGE_IMAGES, interactive=first > 0)),
        "forth": ((len(images), more), gr.update(visible=len(images) > PAGE_IMAGES, interactive=more)),
    }
    changed = [_unless_seen(seen, name, signature, value) for name, (signature, value) in parts.items()]
    if seen.get("pictures") == pictures:
        return [*changed, gr.skip()]
    seen["pictures"] = pictures
    return [*changed, data_page.gallery(images, first)]


def _text(content: str) -> tuple[str, str]:
    return content, content


def _unless_seen(seen: dict[str, Any], name: str, signature: Any, value: Any) -> Any:
    if seen.get(name, ...) == signature:
        return gr.skip()
    seen[name] = signature
    return value


def _where(images: list[ImagePlan], first: int) -> str:
    if not images:
        return ""
    last = min(first + PAGE_IMAGES, len(images))
    numbers = {"first": f"{first + 1:,}", "last": f"{last:,}", "total": f"{len(images):,}"}
    return f'<span class="quiet">{say("Pictures {first} to {last} of {total}", **numbers)}</span>'
