"""The command line of gui.py. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

FIRST_PORT = 7860
USER = "atelier"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ROOT = Path(__file__).resolve().parent.parent


def password_file() -> Path:
    """Where the password's hash is kept, in Atelier's own folder or in the one that ATELIER_HOME names."""
    return Path(os.environ.get("ATELIER_HOME") or _ROOT).resolve() / "secrets" / "password.json"


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the program with a sentence where it makes no sense."""
    parser = argparse.ArgumentParser(prog="gui.py", description="Opens Atelier's page in the browser.")
    parser.add_argument(
        "--port", type=int, default=None, help=f"port to listen on (default {FIRST_PORT}; the next free one is taken)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; others than this machine's need a password"
    )
    parser.add_argument("--listen", action="store_true", help="listen on all addresses (same as --host 0.0.0.0)")
    parser.add_argument(
        "--password",
        default=os.environ.get("ATELIER_PASSWORD", ""),
        help="ask for this one, this time; better given as ATELIER_PASSWORD, since others see a command line",
    )
    parser.add_argument(
        "--set-password", action="store_true", help="choose a password that is asked for from now on, and end"
    )
    parser.add_argument("--forget-password", action="store_true", help="ask for none from now on, and end")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a name by which this machine may be called (for example behind a proxy); repeatable",
    )  # fmt: skip
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    found = parser.parse_args(arguments)
    if found.listen:
        found.host = "0.0.0.0"
    if found.host not in LOOPBACK and not found.password and not password_file().exists():
        parser.error(
            f"--host {found.host} lets other machines in, so a password is needed. Choose one: ./gui.sh --set-password "
            "(or give it with --password or ATELIER_PASSWORD)."
        )
    if found.port is not None and not 1 <= found.port <= 65535:
        parser.error(f"--port must be from 1 to 65535 (got {found.port}).")
    return found
