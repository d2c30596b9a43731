"""Serving the page: address, port, password, and which files it may hand out."""

from __future__ import annotations

import argparse
import hmac
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path

import gradio as gr

from ui import served, theme, thumbnails
from ui.options import FIRST_PORT, USER

_PORTS_TRIED = 100


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nothing listens on. Raises OSError when there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {first} on")


def serve(blocks: gr.Blocks, chosen: argparse.Namespace) -> None:
    """Show the page until Ctrl-C. Runs go on after that."""
    try:
        port = free_port(chosen.host, chosen.port or FIRST_PORT)
    except OSError as error:
        sys.exit(f"The page cannot be opened on {chosen.host}: {error}. Give another --port or --host.")
    served.allow(thumbnails.folder())
    blocks.launch(
        server_name=chosen.host,
        server_port=port,
        auth=_password_check(chosen.password) if chosen.password else None,
        auth_message=f"User name: {USER}" if chosen.password else None,
        allowed_paths=served.folders,
        theme=theme.theme(),
        head=theme.head(),
        footer_links=[],
        inbrowser=False,
        share=False,
        quiet=True,
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
    )
    host = "127.0.0.1" if chosen.host in ("0.0.0.0", "localhost") else chosen.host
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    others = f", from other machines at port {port} of this one" if chosen.host == "0.0.0.0" else ""
    print(f"Atelier is open at {address}{others} (Ctrl-C closes the page; a training run goes on)", flush=True)
    if not chosen.no_browser and _has_browser():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    blocks.block_thread()


def _password_check(password: str):
    def matches(user: str, given: str) -> bool:
        return user == USER and hmac.compare_digest(given.encode(), password.encode())

    return matches


def _has_browser() -> bool:
    """A graphical session: a text browser in the terminal would only be in the way."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and Path("/usr/bin").exists()
