"""How all handlers of the page are called."""

from __future__ import annotations

from typing import Any

# Without Gradio's queue: each call is one request with one answer. The queue answers through a stream that the browser
# closes when nothing is left to wait for; a click at that moment is lost on a busy machine. Handlers get raw values
# (form.read judges them, in words), show no veil over what they renew, and are no public endpoints.
QUIET: dict[str, Any] = {"queue": False, "preprocess": False, "show_progress": "hidden", "api_visibility": "private"}
