"""The command line of gui.py. Imports nothing heavy, so that --help answers at once."""

from __future__ import annotations

import argparse
import os

FIRST_PORT = 7860
USER = "atelier"


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
        help=f"ask for it (user name: {USER}); better given as ATELIER_PASSWORD",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    found = parser.parse_args(arguments)
    if found.listen:
        found.host = "0.0.0.0"
    if found.host not in ("127.0.0.1", "localhost", "::1") and not found.password:
        parser.error(
            f"--host {found.host} lets other machines in. Give a password too: --password, or ATELIER_PASSWORD."
        )
    if found.port is not None and not 1 <= found.port <= 65535:
        parser.error(f"--port must be from 1 to 65535 (got {found.port}).")
    return found
