"""Serving the page: address, port, password, and which files it may hand out."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.routing import Mount

from engine.errors import UserError
from launchers import worker
from ui import api, passwords, served, theme, thumbnails
from ui.gradio_start import let_rest
from ui.guard import Guard
from ui.language import LanguageOfRequest
from ui.options import FIRST_PORT, LOOPBACK, password_file
from ui.sign_in import SignIn

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
    try:
        password = password_of(chosen.password)
    except UserError as error:
        sys.exit(str(error))
    app = guarded(blocks, chosen, SignIn(password, port) if password else None)
    config = uvicorn.Config(
        app,
        chosen.host,
        port,
        log_level="warning",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        go_on_with_queue()
        _Server(config, lambda: _tell(chosen, port), _pages_end(app)).run()


def guarded(blocks: gr.Blocks, chosen: argparse.Namespace, sign_in: SignIn | None) -> Guard:
    """The page and its API as one ASGI application, behind all checks."""
    served.allow(thumbnails.folder())
    app = FastAPI(title="Atelier", docs_url=None, redoc_url=None, openapi_url=None)
    api.add_to(app)
    app.add_middleware(LanguageOfRequest)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        allowed_paths=served.folders,
        theme=theme.theme(),
        head=theme.head(is_signed_in=sign_in is not None),
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size="16mb",
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    let_rest(blocks)
    names = {chosen.host, *LOOPBACK, *(name.lower() for name in chosen.allow_host)}
    is_loopback = chosen.host in LOOPBACK
    if not is_loopback:
        names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local", socket.getfqdn().lower()}
    return Guard(app, frozenset(names), is_loopback, sign_in)


class _Server(uvicorn.Server):
    """Tells when it listens, and open pages when it ends."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening, self._ending = listening, ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()


def go_on_with_queue() -> None:
    """Start the queue's worker where something waits: after a restart of the machine it goes on with the page."""
    try:
        worker.start_worker()
    except UserError as error:
        print(error, file=sys.stderr)


def _pages_end(guard: Guard) -> Callable[[], None]:
    """What ends the streams that open pages hold, for which the server would wait otherwise."""
    mounted: Any = next(route for route in cast(FastAPI, guard.app).routes if isinstance(route, Mount))
    return mounted.app.stop_event.set


def _tell(chosen: argparse.Namespace, port: int) -> None:
    host = "127.0.0.1" if chosen.host in ("0.0.0.0", "localhost") else chosen.host
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    others = f", from other machines at port {port} of this one" if chosen.host == "0.0.0.0" else ""
    print(f"Atelier is open at {address}{others} (Ctrl-C closes the page; a training run goes on)", flush=True)
    if not chosen.no_browser and _has_browser():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def password_of(given: str) -> passwords.Password | None:
    """The password to ask for: the one given this time, else the one that is kept. Raises UserError."""
    os.environ.pop("ATELIER_PASSWORD", None)  # not for the engines that are started from here
    return passwords.make(given) if given else passwords.load(password_file())


def _has_browser() -> bool:
    """A graphical session: a text browser in the terminal would only be in the way."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and Path("/usr/bin").exists()
