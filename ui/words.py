"""Numbers, times and foreign text as people and HTML can take them."""

from __future__ import annotations

import html
from datetime import datetime
from decimal import Decimal

from engine.preset import BY_PATH

# Gradio's HTML component fills a template, so the marks of templates are escaped beside those of HTML.
_TEMPLATE_MARKS = {ord("{"): "&#123;", ord("}"): "&#125;", ord("$"): "&#36;", ord("`"): "&#96;"}


def escape(text: object) -> str:
    """Text from captions, prompts, presets, logs or file names, made safe to stand in HTML and in attributes."""
    return html.escape(str(text), quote=True).translate(_TEMPLATE_MARKS)


def rate(value: float) -> str:
    """A learning rate as people write it: 1e-4, 3.5e-5, 0.02. Reads back as the very same number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value == 0:
        return "0" if value == 0 else str(value)
    if abs(value) >= 0.01:
        return repr(float(value)).removesuffix(".0")
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    if not isinstance(exponent, int):
        return repr(value)
    mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{exponent + len(digits) - 1}"


def duration(seconds: float) -> str:
    """A time span in its two largest units: "42 s", "3 min 20 s", "2 h 5 min", "1 d 3 h"."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole} s"
    if not hours:
        return _two(minutes, "min", whole % 60, "s")
    if not days:
        return _two(hours, "h", minutes % 60, "min")
    return _two(days, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large} {unit}" + (f" {small} {small_unit}" if small else "")


def local_time(iso: str) -> str:
    """A UTC time of an event as local day and hour; the text itself where it is no time."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%d %b %H:%M")
    except ValueError:
        return iso


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def place(where: str) -> str:
    """Where a problem lies, as the page calls it: the field's label, or the file or folder itself."""
    item = BY_PATH.get(where)
    return item.label if item else where
