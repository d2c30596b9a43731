"""The engine process outlives whoever started it, and looks dead once it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from launchers import LAUNCHERS, local

ROOT = Path(__file__).resolve().parent.parent

TICKING = "import time\nfor tick in range(600):\n    print(tick, flush=True)\n    time.sleep(0.05)\n"
TELLING = """
import os, sys
print(os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read() == "", os.environ["PYTHONUTF8"], "é")
print("GRADIO_SERVER_PORT" in os.environ)
print("on stderr", file=sys.stderr)
"""


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def text(log: Path) -> str:
    return log.read_text(encoding="utf-8") if log.exists() else ""


def test_it_survives_kill_9_of_its_parent_and_ctrl_c_in_the_parents_terminal(tmp_path: Path) -> None:
    page = f"""
import sys, time
from pathlib import Path
from launchers import local
print(local.start(Path({str(tmp_path)!r}), command=[sys.executable, "-c", {TICKING!r}]), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", page], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    engine = psutil.Process(int(parent.stdout.readline()))
    log = tmp_path / "log.txt"
    try:
        until(lambda: "2\n" in text(log))
        os.killpg(parent.pid, signal.SIGINT)
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(20)
        ticks = text(log).count("\n")
        until(lambda: text(log).count("\n") > ticks + 2)
        assert engine.is_running()
    finally:
        engine.kill()
        parent.stdout.close()


def test_an_ended_engine_leaves_no_zombie_while_its_parent_lives(tmp_path: Path) -> None:
    pid = local.start(tmp_path, command=[sys.executable, "-c", "print('done')"])
    until(lambda: not psutil.pid_exists(pid))
    assert text(tmp_path / "log.txt") == "done\n"


def test_it_runs_in_the_repository_in_its_own_session_without_the_pages_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7860")
    pid = local.start(tmp_path, command=[sys.executable, "-c", TELLING])
    until(lambda: not psutil.pid_exists(pid))
    first, second, third = text(tmp_path / "log.txt").splitlines()
    assert first == f"{ROOT} True True 1 é"
    assert second == "False"
    assert third == "on stderr"


def test_no_open_socket_of_the_page_is_inherited(tmp_path: Path) -> None:
    import socket

    code = "import psutil; print(len(psutil.Process().net_connections('inet')))"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.set_inheritable(True)
        pid = local.start(tmp_path, command=[sys.executable, "-c", code])
        until(lambda: not psutil.pid_exists(pid))
    assert text(tmp_path / "log.txt") == "0\n"


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    pid = local.start(tmp_path, command=[sys.executable, "-c", "print('after')"])
    until(lambda: not psutil.pid_exists(pid))
    assert text(log) == "before\nafter\n"


def test_without_a_command_it_is_the_engine_itself_on_that_run_folder(tmp_path: Path) -> None:
    shown = tmp_path / "python"
    shown.write_text('#!/bin/sh\necho "$@"\n')
    shown.chmod(0o755)
    run = tmp_path / "a run ü"
    run.mkdir()
    pid = LAUNCHERS["local"](run, python=str(shown))
    until(lambda: not psutil.pid_exists(pid))
    assert text(run / "log.txt") == f"-m engine train {run}\n"


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        local.start(tmp_path / "missing")
