"""The page's password: kept as a salted hash in a file that only its owner can read, and the sign-ins that it grants.

A sign-in is a text that the browser keeps as a cookie: when it ends, and a code over that time which only the holder
of the key can make. So it outlives a restart of the page, and a new password ends all that were granted before.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.atomic import whole_file
from engine.errors import UserError
from ui.options import password_file

LEAST_LENGTH = 8
SIGNED_IN_SECONDS = 30 * 24 * 3600
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**15, 8, 1  # 32 MiB and about a tenth of a second a try
_PBKDF2_ROUNDS = 600_000  # where Python was built without scrypt


@dataclass(frozen=True)
class Password:
    """What is kept of a password. All texts are base64."""

    kind: str
    salt: str
    hash: str
    key: str

    def matches(self, given: str) -> bool:
        """Whether it is this password; takes as long for a wrong one."""
        return hmac.compare_digest(_hash(self.kind, given, _bytes(self.salt)), _bytes(self.hash))

    def grant(self, now: float | None = None) -> str:
        """A new sign-in, good for SIGNED_IN_SECONDS."""
        ends = str(int((time.time() if now is None else now) + SIGNED_IN_SECONDS))
        return f"{ends}.{self._code(ends)}"

    def granted(self, sign_in: str, now: float | None = None) -> bool:
        """Whether a sign-in was granted here and has not ended."""
        ends, _, code = sign_in.partition(".")
        is_ours = hmac.compare_digest(code.encode(), self._code(ends).encode())
        return is_ours and int(ends) > (time.time() if now is None else now)

    def _code(self, ends: str) -> str:
        return hmac.new(_bytes(self.key), ends.encode(), hashlib.sha256).hexdigest()


def make(password: str) -> Password:
    """What to keep of a new password. Raises UserError where it is too short."""
    if len(password) < LEAST_LENGTH:
        what = f"must have at least {LEAST_LENGTH} characters (got {len(password)}). Choose a longer one."
        raise UserError(what, "password")
    kind = "scrypt" if hasattr(hashlib, "scrypt") else "pbkdf2"
    salt = secrets.token_bytes(16)
    return Password(kind, _text(salt), _text(_hash(kind, password, salt)), _text(secrets.token_bytes(32)))


def save(password: Password, file: Path) -> None:
    """Keep it in a file that only this user can read. Raises UserError where the disk refuses."""
    with whole_file(file) as part:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump({"v": 1, **asdict(password)}, out)


def load(file: Path) -> Password | None:
    """The password that is kept, or None. Raises UserError where the file cannot be read: then nobody is let in."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if file.stat().st_mode & 0o077 and os.name == "posix":
            file.chmod(0o600)
        return Password(content["kind"], content["salt"], content["hash"], content["key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        what = "cannot be read, so nobody could sign in. Choose a new password (./gui.sh --set-password)."
        raise UserError(what, str(file)) from None


def change(forget: bool) -> int:
    """What --set-password and --forget-password do: ask twice and keep the hash, or remove it; the exit code."""
    file = password_file()
    if forget:
        file.unlink(missing_ok=True)
        print("No password is asked for from the next start on.")
        return 0
    try:
        made = make(getpass.getpass("New password: "))
        if not made.matches(getpass.getpass("Again: ")):
            raise UserError("these were two different ones. Nothing was changed.", "password")
        save(made, file)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"Kept, as a hash, in {file}. It is asked for from the next start on.")
    return 0


def _hash(kind: str, password: str, salt: bytes) -> bytes:
    if kind == "scrypt":
        limit_bytes = 2 * 128 * _SCRYPT_N * _SCRYPT_R
        return hashlib.scrypt(
            password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=limit_bytes, dklen=32
        )
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _PBKDF2_ROUNDS)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
