"""What is found in a picture: settings, and sentences on what was not understood or is not here. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.drawing.settings import BY_PATH
from engine.settings import Setting

Source = Literal["", "Atelier", "A1111", "ComfyUI"]

NOTES: dict[str, str] = {
    "nothing": "This picture carries no settings. Programs that shrink or re-save pictures take them out.",
    "broken": "The settings in this picture cannot be read: {what}.",
    "value": "{name} has a value that is not allowed here ({value}). It stays as it is.",
    "unknown": "Not understood: {names}.",
    "sampler": "The sampler {name} is not here. {used} takes its place, so the picture will differ.",
    "sigmas": "The noise levels {name} are not here. {used} takes their place, so the picture will differ.",
    "model": "It was drawn with the model {name}. Choose it as base model.",
    "vae": "It was drawn with the VAE {name}. Choose it if the base model's own differs.",
    "refiner": "The refiner was {name}. Choose its file, or the refiner is left out.",
    "file": "{name} names a file that is not here ({file}). It stays as it is.",
    "image": "It began with another picture, which is not in it. Choose that under “Begin with”.",
    "upscaler": "The upscaler {name} is not here. The picture is enlarged plainly.",
    "noise": "Its first noise was drawn on a graphics card, so the same seed gives another picture here.",
    "ensd": "Its noise on the way has a seed of its own (ENSD {value}), which is left out.",
    "seed": "Its seed {value} is larger than seeds are here. It stays as it is.",
    "prompts": "Several texts are joined into its prompt. They follow each other here.",
    "encoders": "The two text encoders have different prompts in it. The longer one is taken.",
    "samplers": "It was drawn in more passes than are understood. The first one is taken.",
    "cycle": "Its graph runs in a circle, so parts of it are left out.",
}


@dataclass(frozen=True)
class Note:
    """A key of NOTES and what fills its places."""

    key: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return NOTES[self.key].format(**self.values)


@dataclass
class Found:
    """The settings that a picture tells, by "group.name", every value an allowed one; and the notes.

    `model`: the name of the model it was drawn with, "" where that is not told or its file is among the settings.
    """

    source: Source = ""
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    model: str = ""

    def note(self, key: str, **values: object) -> None:
        said = Note(key, {name: shortened(value) for name, value in values.items()})
        if said not in self.notes:
            self.notes.append(said)

    def put(self, path: str, value: Any) -> bool:
        """Keep a value if the setting allows it; else a note."""
        item = BY_PATH[path]
        allowed = _read(item, value)
        if allowed is None:
            self.note("value", name=item.label, value=value)
            return False
        self.values[path] = allowed
        return True

    def put_number(self, path: str, text: Any) -> bool:
        """Keep a number that stands as text."""
        try:
            number = float(text)
        except (TypeError, ValueError, OverflowError):
            return self.put(path, str(text))
        return self.put(path, int(number) if BY_PATH[path].type is int and number.is_integer() else number)


def shortened(value: object, most: int = 160) -> str:
    """Foreign text for a sentence: one line, not too long."""
    text = " ".join(str(value)[: most * 2].split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _read(item: Setting, value: Any) -> Any:
    """The value as the setting takes it; None for one that is not allowed."""
    if item.choices or item.type in (bool, str):
        is_right = value in item.choices if item.choices else isinstance(value, item.type)
        return value if is_right and (item.type is bool or "\0" not in str(value)) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if item.type is int and value != int(value):
        return None
    return item.type(value) if item.nearest(value) == value else None
