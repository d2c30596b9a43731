"""What Gradio does for others and not for those who use this page, at its start and while nothing happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr


@contextmanager
def without_stubs(_folder: Path) -> Iterator[None]:
    """Around the code of `gradio.component_meta`: no stub files are read or written for the classes that follow.

    For each class of components Gradio parses the class's source and a stub file beside it, and writes that file where
    it differs: almost half of the processor time of `import gradio`, and files in the package that nobody asked for.
    """
    yield
    vars(sys.modules["gradio.component_meta"])["create_or_modify_pyi"] = _no_stub


def _no_stub(*_about: object) -> None:
    """In the place of what writes the stub of a class."""


def let_rest(blocks: gr.Blocks) -> None:
    """Gradio looks 1,000 times a second for something to do: a tenth of a core, beside a training too. On Windows it
    looks 20 times; here everywhere."""
    blocks._queue.sleep_when_free = 0.05
    blocks._queue.progress_update_sleep_when_free = 0.1
