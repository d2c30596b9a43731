"""A hook in the import system: what goes on around some libraries' own code when somebody imports them.

torchvision's is mended (compat.py). diffusers imports, for any one of its models, those of all families, and with them
bitsandbytes and peft, which takes longer than all the rest: these wait until somebody asks for them. And the garbage
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
                vars(module)["__getattr__"] = _waking(module, run_module)
                return
            with AROUND[name](folder):
                run_module(module)

        spec.loader.exec_module = run
        return spec


def prepare() -> None:
    """Arm the hook. Call it any number of times."""
    if not any(isinstance(finder, _LibraryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LibraryFinder())


def _waking(module: ModuleType, run_module: Callable[[ModuleType], None]) -> Callable[[str], object]:
    """The `__getattr__` of a sleeping package (PEP 562): the first name that it lacks has its code run."""

    def wake(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        vars(module).pop("__getattr__", None)
        run_module(module)
        return getattr(module, name)

    return wake


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

ASLEEP = {"diffusers.hooks", "diffusers.models.autoencoders", "diffusers.models.transformers", "diffusers.models.unets"}
"""Packages whose own code (here: it imports all families of models) runs when one of its names is first asked for."""
