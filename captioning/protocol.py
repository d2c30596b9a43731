"""What a captioner is: a module with `Settings` and `load`, which gives an object with `prepare` and `caption`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict

from engine.settings import setting


class CaptionerSettings(BaseModel):
    """Settings that every captioner has; its own ones are added in a subclass called `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where the captioner computes; auto takes the GPU where one can be used.", "设备"
    )


class Captioner(Protocol):
    """A loaded model."""

    @property
    def side_px(self) -> int:
        """The side of the square that the model looks at, at most: larger images may come reduced to twice that."""
        ...

    def prepare(self, image: Image.Image) -> Any:
        """What the model needs of an image (mode RGB, upright, of any size). Called in several threads at once."""
        ...

    def caption(self, prepared: Sequence[Any]) -> list[str]:
        """One caption for each prepared image, in order; "" where it has nothing to say."""
        ...


class CaptionerModule(Protocol):
    """One file in models/. It may also have `check(settings)`, which raises UserError before any model is loaded."""

    @property
    def Settings(self) -> type[CaptionerSettings]: ...  # noqa: N802 - a class

    def load(self, folder: Path, settings: Any) -> Captioner:
        """The captioner of a model folder, ready on its device. `settings` are this module's.

        Raises ModelError naming the file that is missing or cannot be used, MissingPackage, or UserError where the
        device is not there. Downloads nothing.
        """
        ...
