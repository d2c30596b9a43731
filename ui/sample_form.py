"""The form of the tab "Sample": one field per setting of a picture, drawn and read by the training form's own code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.drawing.desk import desk
from engine.drawing.lora_lines import read_lora_lines
from engine.drawing.plan import plan_drawing
from engine.drawing.settings import BY_PATH, DRAWING_SETTINGS, build
from engine.errors import Problem, UserError
from engine.preset import BY_PATH as TRAINING
from engine.preset import Preset, load, resolve
from ui import form as forms
from ui import last
from ui.language import either
from ui.told import retold

KEY = "drawing"  # the group of the fields; they are called "drawing.group.name" on the page
MAIN = ("picture", "sampling")  # shown on top; model.base too
_FILE = "form.json"


def read_all(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The raw values of the fields ("group.name") as the nested content that `build` takes."""
    content: dict[str, Any] = {}
    for item in DRAWING_SETTINGS:
        content.setdefault(item.section, {})[item.name] = forms.read(item, shown.get(item.path, item.default))
    return content


def show_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show for content that may be incomplete or faulty."""
    shown: dict[str, Any] = {}
    for item in DRAWING_SETTINGS:
        group = content.get(item.section)
        value = group.get(item.name, item.default) if isinstance(group, Mapping) else item.default
        shown[item.path] = forms.show(item, value if forms.fits(item, value) else item.default)
    return shown


def updates(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields get for some new values, as far as they can show them."""
    items = {path: BY_PATH[path] for path in values if path in BY_PATH}
    return {path: forms.show(item, values[path]) for path, item in items.items() if forms.fits(item, values[path])}


def problems(content: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the form and the files that it names, all at once."""
    try:
        plan_drawing(build(content))
    except UserError as error:
        return list(error.problems)
    return []


def marks(content: Mapping[str, Any], found: Sequence[Problem]) -> dict[str, Any]:
    """For page.js: the sentences beside each field, and what makes no sense now."""
    beside: dict[str, list[str]] = {}
    for problem in found:
        if problem.where in BY_PATH:
            beside.setdefault(f"{KEY}.{problem.where}", []).append(retold(problem.message))
    off = [f"{KEY}.{item.path}" for item in DRAWING_SETTINGS if not _is_on(item.when, content)]
    return {"source": KEY, "problems": beside, "off": off}


def _is_on(when: Sequence[tuple[str, Any]], content: Mapping[str, Any]) -> bool:
    return all(content.get(path.split(".")[0], {}).get(path.split(".")[1]) == wanted for path, wanted in when)


def labelled(found: Sequence[Problem]) -> list[Problem]:
    """The problems as the page tells them, with the labels of the fields in the place of their names."""
    named = {path: either(item.label, item.zh) for path, item in BY_PATH.items()}
    return [Problem(named.get(item.where, item.where), retold(item.message)) for item in found]


def remember(content: Mapping[str, Any]) -> None:
    """Keep the form for the next visit. UserError where it cannot be written."""
    write_text_whole(desk().path / _FILE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def recall() -> dict[str, Any]:
    """The form as it was left; on the first visit with the base model and the sample settings of the training form."""
    try:
        kept = json.loads((desk().path / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a missing or damaged file means a first visit
        kept = None
    return _checked(kept) if isinstance(kept, dict) else first_content(_training_content())


def _checked(kept: dict[str, Any]) -> dict[str, Any]:
    """Groups that are none are left out."""
    return {name: group for name, group in kept.items() if isinstance(group, dict)}


def _training_content() -> dict[str, Any]:
    kept = last.recall()
    if kept.content:
        return kept.content
    try:
        return load(Path(kept.preset)).model_dump() if kept.preset else {}
    except UserError:
        return {}


def first_content(training: Mapping[str, Any]) -> dict[str, Any]:
    """The form for the model of a training preset, as its samples are drawn."""
    content: dict[str, Any] = {}
    for path, value in from_training(training).items():
        group, name = path.split(".")
        content.setdefault(group, {})[name] = value
    return content


_TAKEN = {
    "model.base": "model.base",
    "model.vae": "model.vae",
    "model.prediction": "model.prediction",
    "sample.width_px": "picture.width_px",
    "sample.height_px": "picture.height_px",
    "sample.negative": "picture.negative",
    "sample.steps": "sampling.steps",
    "sample.cfg_scale": "sampling.cfg_scale",
    "memory.precision": "model.precision",
}


def from_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """What of a training preset's content says how to draw, by "group.name"; only allowed values."""
    found: dict[str, Any] = {}
    for source, path in _TAKEN.items():
        section, name = source.split(".")
        group = training.get(section)
        value = group.get(name, TRAINING[source].default) if isinstance(group, Mapping) else TRAINING[source].default
        item = BY_PATH[path]
        if value in item.choices or (not item.choices and forms.fits(item, value)):
            found[path] = value
    sample = training.get("sample")
    prompts = str(sample.get("prompts", "")) if isinstance(sample, Mapping) else ""
    lines = [line.split(" --")[0].strip() for line in prompts.splitlines()]
    found["picture.prompt"] = next((line for line in lines if line and not line.startswith("#")), "")
    return found


def with_lora(present: str, path: str, strength: float = 1.0) -> str:
    """The lines of LoRAs with one more; one that is there already is left as it is."""
    chosen, _ = read_lora_lines(present)
    if any(lora.path == resolve(path) for lora in chosen):
        return present
    lines = [line for line in present.splitlines() if line.strip()]
    return "\n".join([*lines, f"{path}: {strength:g}"])


def for_run(preset: Preset, path: str) -> dict[str, Any]:
    """What the form gets to try a run's checkpoint: its base model, sample settings and prompt, and the LoRA alone."""
    return {**from_training(preset.model_dump()), "loras.files": f"{path}: 1"}


def model_files(content: Mapping[str, Any]) -> Iterator[Path]:
    """Model files that a picture's settings may mean: those of the forms, and what lies beside them."""
    given = [content.get("model", {}).get("base"), _training_content().get("model", {}).get("base")]
    for name in given:
        if not isinstance(name, str) or not name:
            continue
        path = resolve(name)
        yield path
        if path.is_file():
            yield from sorted(path.parent.glob("*.safetensors"))[:500]
