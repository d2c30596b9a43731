"""The sentences with values that the engine tells people, found in its source. For the test of their translations.

A sentence is the text of a `Problem`, of a fault of the user's, of a warning, or any longer text that a function
returns; where a value stands in it, it has a place: {1}, {2} … in their order.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from engine.preset import ROOT

# Sentences of these are told before and during a run, on the page. Left out: what only programmers or terminals see.
FOLDERS = (
    "engine", "engine/rules", "engine/data", "engine/sdxl", "engine/adapters", "engine/lora_tools", "engine/compare",
    "engine/drawing", "engine/failures", "engine/kohya", "engine/onetrainer", "engine/tools", "captioning",
    "captioning/bench", "captioning/models",
)  # fmt: skip
NOTES_OF = ("engine/kohya", "engine/onetrainer")  # whatever they say stands in a receipt

OUTSIDE = {
    "commands", "queue_commands", "forecast_commands", "doctor", "processes", "imports", "compat", "undo", "toml_text",
    "kohya_table", "settings_table", "optimizer_table", "failures_table", "sentence", "forecast_words", "installed",
    "data_report_text", "measured", "settings", "events", "event_log", "state", "home", "draw", "memory", "machine",
    "cards",
    "configs", "latents", "parts", "storage", "text", "weights", "checkpoint", "tokenizer", "narrow", "keys",
    "near_same", "looks", "packs", "layers", "samplers", "tokens", "plan_memory", "pace", "forecast", "facts",
}  # fmt: skip
TOLD_BY = {"Problem": 1, "Warned": 0, "Failed": 0, "warn": 0, "Row": 3, "done": 2, "Proposal": 1}
_FAULTS = {"UserError", "DatasetError", "ModelError", "MissingPackage", "SentenceError"}
_MOST = 64  # ways in which a sentence is put together

Scope = Mapping[str, list[ast.expr]]


@cache
def notes() -> tuple[str, ...]:
    """All texts of at least three words that a receipt is put together from, each once."""
    found: dict[str, None] = {}
    for folder in NOTES_OF:
        for path in sorted({*(ROOT / folder).glob("*.py")} - {ROOT / "engine/kohya/receipt.py"}):  # said by the page
            found |= dict.fromkeys(_words_in(ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


def _words_in(tree: ast.AST) -> Iterator[str]:
    """All texts outside of documentation and patterns."""
    parts = [child for node in ast.walk(tree) for child in ast.iter_child_nodes(node) if _is_silent(node)]
    silent = {id(node) for part in parts for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in silent:
            for text in _texts(node, {}):
                normal = _numbered(f"{text}{{value}}" if text.endswith(": ") else text.strip(" ;"))
                if len(re.sub(r"\{\d+\}", " ", normal).split()) > 2:
                    yield normal


def _is_silent(node: ast.AST) -> bool:
    """Whether the texts right in it are no words of their own."""
    is_pattern = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("compile", "sub", "add_argument")
    return is_pattern or isinstance(node, (ast.Expr, ast.JoinedStr))


@cache
def sentences() -> tuple[str, ...]:
    """All of them, each once."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.py")):
            if path.stem not in OUTSIDE or folder == "engine/rules":
                found |= dict.fromkeys(_in(path), f"{folder}/{path.name}")
    return tuple(found)


def _in(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for text in _walk(tree, _assigned(tree.body)):
        normal = _numbered(re.sub(r"(?<=\.) \{value\}$|^\{value\} (?=[A-Z])", "", text.strip()))
        if len(re.sub(r"\{\d+\}", " ", normal).split()) > 2:
            yield normal


def _walk(node: ast.AST, scope: Scope) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = {**scope, **_assigned(ast.walk(child))}
        if isinstance(child, ast.Call):
            name = getattr(child.func, "id", getattr(child.func, "attr", ""))
            at = 0 if name in _FAULTS else TOLD_BY.get(name)
            if at is not None and len(child.args) > at:
                yield from _texts(child.args[at], inner)
        elif isinstance(child, (ast.Return, ast.Yield)) and child.value is not None:
            yield from (text for text in _texts(child.value, inner) if _is_sentence(text))
        yield from _walk(child, inner)


def _is_sentence(text: str) -> bool:
    return len(text.split()) > 3 and text.rstrip().endswith((".", ")", "…"))


def _assigned(nodes) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _texts(node: ast.expr, scope: Scope) -> list[str]:
    """The texts that an expression can be, its values in braces."""
    if isinstance(node, ast.Constant):
        return [node.value.replace("{", "{{").replace("}", "}}")] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        found = [""]
        for part in node.values:
            pieces = _texts(part, scope) if isinstance(part, ast.Constant) else _value(part, scope)
            found = [begun + piece for begun in found for piece in pieces][:_MOST]
        return found
    if isinstance(node, ast.IfExp):
        return _texts(node.body, scope) + _texts(node.orelse, scope)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [one + other for one in _texts(node.left, scope) for other in _texts(node.right, scope)][:_MOST]
    if isinstance(node, ast.Name) and node.id in scope:
        rest = {name: values for name, values in scope.items() if name != node.id}
        return [text for value in scope[node.id] for text in _texts(value, rest)]
    return []


def _value(part: ast.expr, scope: Scope) -> list[str]:
    """What stands in a sentence's place: a place, or what it is put together from where that is text."""
    assert isinstance(part, ast.FormattedValue)
    texts = [text for text in _texts(part.value, scope) if " " in text.strip()]
    return texts if texts and part.conversion == -1 else ["{value}"]


def _numbered(text: str) -> str:
    """The places as {1}, {2} …"""
    number = 0

    def place(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"{{{number}}}"

    text = re.sub(r"(\{value\}){2,}", "{value}", text)  # two beside each other cannot be told apart
    return re.sub(r"(?<!\{)\{value\}(?!\})", place, text).replace("{{", "{").replace("}}", "}")
