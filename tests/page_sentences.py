"""Every English sentence that the page can say, found where it is said. For the test of the catalogues."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import TypeGuard

from captioning.bench.operations import OPERATIONS
from captioning.catalogue import MODELS, UNKNOWN
from engine.compare import COMPARISONS
from engine.drawing.picture_notes import NOTES
from engine.drawing.settings import BY_PATH as DRAWING
from engine.failures import CATALOGUE
from engine.kohya.receipt import TITLES
from engine.preset import BY_PATH, ROOT, SECTIONS
from engine.settings import Setting
from engine.tools.tool import settings_table
from ui import app, data_page, language, page_language, theme
from ui.preset_files import PresetFile
from ui.tool_table import TOOLS

SAYING = {"say": 0, "word": 0}  # function → which argument is the sentence
# Settings whose choices are names of algorithms, models and file formats, the same in every language
NAMED = {
    "adapter.algorithm", "optimizer.name", "sample.sampler", "loss.kind", "logging.tracker",
    "tool.caption.captioner", "tool.caption.coca.architecture", "tool.crop.format", "tool.download.model",
    "drawing.sampling.sampler",
    "tool.convert.naming",
    "tool.extract.family",
    *(f"tool.{tool}.{name}" for tool in COMPARISONS for name in ("sampling.sampler", "grid.format")),
    *(f"tool.compare.{axis}.kind" for axis in "xyz"),  # the page has its own words for them
}  # fmt: skip
COUNTING = "plural"  # its second argument is a noun


def all_settings() -> dict[str, Setting]:
    """The settings of the forms and of the tools, by path."""
    found = dict(BY_PATH) | {f"drawing.{path}": item for path, item in DRAWING.items()}
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
        given = node.args[at] if at is not None and len(node.args) > at else None
        if isinstance(given, ast.Constant):
            yield ("{count} " if name == COUNTING else "") + str(given.value)


@cache
def told() -> frozenset[str]:
    """What others tell and the page says: names of tools, operations, sections, shipped presets, stages, failures."""
    found = {text for tool in TOOLS.values() for text in (tool.TITLE, tool.ABOUT)}
    for kind in OPERATIONS.values():
        found |= {kind.title, kind.about}
        found |= {text for field in kind.fields for text in (field.label, field.about, *field.choices.values()) if text}
    found |= {model.about for model in MODELS.values()} | set(TITLES.values())
    found |= {section.capitalize() for section in SECTIONS} | {"About", "Author"}
    found |= {item.unit for item in all_settings().values() if item.unit}
    found |= {PresetFile(path, False).title for path in (ROOT / "presets").glob("*.json")}
    found |= set(NOTES.values())
    found |= {text for kind in CATALOGUE.values() for text in (kind.cause, kind.remedy)}
    return frozenset(found | _stages())


def _stages() -> set[str]:
    """What the engine and the tools call the stages of their work, and what happens to a file."""
    found: set[str] = set()
    for folder in ("engine", "captioning"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "stage":
                    found |= {str(item.value) for item in ast.walk(node) if _is_text(item)}
    return found


def _is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_a_name(text: str) -> bool:
    """What no language translates: numbers and marks, names of models, licences and languages."""
    return not any(letter.isalpha() for letter in text) or text in _NAMES


_NAMES = {"Atelier", "Language · 语言", *language.LANGUAGES.values(), *MODELS}
_NAMES |= {text for model in MODELS.values() for text in (model.repository, model.licence) if text != UNKNOWN}


# Modules whose sentences are for the terminal or for programs, and what else stays English or is no sentence
_OUTSIDE = {"api", "guard", "options", "passwords", "server", "sign_in", "theme", "tries"}
_KEPT = {"Edit", "This caption", "present form", data_page._LAYOUT}
_FAULTS = {
    "UserError",
    "PresetError",
    "Problem",
    "print",
    "RuntimeError",
    "ValueError",
    "KeyError",
    "OSError",
    "compile",
}
_WORDS = re.compile(r"[A-Za-z][a-z]+ [a-z]{2,}|^[A-Z][a-z]{2,}$")


def unsaid() -> list[str]:
    """Texts in the page's program that look like sentences for its users and go through neither `say` nor `word`."""
    known = drawn() | set(language.catalogue("zh"))
    found: list[str] = []
    for path in sorted((ROOT / "ui").glob("*.py")):
        if path.stem not in _OUTSIDE:
            pieces = _pieces(ast.parse(path.read_text(encoding="utf-8")))
            found += [f"{path.name}: {text}" for text in pieces if _WORDS.search(text) and text not in known | _KEPT]
    return found


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and _is_text(node.value)


def _is_fault(node: ast.AST) -> bool:
    """Whether it is the sentence of a UserError, which is kept in `what` where it is long; faults stay English."""
    return isinstance(node, ast.Assign) and [getattr(item, "id", "") for item in node.targets] == ["what"]


def _pieces(node: ast.AST) -> Iterator[str]:
    """The texts in a tree, without what is said, told as a fault or written for readers of the code."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in _FAULTS:
            return
        inner = node.args[1:] if name in SAYING else node.args[:1] if name == COUNTING else [node.func, *node.args]
        for part in (*inner, *(item.value for item in node.keywords if item.arg not in ("elem_classes", "js"))):
            yield from _pieces(part)
    elif isinstance(node, ast.JoinedStr) or _is_text(node):
        values = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(item.value) if isinstance(item, ast.Constant) else "\0" for item in values)
        if "=>" in text:  # a script
            return
        yield from (piece.strip() for piece in re.sub(r"<[^<>]*(?:>|$)|^[^<>]*>", "\0", text).split("\0"))
        for item in values:
            yield from () if isinstance(item, ast.Constant) else _pieces(item)
    elif not _is_docstring(node) and not _is_fault(node):
        for child in ast.iter_child_nodes(node):
            yield from _pieces(child)
