"""What the form of the tab Sample asks the page's program: it is kept and marked as it is filled in, and drawn from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from engine.drawing.desk import desk
from engine.drawing.plan import plan_drawing
from engine.drawing.settings import build
from engine.errors import UserError
from engine.preset import load
from ui import run_list, sample_form
from ui.data_page import problem_list
from ui.drawing_view import view_of
from ui.language import say

Asked = Mapping[str, Any]
Answer = dict[str, Any]


def arrive(_: Asked) -> Answer:
    """The form as it was left: {"shown", "marks"}."""
    content = sample_form.recall()
    return {"shown": sample_form.show_content(content), "marks": _marks(content)}


def edited(asked: Asked) -> Answer:
    """After each change: keep the form, and mark what is wrong in it."""
    content = _content(asked)
    with contextlib.suppress(UserError):  # a disk that refuses this is told when pictures are asked for
        sample_form.remember(content)
    return {"marks": _marks(content)}


def draw(asked: Asked) -> Answer:
    """Ask for the pictures of the form, or say everything that is in the way: {"message": HTML, "marks"}."""
    content = _content(asked)
    try:
        preset = build(content)
        sample_form.remember(content)
        plan_drawing(preset)  # names all that is wrong with its files
        view_of(desk()).ask(preset)
    except UserError as error:
        found = list(error.problems)
        told = problem_list(sample_form.labelled(found), "problem")
        marks = sample_form.marks(content, found)
        why = say("Not started. Please correct:")
        return {"message": f'<div class="fault"><p>{why}</p>{told}</div>', "marks": marks}
    return {"message": "", "marks": sample_form.marks(content, [])}


def fill(asked: Asked) -> Answer:
    """What the browser puts into the form: settings of a picture, a size, a LoRA, or all for a run's checkpoint.
    {"shown"}. Raises UserError."""
    values, lora = asked.get("values"), asked.get("lora")
    new: dict[str, Any] = dict(values) if isinstance(values, dict) else {}
    if isinstance(lora, str) and asked.get("run"):
        new |= for_checkpoint(lora)
    elif isinstance(lora, str):
        new["loras.files"] = sample_form.with_lora(str(_content(asked)["loras"]["files"]), lora)
    return {"shown": sample_form.updates(new)}


def for_checkpoint(path: str) -> dict[str, Any]:
    """What the form gets to try a checkpoint of a run that is known. Raises UserError."""
    for run in run_list.all_runs():
        if path in {str(file) for file in run.checkpoints.glob("*.safetensors")}:
            return sample_form.for_run(load(run.preset), path)
    raise UserError(say("There is no such run any more."))


def _content(asked: Asked) -> dict[str, Any]:
    shown = asked.get("form")
    return sample_form.read_all(shown if isinstance(shown, Mapping) else {})


def _marks(content: Asked) -> dict[str, Any]:
    return sample_form.marks(content, sample_form.problems(content))
