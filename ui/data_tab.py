"""Tab "Data set": the folders, what is in them, and what becomes of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from captioning.tools import TOOLS
from engine.plan_images import ImagePlan
from engine.preset import BY_PATH
from ui import data_page, fields, report_tab, tool_panel
from ui.check import Check
from ui.data_page import PAGE_IMAGES
from ui.language import say
from ui.parts import Part, same

FIELDS = ("data.folder", "data.regularization_folder", "captions.extension")  # the fields that live on this tab
PREPARING = ("arrange", "rename", "name_captions", "clean", "crop", "balance", "similarity")  # in this order


@dataclass
class DataTab:
    """What handlers of Gradio speak to; form.js fills the rest."""

    parts: gr.Tabs
    prepare: tool_panel.ToolPanel
    prepare_part: gr.Tab
    report: report_tab.ReportTab
    report_part: gr.Tab


def build(timers: Sequence[gr.Timer]) -> DataTab:
    """Draw the tab. `timers`: for the tools and for the report; they stand outside of all tabs."""
    fields.html(_head, "data-head")
    with gr.Tabs(elem_id="data-parts", elem_classes="parts") as parts:
        with gr.Tab("Pictures", id="pictures", elem_id="part-pictures"):
            fields.html(_pictures, "data-pictures")
        with gr.Tab("Report", id="report", elem_id="part-report", render_children=True) as report_part:
            report = report_tab.build(timers[1])
        with gr.Tab("Prepare", id="prepare", elem_id="part-prepare", render_children=True) as prepare_part:
            prepare = tool_panel.build("prepare", [name for name in PREPARING if name in TOOLS], timers[0])
    return DataTab(parts, prepare, prepare_part, report, report_part)


def _head() -> str:
    places = '<div id="data-notes"></div><div id="layout-help" class="confirm" hidden></div>'
    return f'<div class="drawn">{fields.of_form(BY_PATH[path] for path in FIELDS)}{places}</div>'


def _pictures() -> str:
    pages = (
        f'<select id="data-subset" aria-label="{say("Pictures of")}" hidden></select>'
        f'<button type="button" id="data-back" hidden>{say("‹ Back")}</button>'
        '<span id="data-where" class="quiet"></span>'
        f'<button type="button" id="data-forth" hidden>{say("More ›")}</button>'
    )
    return (
        '<div class="drawn"><div id="data-tables"><div id="data-folders"></div><div id="data-buckets"></div></div>'
        f'<div id="data-pages">{pages}</div><div id="data-gallery"></div></div>'
    )


def shown(check: Check, subset: str, first: int) -> dict[str, Part]:
    """The parts of the tab. `subset`: whose pictures are wanted, "" for all; `first`: the number of the first one."""
    plan = check.plan
    names = list(dict.fromkeys(item.name for item in plan.subsets)) if plan else []
    chosen = subset if subset in names else ""
    images = [image for image in plan.images if chosen in ("", image.subset)] if plan else []
    first = first if 0 <= first < len(images) else 0
    pictures = tuple((str(image.path), image.caption, image.bucket_px) for image in images[first:][:PAGE_IMAGES])
    pages: dict[str, Any] = {
        "names": [["", say("All folders")], *([name, name] for name in names)] if len(names) > 1 else [],
        "chosen": chosen,
        "first": first,
        "where": _where(images, first),
        "back": max(0, first - PAGE_IMAGES) if first > 0 else None,
        "forth": first + PAGE_IMAGES if first + PAGE_IMAGES < len(images) else None,
        "turns": len(images) > PAGE_IMAGES,
    }
    return {
        "notes": same(data_page.notes(check)),
        "folders": same(data_page.folders(plan)),
        "buckets": same(data_page.buckets(plan)),
        "pages": same(pages),
        "gallery": (pictures, lambda: data_page.gallery(images, first)),
    }


def _where(images: list[ImagePlan], first: int) -> str:
    if not images:
        return ""
    last = min(first + PAGE_IMAGES, len(images))
    numbers = {"first": f"{first + 1:,}", "last": f"{last:,}", "total": f"{len(images):,}"}
    return say("Pictures {first} to {last} of {total}", **numbers)
