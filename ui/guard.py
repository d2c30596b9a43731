"""Stands before the whole page: lets in who may be there, from pages that are ours, to what is there for them.

Refused are other sites' pages (`Origin`, `Sec-Fetch-Site`), names that are not this server's (DNS rebinding: another
site's name that suddenly leads here, `Host`), every address that the page does not use (Gradio has many more), files
outside the folders of `ui.served`, and, where there is a password, whoever is not signed in.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui import served
from ui.sign_in import SignIn

API = "/api/"
_FILE = "/gradio_api/file="
_READ = re.compile(
    r"/|/(config|theme\.css|manifest\.json|favicon\.ico|robots\.txt|pwa_icon(/\d+)?)|/(assets|static|svelte)/[^\0]+"
    r"|/gradio_api/(app_id|info|theme\.css|heartbeat/\w+|queue/data|file=[^\0]+)"
)
_WRITTEN = re.compile(r"/gradio_api/(run/\w+|queue/join|component_server|cancel|reset)/?")
_MOST_BODY_BYTES = 16 * 1024 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Gradio's page needs scripts in the page and `new Function`. Nothing goes to or comes from anywhere else.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; frame-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_FILE_POLICY = "default-src 'none'; sandbox"
_NOT_PASSED_ON = (b"forwarded", b"x-forwarded-host", b"x-forwarded-server", b"x-forwarded-prefix", b"x-original-url")
_NOT_ANSWERED = (b"access-control-allow-origin", b"access-control-allow-credentials", b"server")


@dataclass(frozen=True)
class Refusal(Exception):  # noqa: N818 - what happened
    """Why a request is refused: HTTP status and sentence."""

    status: int
    sentence: str


@dataclass(frozen=True)
class Guard:
    """ASGI: `app` behind the checks. `names`: host names of this server, beside (unless loopback_only) IP addresses."""

    app: ASGIApp
    names: frozenset[str]
    loopback_only: bool
    sign_in: SignIn | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # the page uses no websockets
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        policy = _FILE_POLICY if scope["path"].startswith(_FILE) else _PAGE_POLICY
        answer = _with_headers(send, policy)
        try:
            self._require_own_name(headers)
            _require_own_page(scope, headers)
            if self.sign_in is not None:
                done = await self.sign_in.answer(scope, headers, receive)
                if done is not None:
                    await done(scope, receive, answer)
                    return
            _require_known(scope, headers)
        except Refusal as refusal:
            refused = json.dumps({"error": refusal.sentence})
            await Response(refused, refusal.status, media_type="application/json")(scope, receive, answer)
            return
        kept = [(name, value) for name, value in scope["headers"] if name not in _NOT_PASSED_ON]
        await self.app({**scope, "headers": kept}, receive, answer)

    def _require_own_name(self, headers: Mapping[str, str]) -> None:
        name = _host_name(headers.get("host", ""))
        if name in self.names or (not self.loopback_only and _is_ip(name)):
            return
        what = f"This server is not called {name!r}. Open it by its IP address, or start it with --allow-host {name}."
        raise Refusal(421, what)


def _require_own_page(scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse what a page of another site asks for; a link from there to the page itself is all that may lead here."""
    sentence = "Another site's page asked for this, so it is refused."
    host, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None:
        if not is_same(origin, host):
            raise Refusal(403, sentence)
        return
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if scope["method"] != "GET" or scope["path"] not in ("/", "/login") or not is_link:
            raise Refusal(403, sentence)
    if scope["method"] not in ("GET", "HEAD") and "referer" in headers and not is_same(headers["referer"], host):
        raise Refusal(403, sentence)


def _require_known(scope: Scope, headers: Mapping[str, str]) -> None:
    path, method = scope["path"], scope["method"]
    if path.startswith(API):
        if method in ("POST", "PUT", "PATCH") and headers.get("content-type", "").split(";")[0] != "application/json":
            raise Refusal(415, "Send JSON (Content-Type: application/json).")
    elif not (_READ if method in ("GET", "HEAD") else _WRITTEN).fullmatch(path):
        raise Refusal(404, "There is nothing at this address.")
    elif method not in ("GET", "HEAD", "POST"):
        raise Refusal(405, "This cannot be done at this address.")
    if path.startswith(_FILE) and not served.may_serve(path.removeprefix(_FILE)):
        raise Refusal(404, "There is no such file for the browser.")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
        raise Refusal(413, f"At most {_MOST_BODY_BYTES // 1024**2} MiB can be sent.")


def is_same(origin: str, host: str) -> bool:
    """Whether an origin (or address of a page) is that of the server which was asked as `host` ("name:port")."""
    try:
        parts = urlsplit(origin)
        asked = urlsplit(f"{parts.scheme}://{host}")
        standard = {"http": 80, "https": 443}[parts.scheme]
        return (parts.hostname, parts.port or standard) == (asked.hostname, asked.port or standard)
    except (ValueError, KeyError):
        return False


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _headers(scope: Scope) -> dict[str, str]:
    """Header values by name; one that was sent twice is joined, and so equals nothing."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _with_headers(send: Send, policy: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours: dict[str, Any] = {**_HEADERS, "Content-Security-Policy": policy}
            names = {name.lower().encode() for name in ours}
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if name.lower() not in names and name.lower() not in _NOT_ANSWERED
            ]
            message = {**message, "headers": kept + [(name.encode(), value.encode()) for name, value in ours.items()]}
        await send(message)

    return sent
