"""Every English sentence that the page can say, found where it is said. For the test of the catalogues."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from captioning.bench.operations import OPERATIONS
from captioning.catalogue import MODELS, UNKNOWN
from captioning.tool import settings_table
from captioning.tools import TOOLS
from engine.kohya.receipt import TITLES
from engine.preset import BY_PATH, ROOT, SECTIONS
from engine.settings import Setting
from ui import app, language, page_language, theme
from ui.preset_files import PresetFile

SAYING = {"say": 0, "word": 0}  # function → which argument is the sentence
# Settings whose choices are names of algorithms, models and file formats, the same in every language
NAMED = {
    "adapter.algorithm", "optimizer.name", "sample.sampler", "loss.kind", "logging.tracker",
    "tool.caption.captioner", "tool.caption.coca.architecture", "tool.crop.format", "tool.download.model",
}  # fmt: skip
COUNTING = "plural"  # its second argument is a noun


def all_settings() -> dict[str, Setting]:
    """The settings of the form and of the tools, by path."""
    found = dict(BY_PATH)
    for tool, about in TOOLS.items():
        found |= {f"tool.{tool}.{name}": item for name, item in settings_table(tool, about.Settings).items()}
    return found


def helps() -> set[str]:
    return {item.help for item in all_settings().values()}


def choices() -> set[str]:
    """Choices that are words; those of `NAMED` and number formats are names."""
    return {
        str(choice)
        for path, item in all_settings().items()
        for choice in item.choices
        if path not in NAMED and not re.fullmatch(r"(fp|bf|int|nf|float|bfloat)\d+", str(choice))
    }


def shown_choices() -> set[str]:
    return {str(choice) for item in all_settings().values() for choice in item.choices}


@cache
def drawn() -> frozenset[str]:
    """What was drawn when the page was built; sentences with values as they stand in the code."""
    found = {text for text, _ in page_language.sentences(app.build().config)}
    return frozenset(language.built[text][0] if text in language.built else text for text in found)


@cache
def said() -> frozenset[str]:
    """What the page's program and its scripts say, by their calls of `say`, `word` and `plural`."""
    found = set(theme.script_sentences())
    for path in sorted((ROOT / "ui").glob("*.py")):
        found |= set(_said_in(ast.parse(path.read_text(encoding="utf-8"))))
    return frozenset(found)


def _said_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        at = SAYING.get(name, 1 if name == COUNTING else None)
        if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
            yield ("{count} " if name == COUNTING else "") + str(node.args[at].value)


@cache
def told() -> frozenset[str]:
    """What others tell and the page says: names of tools, operations, sections, shipped presets, units, stages."""
    found = {text for tool in TOOLS.values() for text in (tool.TITLE, tool.ABOUT)}
    for kind in OPERATIONS.values():
        found |= {kind.title, kind.about}
        found |= {text for field in kind.fields for text in (field.label, field.about, *field.choices.values()) if text}
    found |= {model.about for model in MODELS.values()} | set(TITLES.values())
    found |= {section.capitalize() for section in SECTIONS} | {"About", "Author"}
    found |= {item.unit for item in all_settings().values() if item.unit}
    found |= {PresetFile(path, False).title for path in (ROOT / "presets").glob("*.json")}
    return frozenset(found | _stages())


def _stages() -> set[str]:
    """What the engine and the tools call the stages of their work, and what happens to a file."""
    found: set[str] = set()
    for folder in ("engine", "captioning"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "stage":
                    found |= {item.value for item in ast.walk(node) if _is_text(item)}
    return found


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_a_name(text: str) -> bool:
    """What no language translates: numbers and marks, names of models, licences and languages."""
    return not any(letter.isalpha() for letter in text) or text in _NAMES


_NAMES = {"Atelier", "Language · 语言", *language.LANGUAGES.values(), *MODELS}
_NAMES |= {text for model in MODELS.values() for text in (model.repository, model.licence) if text != UNKNOWN}
