"""What somebody who helps needs to know about a failed run, as one text, and nothing private."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from engine import event_log
from engine.failures.kinds import Facts, Failure
from engine.failures.private import Private
from engine.gpus import gpus
from engine.preset import SETTINGS, Preset
from engine.run import RunFolder

LOG_LINES = 40
_EVENTS = 25
_PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "accelerate", "safetensors", "bitsandbytes", "gradio", "numpy",
    "Pillow",
)  # fmt: skip
_OWN_TEXT = ("prompt", "name", "path", "checkpoint")  # fields of events that hold texts or names of the user


def report(run: RunFolder, facts: Facts, failure: Failure | None) -> str:
    """The report, as Markdown that can be put into an issue."""
    private = Private(run, facts.preset)
    kind = f"{failure.name}: {failure.cause}" if failure else "not recognised"
    ended = "not known" if facts.exit_code is None else str(facts.exit_code)
    parts = {
        "Run": [f"state: {facts.how}", f"failure: {kind}", f"exit code: {ended}", f"stage: {facts.stage or '–'}"],
        "Machine": list(_machine()),
        "Settings that are not at their default": list(_settings(facts.preset)),
        "Message": facts.told.split("\n") if facts.told else [],
        "Last events": list(_events(run)),
        f"Last {LOG_LINES} lines of the log": tail(facts.log),
    }
    texts = [f"### {title}\n```\n" + "\n".join(lines) + "\n```" for title, lines in parts.items() if lines]
    return private.hide("\n".join(texts)) + "\n"


def tail(log: str) -> list[str]:
    """The last lines of a log."""
    return [line[:600] for line in log.rstrip().split("\n")[-LOG_LINES:]] if log.strip() else []


def _machine() -> Iterator[str]:
    yield f"Python {platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    for gpu in gpus():
        yield f"{gpu.title}, {gpu.memory_bytes / 2**30:.1f} GiB" if gpu.memory_bytes else gpu.title
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} missing")
    yield ", ".join(found)
    yield f"executable is in a virtual environment: {sys.prefix != sys.base_prefix}"


def _settings(preset: Preset) -> Iterator[str]:
    """Values that differ from the defaults; of texts of the user only that they are there."""
    for item in SETTINGS:
        value = preset.get(item.path)
        if value != item.default:
            own = item.type is str and not item.choices
            yield f"{item.path} = {f'({len(value)} characters)' if own else value}"


def _events(run: RunFolder) -> Iterator[str]:
    for entry in event_log.read(run.events)[0][-_EVENTS:]:
        content = dataclasses.asdict(entry.event)
        kept = {name: value for name, value in content.items() if name not in _OWN_TEXT and name != "traceback"}
        if entry.event.kind == "stage":
            kept["name"] = content["name"]
        yield f"{entry.time} {entry.event.kind} {json.dumps(kept, ensure_ascii=False)[:600]}"
