"""How a setting is declared once, and everything that is read from that one line.

`setting(...)` is used in `sections/`, and by captioners in their own files. From a line there come the field, the
command line's `--set`, the table in docs/settings.md, validation and the import of kohya_ss presets. `settings_of`
lists them as `Setting` records.
"""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Level = Literal["basic", "advanced", "expert"]
LEVELS: tuple[Level, ...] = ("basic", "advanced", "expert")
Kind = Literal["", "file", "folder", "lines", "rate", "color"]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def setting(default: Any, help: str, zh: str, **about: Any) -> Any:
    """Declare one setting.

    default, help (one sentence) and zh (the Chinese label) are always given. `about` may hold: `ge`, `gt`, `le`,
    `multiple_of` (limits); `label`; `level`; `when` ({"section.name": value}: makes sense only then); `kind` ("file",
    "folder", "lines", "rate", "color": how it is entered); `unit`; `kohya` and `sd_scripts` (its names there).
    """
    limits = {key: about.pop(key) for key in ("ge", "gt", "le", "multiple_of") if key in about}
    unknown = set(about) - {"label", "level", "when", "kind", "unit", "kohya", "sd_scripts"}
    if unknown:
        raise TypeError(f"setting() does not know {sorted(unknown)}")
    return Field(default, description=help, json_schema_extra={"zh": zh, **about}, **limits)


@dataclass(frozen=True)
class Setting:
    """Everything that is known about one setting; `path` is "section.name"."""

    section: str
    name: str
    type: type
    default: Any
    help: str
    zh: str
    label: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    multiple_of: float | None = None
    exclusive_low: bool = False
    level: Level = "basic"
    when: tuple[tuple[str, Any], ...] = ()
    kind: Kind = ""
    unit: str = ""
    kohya: str = ""
    sd_scripts: str = ""

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    def nearest(self, value: Any) -> Any:
        """The allowed value nearest to one that is not allowed; the default for what is no number."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if self.type not in (int, float) or not is_number or (self.exclusive_low and value <= (self.low or 0)):
            return self.default
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        step = self.multiple_of or (1 if self.type is int else 0)
        within = min(max(round(value / step) * step if step else value, low), high)
        return int(within) if self.type is int else within

    def another(self, value: Any) -> Any:
        """An allowed value that is far from `nearest`, where there is one."""
        near = self.nearest(value)
        ends = (False, True) if self.type is bool else self.choices or (self.high, self.low)
        fits = [end for end in ends if end is not None and end != near and not (self.exclusive_low and end == self.low)]
        return fits[0] if fits else near

    @property
    def limits_text(self) -> str:
        """The allowed values in words: "a whole number from 1 to 1024"."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.type is bool:
            return "true or false"
        if self.type not in (int, float):
            return "text"
        words = "a whole number" if self.type is int else "a number"
        if self.low is not None and self.high is not None:
            words += f" from {_shown(self.low)} to {_shown(self.high)}"
        elif self.low is not None:
            words += f" above {self.low:g}" if self.exclusive_low else f" of at least {self.low:g}"
        if self.multiple_of is not None:
            words += f", a multiple of {self.multiple_of:g}"
        return words


def settings_of(preset_class: type[BaseModel]) -> tuple[Setting, ...]:
    """All settings of a preset class in the order of the file."""
    found: list[Setting] = []
    hints = typing.get_type_hints(preset_class)
    for section, section_class in hints.items():
        if isinstance(section_class, type) and issubclass(section_class, BaseModel):
            section_hints = typing.get_type_hints(section_class)
            for name, info in section_class.model_fields.items():
                found.append(_describe(section, name, section_hints[name], info))
    return tuple(found)


def _describe(section: str, name: str, hint: Any, info: FieldInfo) -> Setting:
    about = dict(info.json_schema_extra or {}) if isinstance(info.json_schema_extra, dict) else {}
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    limits: dict[str, Any] = {}
    for constraint in info.metadata:
        for attribute in ("ge", "gt", "le", "multiple_of"):
            value = getattr(constraint, attribute, None)
            if value is not None:
                limits[attribute] = value
    when: dict[str, Any] = about.get("when") or {}  # type: ignore[assignment]
    return Setting(
        section=section,
        name=name,
        type=type(choices[0]) if choices else hint,
        default=info.default,
        help=info.description or "",
        zh=str(about.get("zh", "")),
        label=str(about.get("label") or name.replace("_px", "").replace("_", " ").capitalize()),
        choices=choices,
        low=limits.get("ge", limits.get("gt")),
        high=limits.get("le"),
        multiple_of=limits.get("multiple_of"),
        exclusive_low="gt" in limits,
        level=about.get("level", "basic"),  # type: ignore[arg-type]
        when=tuple(when.items()),
        kind=about.get("kind", ""),  # type: ignore[arg-type]
        unit=str(about.get("unit", "")),
        kohya=str(about.get("kohya", "")),
        sd_scripts=str(about.get("sd_scripts", "")),
    )


def _shown(limit: float) -> str:
    """A limit as people write it: 10000000, 0.5, 1e-08."""
    return str(int(limit)) if limit == int(limit) else f"{limit:g}"
