"""The password: kept as a hash for its owner's eyes only, asked of everybody, and not to be found by trying."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from engine.errors import UserError
from engine.preset import ROOT
from ui import passwords, theme
from ui.guard import Guard
from ui.sign_in import SignIn
from ui.tries import ALL_TRIES, FREE_TRIES, LONGEST_WAIT_SECONDS, Tries

WORD = "correct horse"


@pytest.fixture(scope="module")
def password() -> passwords.Password:
    return passwords.make(WORD)


@pytest.fixture
def client(password: passwords.Password) -> TestClient:
    """A browser before a page that is only its guard."""
    inner = Starlette(routes=[Route(path, lambda _: PlainTextResponse("inside")) for path in ("/", "/api/v1/queue")])
    guard = Guard(inner, frozenset({"127.0.0.1"}), loopback_only=True, sign_in=SignIn(password, 7860))
    return TestClient(guard, base_url="http://127.0.0.1:7860", follow_redirects=False)


def test_the_password_is_kept_as_a_hash_that_only_its_owner_can_read(
    password: passwords.Password, tmp_path: Path
) -> None:
    file = tmp_path / "secrets" / "password.json"
    passwords.save(password, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert WORD not in file.read_text()
    assert passwords.load(file) == password
    assert passwords.make(WORD).hash != password.hash  # salted


def test_the_file_is_closed_to_others_again_and_a_damaged_one_lets_nobody_in(
    password: passwords.Password, tmp_path: Path
) -> None:
    file = tmp_path / "password.json"
    passwords.save(password, file)
    file.chmod(0o644)
    passwords.load(file)
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("{")
    with pytest.raises(UserError, match="Choose a new password"):
        passwords.load(file)


def test_too_short_a_password_is_refused() -> None:
    with pytest.raises(UserError, match="at least 8"):
        passwords.make("short")


def test_nothing_is_shown_before_signing_in(client: TestClient) -> None:
    shown = client.get("/")
    assert shown.status_code == 401
    assert "inside" not in shown.text
    assert 'type="password"' in shown.text
    for path in ("/config", "/gradio_api/app_id", "/gradio_api/heartbeat/x", "/assets/index.js", "/api/v1/queue"):
        assert client.get(path).status_code == 401
    assert client.post("/gradio_api/run/predict", json={}).status_code == 401


def test_the_right_password_opens_the_page_and_signing_out_shuts_it(client: TestClient) -> None:
    done = client.post("/login", data={"password": WORD})
    assert done.status_code == 303
    cookie = done.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert client.get("/").text == "inside"
    client.post("/logout")
    assert client.get("/").status_code == 401


def test_the_page_of_the_password_speaks_the_browsers_language(client: TestClient) -> None:
    english, chinese = (client.get("/", headers={"Accept-Language": name}).text for name in ("en", "zh-CN"))
    assert ">Sign in<" in english and ">登录<" in chinese and "Password<" not in chinese
    wrong = client.post("/login", data={"password": "x" * 9}, headers={"Accept-Language": "zh"}).text
    assert "密码不对" in wrong


def test_the_page_offers_signing_out_only_where_there_is_a_password() -> None:
    assert "atelierSignedIn = true" in theme.head(is_signed_in=True)
    assert "atelierSignedIn = false" in theme.head()


def test_another_site_cannot_sign_the_browser_in_or_out(client: TestClient) -> None:
    for path in ("/login", "/logout"):
        assert client.post(path, data={"password": WORD}, headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("sign_in", ["", "x", "9999999999.", "9999999999.00", "9999999999.é"])
def test_a_made_up_sign_in_is_none(password: passwords.Password, sign_in: str) -> None:
    assert not password.granted(sign_in)


def test_a_sign_in_outlives_a_restart_but_not_its_time_nor_a_new_password(password: passwords.Password) -> None:
    granted = password.grant(now=1000.0)
    assert password.granted(granted, now=2000.0)
    assert not password.granted(granted, now=1000.0 + passwords.SIGNED_IN_SECONDS)
    ends, code = granted.split(".")
    assert not password.granted(f"{int(ends) + 1}.{code}", now=2000.0)
    assert not passwords.make(WORD).granted(granted, now=2000.0)


def test_the_api_takes_the_same_password(client: TestClient) -> None:
    assert client.get("/api/v1/queue", auth=("atelier", WORD)).text == "inside"
    assert client.get("/api/v1/queue", auth=("admin", WORD)).status_code == 401
    assert client.get("/", auth=("atelier", WORD)).status_code == 401  # browsers keep Basic for every address
    assert client.get("/api/v1/queue", headers={"Authorization": "Basic !"}).status_code == 401
    refused = client.get("/api/v1/queue", auth=("atelier", "wrong password"))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")


@pytest.mark.slow
def test_after_some_wrong_tries_even_the_right_password_has_to_wait(client: TestClient) -> None:
    for _ in range(FREE_TRIES):
        assert client.post("/login", data={"password": "wrong password"}).status_code == 401
    late = client.post("/login", data={"password": WORD})
    assert late.status_code == 429
    assert "Too many" in late.text
    basic = base64.b64encode(f"atelier:{WORD}".encode()).decode()
    answer = client.get("/api/v1/queue", headers={"Authorization": f"Basic {basic}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_waits_grow_to_a_limit_and_are_each_addresss_own() -> None:
    tries, now = Tries(), 1000.0
    waits = []
    for _ in range(20):
        now += tries.wait_seconds("10.0.0.1", now)
        tries.wrong("10.0.0.1", now)
        waits.append(tries.wait_seconds("10.0.0.1", now))
    assert waits[: FREE_TRIES + 3] == [0.0] * (FREE_TRIES - 1) + [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST_WAIT_SECONDS
    assert tries.wait_seconds("10.0.0.2", now) == 0.0
    tries.right("10.0.0.1")
    assert tries.wait_seconds("10.0.0.1", now) == 0.0


def test_many_addresses_together_find_no_more_than_one_and_an_ipv6_subscriber_is_one() -> None:
    tries = Tries()
    for number in range(ALL_TRIES):
        tries.wrong(f"10.0.{number}.1", 1000.0)
    assert tries.wait_seconds("10.9.9.9", 1001.0) == pytest.approx(59.0)
    other = Tries()
    for number in range(FREE_TRIES):
        other.wrong(f"2001:db8::{number}", 1000.0)
    assert other.wait_seconds("2001:db8::ffff", 1000.0) == 1.0


@pytest.mark.slow
def test_a_password_is_chosen_and_forgotten_on_the_command_line(tmp_path: Path) -> None:
    """getpass reads the terminal; without one it reads standard input."""
    environment = {**os.environ, "ATELIER_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", "import getpass, sys, gui; getpass.getpass = lambda _: input(); gui.main()"]

    def ask(option: str, words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, option], cwd=ROOT, env=environment, input=words, capture_output=True, text=True, timeout=60
        )

    file = tmp_path / "secrets" / "password.json"
    assert ask("--set-password", f"{WORD}\nanother horse\n").returncode == 2
    assert not file.exists()
    assert ask("--set-password", f"{WORD}\n{WORD}\n").returncode == 0
    assert json.loads(file.read_text())["kind"] == "scrypt"
    assert ask("--forget-password", "").returncode == 0
    assert not file.exists()
