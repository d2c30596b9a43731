"""Rules of the design that a test can guard: one home per setting, imports one way, dicts to extend by."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from engine.adapters import ADAPTERS
from engine.losses import LOSSES, THRESHOLDS
from engine.optimizers import OPTIMIZERS
from engine.preset import BY_PATH, ROOT, SETTINGS
from engine.sample import SAMPLER_NAMES
from engine.schedules import SCHEDULES
from engine.sdxl.samplers import SAMPLERS
from launchers import LAUNCHERS

# Modules that `check` and the page use: they must not bring torch
TORCH_FREE = (
    "engine", "engine.errors", "engine.settings", "engine.preset", "engine.rules", "engine.events", "engine.run",
    "engine.event_log", "engine.json_types",
    "engine.prompts", "engine.plan", "engine.commands", "engine.sdxl.detect", "engine.sdxl.layers", "engine.data.scan",
    "engine.sdxl.tokenizer", "engine.kohya", "ui.app", "launchers.local", "captioning.tools", "engine.tools.jobs",
    "engine.tools.working", "engine.tools.command", "engine.lora_tools", "engine.queue", "launchers.worker",
    "engine.drawing.command", "engine.drawing.desk", "engine.drawing.plan", "engine.drawing.saving",
    "engine.drawing.prompt_language", "engine.drawing.wildcard_files", "engine.drawing.lora_names",
    "engine.drawing.picture_text", "engine.compare", "engine.compare.answers",
)  # fmt: skip

# Folder → what nothing in it may import
FORBIDDEN = {
    "engine": ("gradio", "ui", "captioning", "launchers"),
    "engine/sdxl": (
        "engine.train",
        "engine.plan",
        "engine.preset",
        "engine.adapters",
        "engine.latent_source",
        "engine.text_source",
        "engine.batches",
        "engine.objective",
        "engine.updater",
    ),
    "engine/data": ("engine.train", "engine.plan", "engine.preset", "engine.sdxl", "engine.adapters"),
    "engine/adapters": ("engine.train", "engine.plan", "engine.preset", "engine.data", "engine.latent_source"),
    "ui": ("torch", "diffusers", "transformers", "engine.train", "engine.latent_source", "engine.text_source"),
    "launchers": ("torch", "gradio", "ui"),
    "captioning": ("gradio", "ui", "launchers"),
}

FORBIDDEN_WORDS = ("Manager", "Handler", "Helper", "Wrapper", "utils", "common", "misc")


def python_files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports when it runs; imports for the type checker alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_checker = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_checker:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(folder)
        for name in imports_of(path)
        if any(name == banned or name.startswith(banned + ".") for banned in FORBIDDEN[folder])
    ]
    assert wrong == []


@pytest.mark.slow
def test_check_and_page_bring_no_torch():
    program = f"import sys; import {', '.join(TORCH_FREE)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("adapter.algorithm", ADAPTERS),
        ("optimizer.name", OPTIMIZERS),
        ("optimizer.schedule", SCHEDULES),
        ("loss.kind", LOSSES),
        ("loss.huber_schedule", THRESHOLDS),
        ("sample.sampler", SAMPLERS),
        ("sample.sampler", SAMPLER_NAMES),
    ],
)
def test_names_in_the_schema_are_the_keys_of_the_dict(path, table):
    assert set(BY_PATH[path].choices) == set(table)


def test_launchers_are_a_dict():
    assert "local" in LAUNCHERS


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.path)
def test_every_setting_is_read_somewhere(item):
    """A setting that no code reads would be a widget that does nothing."""
    tables = {"preset.py", "settings.py", "sections", "kohya"}
    readers = [path for path in python_files("engine") if not tables & set(path.relative_to(ROOT).parts)]
    readers = [path for path in readers if path.parent.name != "rules" or path.name == "data.py"]
    texts = [path.read_text(encoding="utf-8") for path in readers]
    rates = item.path.endswith("_rate") and any('_rate")' in text for text in texts)
    assert rates or any(f".{item.name}" in text for text in texts)


@pytest.mark.slow
def test_names_say_what_a_thing_is():
    wrong = []
    for folder in ("engine", "ui", "launchers", "captioning"):
        for path in python_files(folder):
            names = [path.stem] + [
                node.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            ]
            wrong += [f"{path.name}: {name}" for name in names for word in FORBIDDEN_WORDS if word in name]
    assert wrong == []


def test_settings_have_plain_types():
    assert {item.type for item in SETTINGS} <= {str, int, float, bool}
    assert all(typing.get_origin(item.type) is None for item in SETTINGS)
