"""Asking for the password, where there is one: a page with one field, a cookie, and `curl -u atelier:…` for the API."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import html
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from ui.language import chosen, say, speaking, spoken, word
from ui.options import USER
from ui.passwords import SIGNED_IN_SECONDS, Password
from ui.tries import Tries

_MOST_FORM_BYTES = 4096
_PAGE = (Path(__file__).parent / "sign_in.html").read_text(encoding="utf-8")
_SAID = (word("SDXL LoRA trainer"), word("Password"), word("Sign in"))  # what the page says, as it stands there
_FREE = ("/favicon.ico", "/robots.txt")


@dataclass
class SignIn:
    """Who is signed in, and the answers to who is not. `port` keeps servers of one machine apart."""

    password: Password
    port: int
    tries: Tries = field(default_factory=Tries)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one try at a time: each takes 32 MiB
    _known: set[bytes] = field(default_factory=set)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def cookie(self) -> str:
        return f"atelier-{self.port}"

    async def answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response | None:
        """The answer to who is not signed in, and to signing in and out; None: the request may go on."""
        with speaking(chosen(headers.get("cookie", ""), headers.get("accept-language", ""))):
            return await self._answer(scope, headers, receive)

    async def _answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response | None:
        path, method = scope["path"], scope["method"]
        if path == "/login" and method == "POST":
            return await self._sign_in(scope, headers, receive)
        if path == "/logout" and method == "POST":
            return self._out()
        if path == "/login" and method == "GET":
            return RedirectResponse("./", 303) if self._has_cookie(headers) else _page("")
        if path in _FREE or self._has_cookie(headers):
            return None
        is_api = path.startswith("/api/")
        if is_api and "authorization" in headers:
            wait, is_right = await self._try(_basic(headers["authorization"]), _address(scope))
            if is_right:
                return None
            if wait:
                return _slower(wait)
        if path == "/" and method in ("GET", "HEAD"):
            return _page("", 401)
        told = {"WWW-Authenticate": 'Basic realm="Atelier", charset="UTF-8"'} if is_api else {}
        return JSONResponse({"error": f"Sign in first (the API: curl -u {USER}:PASSWORD)."}, 401, told)

    async def _sign_in(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Response:
        form = parse_qs((await _body(receive)).decode("utf-8", errors="replace"))
        wait, is_right = await self._try(form.get("password", [""])[0], _address(scope))
        if wait:
            return _page(_wait_sentence(wait), 429)
        if not is_right:
            return _page(say("That is not the password."), 401)
        done = RedirectResponse("./", 303)
        secure = scope.get("scheme") == "https" or headers.get("x-forwarded-proto") == "https"
        done.set_cookie(
            self.cookie,
            self.password.grant(),
            max_age=SIGNED_IN_SECONDS,
            httponly=True,
            samesite="lax",
            secure=secure,
        )
        return done

    def _out(self) -> Response:
        done = RedirectResponse("./", 303)
        done.delete_cookie(self.cookie)
        return done

    async def _try(self, given: str, address: str) -> tuple[float, bool]:
        """(seconds to wait, whether it is the password). While an address has to wait, its tries are not looked at."""
        mark = hmac.new(self._key, given.encode(), hashlib.sha256).digest()
        if mark in self._known:
            return 0.0, True
        async with self._turn:
            now = time.monotonic()
            wait = self.tries.wait_seconds(address, now)
            if wait or not given:
                return wait, False
            is_right = await asyncio.to_thread(self.password.matches, given)
            if is_right:
                self._known.add(mark)
                self.tries.right(address)
            else:
                self.tries.wrong(address, now)
            return 0.0, is_right

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return found is not None and self.password.granted(found.value)


async def _body(receive: Receive) -> bytes:
    content, more = b"", True
    while more:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False) and len(content) <= _MOST_FORM_BYTES
    return content if len(content) <= _MOST_FORM_BYTES else b""


def _basic(header: str) -> str:
    """The password of `Authorization: Basic …`; "" where there is none for our user."""
    kind, _, text = header.partition(" ")
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return password if kind.lower() == "basic" and user == USER else ""


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _page(message: str, status: int = 200) -> Response:
    shown = _PAGE.replace("<!-- message -->", html.escape(message)).replace('lang="en"', f'lang="{spoken()}"')
    for text in _SAID:
        shown = shown.replace(f">{text}<", f">{html.escape(say(text))}<")
    return HTMLResponse(shown, status, {"Cache-Control": "no-store"})


def _slower(wait_seconds: float) -> Response:
    told = {"Retry-After": str(math.ceil(wait_seconds))}
    return JSONResponse({"error": _wait_sentence(wait_seconds)}, 429, told)


def _wait_sentence(wait_seconds: float) -> str:
    return say("Too many wrong passwords. Try again in {seconds} s.", seconds=math.ceil(wait_seconds))
