"""A hook in the import system: what goes on around some libraries' own code when somebody imports them.

torchvision's is mended (compat.py). diffusers imports, for any one of its models, those of all families, and with them
bitsandbytes and peft, which takes longer than all the rest: these wait until somebody asks for them. So does torch's
compiler, of which the libraries want a mark for some functions ("not to be compiled") and nothing else. And the garbage
collector rests while large libraries are imported: it would look through all of them again and again, a fifth of the
time, for garbage that is not there.

`prepare()` arms the hook: microseconds, nothing is imported. `engine/__init__.py` calls it, so every process that
imports anything of the engine is prepared. Whatever was imported before stays as it is.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.compat import with_operators


class _LibraryFinder:
    """Finds the modules that AROUND and ASLEEP name as usual, and has their code run as they say."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in AROUND and name not in ASLEEP:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or spec.origin is None:
            return spec
        folder, run_module = Path(spec.origin).parent, spec.loader.exec_module

        def run(module: ModuleType) -> None:
            if name in ASLEEP:
                _put_to_sleep(module, run_module)
                return
            with AROUND[name](folder):
                run_module(module)

        spec.loader.exec_module = run
        return spec


def prepare() -> None:
    """Arm the hook. Call it any number of times."""
    if not any(isinstance(finder, _LibraryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LibraryFinder())


_asleep: dict[str, Callable[[], None]] = {}
"""What wakes each package that sleeps now."""


def _put_to_sleep(module: ModuleType, run_module: Callable[[ModuleType], None]) -> None:
    """A name that the module does not know in its sleep has its code run (PEP 562)."""

    def wake() -> None:
        del vars(module)["__getattr__"]
        run_module(module)

    def ask(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        _awaken(module.__name__)
        return getattr(module, name)

    _asleep[module.__name__] = wake
    vars(module).update(ASLEEP[module.__name__], __getattr__=ask)


def _awaken(name: str) -> None:
    """Run a package's code where that has not been done, that of the package it lies in first."""
    if parent := name.rpartition(".")[0]:
        _awaken(parent)
    if name in _asleep:
        _asleep.pop(name)()


@contextmanager
def without_companions(folder: Path) -> Iterator[None]:
    """A part of diffusers is imported as if bitsandbytes and peft were not there; afterwards they are there again."""
    packages = vars(importlib.import_module("diffusers.utils.import_utils"))
    there = {name: packages[name] for name in ("_bitsandbytes_available", "_peft_available")}
    packages.update(dict.fromkeys(there, False))
    try:
        yield
    finally:
        packages.update(there)


@contextmanager
def uncollected(_folder: Path) -> Iterator[None]:
    """The garbage collector rests meanwhile, and never looks through what is there afterwards."""
    if not gc.isenabled():  # by whoever imports this one, or by the program itself
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


AROUND: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "diffusers": uncollected,
    "diffusers.loaders.lora_base": without_companions,
    "diffusers.models.autoencoders.autoencoder_kl": uncollected,
    "diffusers.models.unets.unet_2d_condition": uncollected,
    "diffusers.quantizers": without_companions,
    "engine.train": uncollected,
    "torch": uncollected,
    "torchvision": with_operators,
    "transformers": uncollected,
    "transformers.models.clip.modeling_clip": uncollected,
}
"""What goes on around a module's code, given the folder that it lies in."""


def _unmarked(function: Any = None, *_more: Any, **_reason: Any) -> Any:
    """A decorator that does nothing, with and without brackets."""
    return _unmarked if function is None else function


def _is_compile_supported(device: str) -> bool:
    """torchvision takes the function of this name along when it is imported, and may call it much later."""
    _awaken("torch._dynamo.utils")
    return importlib.import_module("torch._dynamo.utils").is_compile_supported(device)


ASLEEP: dict[str, dict[str, object]] = {
    "diffusers.hooks": {},
    "diffusers.models.autoencoders": {},
    "diffusers.models.transformers": {},
    "diffusers.models.unets": {},
    "torch._dynamo": dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable", "graph_break"), _unmarked),
    "torch._dynamo.utils": {"is_compile_supported": _is_compile_supported},
}
"""Packages whose own code (of diffusers': it imports all families of models) runs when one of its names is first asked
for, but for those names that they answer in their sleep."""
