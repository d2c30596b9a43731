"""Numbers, times and foreign text as people and HTML can take them."""

from __future__ import annotations

import html
from datetime import datetime
from decimal import Decimal

from engine.preset import BY_PATH
from ui.language import either, say, spoken

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
        return _two((say("s"), whole))
    if not hours:
        return _two((say("min"), minutes), (say("s"), whole % 60))
    if not days:
        return _two((say("h"), hours), (say("min"), minutes % 60))
    return _two((say("d"), days), (say("h"), hours % 24))


def _two(large: tuple[str, int], small: tuple[str, int] = ("", 0)) -> str:
    return " ".join(f"{number} {unit}" for unit, number in (large, small) if number or unit == large[0])


def local_time(iso: str) -> str:
    """A UTC time of an event as local day and hour; the text itself where it is no time."""
    try:
        return moment(datetime.fromisoformat(iso).astimezone())
    except ValueError:
        return iso


def moment(time: datetime, with_seconds: bool = False) -> str:
    """A local day and hour: "21 Nov 14:05"."""
    day = "%m-%d" if spoken() == "zh" else "%d %b"
    return time.strftime(f"{day} %H:%M" + (":%S" if with_seconds else ""))


def plural(number: int, noun: str) -> str:
    """A count and what is counted, such as "3 images"; `noun` stands in the catalogue as "{count} image"."""
    if spoken() != "en":
        return say(" ".join(("{count}", noun)), count=f"{number:,}")
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def place(where: str) -> str:
    """Where a problem lies, as the page calls it: the field's label, or the file or folder itself."""
    item = BY_PATH.get(where)
    return either(item.label, item.zh) if item else where
