"""Every test: one torch thread, no network beyond this machine, no writes outside its own folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import engine  # noqa: F401 -- before transformers and diffusers: see engine/compat.py

if TYPE_CHECKING:
    import torch
    from loaded_model import Model

    from engine.sdxl.detect import ModelFacts

pytest_plugins = ["tests.browser", "tests.pages"]

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

# A busy machine is no failure: what hypothesis calls a deadline is a timing, and timings belong into benchmarks/.
# In CI the examples are the same each time: new ones are looked for by those who can mend what they find.
hypothesis.settings.register_profile("atelier", deadline=None, derandomize="CI" in os.environ, max_examples=60)
hypothesis.settings.register_profile("fast", hypothesis.settings.get_profile("atelier"), max_examples=20)
hypothesis.settings.load_profile("atelier")

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = Path(__file__).resolve().parent / "reference"
_connect = socket.socket.connect


def _connect_here_only(self: socket.socket, address):
    """Refuse every address outside this machine: Atelier needs no network at run time."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a test tried to reach {address[0]}: Atelier works without a network")
    return _connect(self, address)


def pytest_configure(config: pytest.Config) -> None:
    """Without the slow tests (./test.sh --fast) property tests look at fewer examples."""
    if "not slow" in config.option.markexpr:
        hypothesis.settings.load_profile("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, those that share a costly set-up stay in one (`--dist loadgroup`).

    That is: those of a file, all with a browser, all with the reduced model. Files with slow tests come first.
    """
    slow: set[str] = set()
    for item in items:
        group = "browser" if item.get_closest_marker("browser") else item.path.stem
        if "reduced_model_path" in getattr(item, "fixturenames", ()):
            group = "reduced model"
        item.add_marker(pytest.mark.xdist_group(group))
        if item.get_closest_marker("slow"):
            slow.add(item.path.stem)
    items.sort(key=lambda item: item.path.stem not in slow)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest and pytest-xdist in which groups no longer work: each set-up would be made twice."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist does not see the groups of tests/conftest.py. Run ./setup.sh --dev.")


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Close the network for the whole session."""
    socket.socket.connect = _connect_here_only
    yield
    socket.socket.connect = _connect


@pytest.fixture(autouse=True, scope="session")
def home_of_tests(tmp_path_factory: pytest.TempPathFactory):
    """What Atelier keeps for this user and machine goes into a folder of the tests, in started processes too."""
    os.environ["ATELIER_HOME"] = str(tmp_path_factory.mktemp("atelier-home"))


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    """Two OpenMP threads on a busy two-core machine make small steps 12 to 25 times slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reduced_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reduced SDXL of the reference figures (390 MB in bf16), written once a session (about 3 s)."""
    from reduced_model import build

    return build(tmp_path_factory.mktemp("reduced") / "reduced.safetensors")


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    """What the demo model's header tells."""
    from engine.sdxl.detect import identify

    return identify(ROOT / "demo" / "model.safetensors")


@pytest.fixture(scope="session")
def model(facts: ModelFacts) -> Model:
    """All parts of the demo model, as stored. Tests leave it as it is."""
    from loaded_model import STORED, load

    return load(facts, STORED)


@pytest.fixture(scope="session")
def stored(facts: ModelFacts) -> dict[str, torch.Tensor]:
    """The demo model's tensors by their names in the file, memory-mapped."""
    from safetensors.torch import load_file

    return load_file(facts.path)
