"""Functions of the page's program that its own scripts call, one JSON text in and one out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import UserError
from ui.language import say
from ui.told import fault

# Known to pages that this program sent only: another site that a browser visits cannot make it do something.
KEY = secrets.token_urlsafe(16)


def answered(request: str, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> str:
    """The answer to a request with the right key, as JSON; {"error": a sentence} without it."""
    asked = json.loads(request)
    if not isinstance(asked, dict) or not secrets.compare_digest(str(asked.get("key")).encode(), KEY.encode()):
        return json.dumps({"error": say("this page is older than the program that it speaks with. Load it again.")})
    return json.dumps(answer(asked))


def by_name(
    asked: Mapping[str, Any], answers: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]
) -> dict[str, Any]:
    """The answer to one question, {"ask": a name, …}; a UserError is {"error": sentence}."""
    answer = answers.get(str(asked.get("ask")))
    if answer is None:
        return {"error": say("this page is older than the program that it speaks with. Load it again.")}
    try:
        return answer(asked)
    except UserError as error:
        return {"error": fault(error)}
