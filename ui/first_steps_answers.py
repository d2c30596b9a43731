"""What the walk of the first visit asks: what a model file is, what a folder holds, which recipes there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.cards import cards
from engine.errors import PresetError, Problem, UserError
from engine.plan_images import Pictures, look_at_images
from engine.plan_model import look_at_model
from engine.plan_sizes import size_text
from engine.preset import Preset, build
from engine.sentence import card_gb
from ui import applying, last, layout_help, plan_sentence, preset_files
from ui.check import check
from ui.language import say, word
from ui.last import FIRST_PRESET
from ui.scans import scans
from ui.told import fault, retold
from ui.words import place, plural

Answer = dict[str, Any]

FIELDS = {"model": "model.base", "folder": "data.folder"}  # what the walk calls a setting, and the setting
FEW_PICTURES = 8
_MOST_NAMED = 5

# The recipes by purpose: file in presets/ → what it is for, in words that need no knowledge
BY_SUBJECT = {
    "character": word("A person or figure: 15 to 60 pictures of one being, in different places, clothes and poses."),
    "style": word("A style: 30 to 300 pictures of many different things, all drawn or photographed in one manner."),
    "product": word("A thing whose every detail counts, such as a product: 10 to 40 pictures. Needs a large card."),
}
BY_CARD = {f"{size}-GB-card": size for size in (6, 8, 12, 16, 24)}
TRIAL = {FIRST_PRESET.stem: word("Only try it: the built-in demo, with its own small model and pictures.")}


def answer(asked: Mapping[str, Any]) -> Answer:
    """The answer to one question; {"error": a sentence} where there is none."""
    known = _ANSWERS.get(str(asked.get("ask")))
    if known is None:
        return {"error": say("this page is older than the program that it speaks with. Load it again.")}
    try:
        return known(asked)
    except UserError as error:
        return {"error": fault(error)}


def with_recipe(recipe: Preset, present: applying.Content, values: Mapping[str, str]) -> dict[str, Any]:
    """The form's content with a recipe loaded. `values`: paths that the walk has; a recipe's own come first."""
    content, _ = applying.applied(recipe, present, keep_yours=True)
    for path, value in values.items():
        section, _, name = path.partition(".")
        if applying.value_of(content, path) == applying.default_of(path):
            content[section][name] = value
    return content


def _beginning(_: Mapping[str, Any]) -> Answer:
    """Whether the walk was seen, and what of the user's own the form holds already (the demo's is nobody's own)."""
    content = last.recall().content
    found = {name: applying.value_of(content, path) for name, path in FIELDS.items()}
    own = {name: "" if value in applying.shipped(FIELDS[name]) else value for name, value in found.items()}
    demo = preset_files.load_listed(str(FIRST_PRESET))
    return {"seen": last.knows_first_steps(), **own, "demo": {name: demo.get(path) for name, path in FIELDS.items()}}


def _seen(_: Mapping[str, Any]) -> Answer:
    last.keep_first_steps()
    return {}


def _model(asked: Mapping[str, Any]) -> Answer:
    """What a file or folder is as a base model: {found: [sentences], problems: [sentences]}."""
    problems: list[Problem] = []
    preset = _with({"model.base": str(asked.get("model") or "")}, problems)
    facts = look_at_model(preset, problems) if preset else None
    if facts is None or problems:
        return {"found": [], "problems": _sentences(problems, "model.base")}
    what = say("{name} is an SDXL base model of {size}.", name=facts.path.name, size=size_text(facts.size_bytes))
    kind = say("It predicts v; this is found and set by itself.") if facts.prediction == "v_prediction" else ""
    return {"found": [what, kind] if kind else [what], "problems": []}


def _pictures(asked: Mapping[str, Any]) -> Answer:
    """What a folder holds: {found, notes, problems: [sentences], deeper: the folder to take instead, arrange: bool}."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    folder = str(asked.get("folder") or "").strip()
    preset = _with({"data.folder": folder}, problems)
    pictures = look_at_images(preset, frozenset(), problems, warnings, scans) if preset else Pictures()
    found: Answer = {"found": _counts(pictures), "notes": _advice(pictures), "deeper": "", "arrange": False}
    layout = layout_help.layout_of(folder)
    if layout is not None and not pictures.images:
        found["notes"] = [layout.sentence]
        found["deeper"] = str(layout.training_folder or "") if layout.is_trainable else ""
        found["arrange"] = not found["deeper"]
        problems = []  # the sentence tells it better
    return {**found, "problems": _sentences(problems, "data.folder")}


def _counts(pictures: Pictures) -> list[str]:
    """What is in the folders, one sentence each."""
    lines = []
    for subset in pictures.subsets[:_MOST_NAMED]:
        told = {"folder": subset.folder.name, "images": plural(subset.images, "image"), "repeats": subset.repeats}
        lines.append(say("{folder}: {images}, {captioned} with a caption, each shown {repeats} times an epoch.",
                         captioned=subset.captioned, **told))  # fmt: skip
    if len(pictures.subsets) > _MOST_NAMED:
        lines.append(say("and {count} more", count=f"{len(pictures.subsets) - _MOST_NAMED:,}"))
    return lines


def _advice(pictures: Pictures) -> list[str]:
    """What to think about before going on; nothing of it is in the way."""
    images = len(pictures.images)
    lacking = sum(subset.images - subset.captioned for subset in pictures.subsets)
    notes = []
    if 0 < images < FEW_PICTURES:
        notes.append(say("That is few. 15 to 60 different pictures work well for one subject."))
    if lacking > 0:
        what = say("{images} without a caption: the folder's name is read instead.", images=plural(lacking, "image"))
        notes.append(f"{what} {say('The tab Captions writes them, by hand or by a model.')}")
    return notes


def _recipes(_: Mapping[str, Any]) -> Answer:
    """{card: a sentence, groups: [{title, recipes: [{recipe, title, about}]}]}; what one takes is asked for each."""
    groups = (
        (say("What is in your pictures?"), {name: say(about) for name, about in BY_SUBJECT.items()}),
        (
            say("Or by the memory of your graphics card"),
            {
                name: say("Any subject, on a graphics card with {size} GB of memory.", size=size)
                for name, size in BY_CARD.items()
            },
        ),
        (say("Or just look how it goes"), {name: say(about) for name, about in TRIAL.items()}),
    )
    return {"card": _card(), "groups": [{"title": title, "recipes": _listed(kept)} for title, kept in groups]}


def _listed(abouts: Mapping[str, str]) -> list[dict[str, str]]:
    files = {item.path.stem: item for item in preset_files.preset_files() if not item.own}
    return [
        {"recipe": str(files[name].path), "title": say(files[name].title), "about": about}
        for name, about in abouts.items()
        if name in files
    ]


def _card() -> str:
    found = next(iter(cards()), None)
    if found is None:
        return say("No graphics card was found here that can be used: a full model takes days on the processor.")
    told = {"name": found.name or say("A graphics card"), "size": card_gb(found.memory_bytes)}
    return say("This machine has: {name}, {size} GB.", **told)


def _takes(asked: Mapping[str, Any]) -> Answer:
    """What a recipe takes with the model and pictures of the walk: {steps, takes: words, fits: whether it fits}."""
    recipe = preset_files.load_listed(str(asked.get("recipe") or ""))
    values = {path: str(asked.get(name) or "") for name, path in FIELDS.items()}
    found = check(with_recipe(recipe, last.recall().content, values))
    if found.preset is None or found.plan is None or not found.plan.steps:
        return {"steps": "", "takes": say("known as soon as model and pictures are"), "fits": None}
    return {
        "steps": plural(found.plan.steps, "step"),
        "takes": plan_sentence.takes(found.forecast),
        "fits": found.forecast.fits,
    }


def _with(values: Mapping[str, str], problems: list[Problem]) -> Preset | None:
    """The defaults with some paths; None, and the problems told, where they cannot be."""
    content: dict[str, Any] = {}
    for path, value in values.items():
        section, _, name = path.partition(".")
        content.setdefault(section, {})[name] = value
    try:
        return build(content)
    except PresetError as error:
        problems += error.problems
        return None


def _sentences(problems: Iterable[Problem], own: str) -> list[str]:
    """The first problems in words; those of the walk's own field without its name."""
    told = [
        retold(item.message) if item.where == own else f"{place(item.where)} {retold(item.message)}".strip()
        for item in problems
    ]
    more = [say("and {count} more", count=f"{len(told) - _MOST_NAMED:,}")] if len(told) > _MOST_NAMED else []
    return [*told[:_MOST_NAMED], *more]


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
    "beginning": _beginning, "seen": _seen, "model": _model, "pictures": _pictures, "recipes": _recipes,
    "takes": _takes,
}  # fmt: skip
