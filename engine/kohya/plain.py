"""Rules that many keys share: the same value under another name, and a key that decides nothing."""

from __future__ import annotations

from typing import Any

from engine.kohya.receipt import Outcome
from engine.kohya.values import ARGUMENTS, Values, allows, documented
from engine.settings import Setting

NO_EFFECT = "had no effect there either"


def plain(values: Values, key: str, item: Setting) -> Outcome:
    """The same idea under another name: the value goes over as it is, if the setting can hold it."""
    value = values[key]
    if value is None:
        return Outcome("ignored_default", setting=item.path)
    if item.choices and value not in item.choices:
        what = f"Atelier knows {', '.join(map(str, item.choices))}; {item.default} is used"
        return Outcome("ignored_effect", note=what, setting=item.path)
    if item.type is int and not float(value).is_integer():
        return Outcome("ignored_effect", note="needs a whole number; the default is used", setting=item.path)
    if item.type in (int, float) and value == 0 and not allows(item, 0):
        default = documented(ARGUMENTS[item.sd_scripts]) if item.sd_scripts in ARGUMENTS else item.default
        used = item.default if default is None else default
        return Outcome("converted", {item.path: used}, f"0 means the trainer's own default there, {used}")
    return Outcome("honoured", {item.path: item.type(value)})


def unused(values: Values, key: str, settings: dict[str, Any], why: str) -> Outcome:
    """A key that decides nothing here because of another one, there as well."""
    if values[key] in (None, values.default(key)):
        return Outcome("ignored_default", settings)
    return Outcome("ignored_effect", settings, f"{NO_EFFECT}: {why}")
