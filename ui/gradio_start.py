"""What Gradio does at its start for people who develop with it, and not for those who use this page.

For each class of components it parses the class's source and a stub file beside it, and writes that file where it
differs: almost half of the processor time of `import gradio`, and files in the installed package that nobody asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def without_stubs(_folder: Path) -> Iterator[None]:
    """Around the code of `gradio.component_meta`: no stub files are read or written for the classes that follow."""
    yield
    vars(sys.modules["gradio.component_meta"])["create_or_modify_pyi"] = _no_stub


def _no_stub(*_about: object) -> None:
    """In the place of what writes the stub of a class."""
