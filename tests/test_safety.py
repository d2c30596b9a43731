"""What must hold in all of Atelier: no pickle runs, nothing foreign is run as code, no token gets into a file."""

from __future__ import annotations

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import events, run
from engine.preset import ROOT, load
from engine.report import Reporter
from engine.secrets import redacted

SOURCES = sorted(
    path for part in ("engine", "captioning", "ui", "launchers", "demo") for path in (ROOT / part).rglob("*.py")
)
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "os.system", "os.popen"}
_OPTIONS = ("shell", "allow_pickle", "trust_remote_code", "weights_only")
_WORDS = (*UNSAFE_MODULES, *(name.split(".")[-1] for name in UNSAFE_CALLS), *_OPTIONS, "torch.load", "read_pickle")


def _faults(source: str) -> Iterator[str]:
    """What in a source could run something that a file brings along."""
    if not any(word in source for word in _WORDS):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = {module.split(".")[0], *(name.name.split(".")[0] for name in node.names)}
            yield from (f"imports {name}" for name in sorted(names & UNSAFE_MODULES))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called == "torch.load" and given.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if called in UNSAFE_CALLS or called.endswith(".read_pickle"):
            yield f"calls {called}"
        for name in ("shell", "allow_pickle", "trust_remote_code"):
            if given.get(name, "False") != "False":
                yield f"{called} with {name}"
        if given.get("weights_only", "True") != "True":
            yield f"{called} without weights_only"


def test_no_source_loads_a_pickle_or_runs_foreign_code() -> None:
    found = {f"{path.relative_to(ROOT)}: {fault}" for path in SOURCES for fault in _faults(path.read_text("utf-8"))}
    assert len(SOURCES) > 200
    assert found == set()


@pytest.mark.parametrize(
    "source",
    ["torch.load(p)", "torch.load(p, weights_only=no)", "import pickle", "from yaml import load", "eval(text)",
     "os.system(text)", "run(words, shell=True)", "np.load(p, allow_pickle=True)", "f(trust_remote_code=True)"],
)  # fmt: skip
def test_the_search_for_unsafe_sources_finds_them(source: str) -> None:
    assert list(_faults(source))


class _Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_a_captioners_weights_in_an_old_file_run_nothing(tmp_path: Path, library: str) -> None:
    """Older captioners come as .bin files, which these libraries read as tensors only."""
    trap, file = tmp_path / "was run", tmp_path / "pytorch_model.bin"
    file.write_bytes(pickle.dumps(_Trap(trap)))
    with pytest.raises((pickle.UnpicklingError, RuntimeError, OSError, ValueError)):
        if library == "transformers":
            from transformers.modeling_utils import load_state_dict

            load_state_dict(str(file))
        else:
            from open_clip.factory import load_state_dict as load_clip

            load_clip(str(file))
    assert not trap.exists()


def test_a_planted_token_is_found_nowhere_in_a_run_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    """Libraries put keys into their messages; a run's warnings, faults and log go through one place."""
    planted = "planted-token-0123456789"
    monkeypatch.setenv("HF_TOKEN", planted)
    monkeypatch.setenv("WANDB_API_KEY", f"{planted}-longer")
    folder = run.create(load(ROOT / "presets" / "demo.json"), tmp_path / "run")
    report = Reporter(folder)
    told = f"401 for https://user:{planted}@host with key {planted}-longer"
    report.warn(told)
    report.say(told)
    report.complain(told)
    report.emit(events.Failed(told, 1, f"Traceback\n{told}", [{"where": "sharing", "message": told}]))
    for path in folder.path.rglob("*"):
        assert path.is_dir() or planted not in path.read_text(), path.name
    shown = capsys.readouterr()
    assert planted not in shown.out + shown.err
    assert "401 for" in folder.events.read_text()


def test_short_values_and_other_variables_are_left_in_the_text(monkeypatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "none")
    monkeypatch.setenv("EDITOR_NAME", "long enough")
    assert redacted("none, long enough") == "none, long enough"


def test_engines_do_not_get_the_pages_password(monkeypatch) -> None:
    from ui.server import password_of

    monkeypatch.setenv("ATELIER_PASSWORD", "correct horse")
    assert password_of("correct horse") is not None
    assert "ATELIER_PASSWORD" not in os.environ
