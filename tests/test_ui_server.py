"""The page is served to this machine only, unless there is a password, and hands out only what it must."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from engine.preset import ROOT
from ui import app, server, theme
from ui.options import options


@pytest.mark.parametrize("arguments", [["--listen"], ["--host", "0.0.0.0"], ["--host", "192.168.1.5"], ["--port", "0"]])
def test_other_machines_are_let_in_only_with_a_password(arguments: list[str], monkeypatch, capsys) -> None:
    monkeypatch.delenv("ATELIER_PASSWORD", raising=False)
    with pytest.raises(SystemExit):
        options(arguments)
    assert "--p" in capsys.readouterr().err


def test_a_password_opens_the_page_to_others(monkeypatch) -> None:
    monkeypatch.setenv("ATELIER_PASSWORD", "secret")
    assert options(["--listen"]).host == "0.0.0.0"
    assert options([]).host == "127.0.0.1"


def test_a_taken_port_gives_the_next_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < server.free_port("127.0.0.1", port) <= port + 100


def test_no_handler_is_a_public_endpoint() -> None:
    assert app.build().get_api_info()["named_endpoints"] == {}


def test_style_and_script_name_no_other_host() -> None:
    text = theme.head() + str(theme.theme()._get_theme_css())
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert theme.theme()._stylesheets == []


def test_help_is_quick_and_does_not_load_gradio() -> None:
    code = "import sys, gui; sys.argv = ['gui.py', '--help']\ntry: gui.main()\nfinally: print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "--password" in done.stdout
    assert done.stdout.strip().endswith("False")
