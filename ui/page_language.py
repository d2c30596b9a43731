"""What was drawn when the page was built, told in the language of who opens it.

Gradio builds a page once, for everybody, and sends it as one configuration. `Blocks` hands out that configuration with
its labels, notes, buttons and fixed HTML in the language of the request. The browser has nothing to do for it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr

from ui import theme
from ui.fields import redrawn
from ui.language import COOKIE, LANGUAGES, built, catalogue, say, speaking, spoken

_TEXTS = ("label", "info", "placeholder")  # of any component
_SAYING = ("button", "uploadbutton", "downloadbutton")  # components whose value is what they say
_TEXT_NODE = re.compile(r"(?<=>)[^<>]+(?=<)|^[^<>]+(?=<)|(?<=>)[^<>]+$|^[^<>]+$")
_ATTRIBUTE = re.compile(r'(?<=\btitle=")[^"]+(?=")|(?<=\bplaceholder=")[^"]+(?=")|(?<=\baria-label=")[^"]+(?=")')

Change = Callable[[str], str]


class Blocks(gr.Blocks):
    """Gradio's blocks, whose configuration speaks the language of the present request."""

    _configs: dict[str, Any]

    @property
    def config(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        language = spoken()
        if language not in self._configs:
            self._configs[language] = told(self._configs["en"], language)
        return self._configs[language]

    @config.setter
    def config(self, value: Any) -> None:
        self._configs = {"en": value}


def switch() -> str:
    """The choice of the language, each in its own name."""
    options = "".join(f'<option value="{name}" lang="{name}">{title}</option>' for name, title in LANGUAGES.items())
    return f'<select id="language-choice" aria-label="Language · 语言" data-cookie="{COOKIE}">{options}</select>'


def told(config: Mapping[str, Any], language: str) -> dict[str, Any]:
    """The configuration in a language; what has no translation stays English."""
    with speaking(language):
        components = [{**item, "props": _props(item, _translated)} for item in config["components"]]
        head = str(config.get("head") or "").replace(theme.words("en"), theme.words(language))
        return {**config, "components": components, "head": head}


def sentences(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every English sentence that the configuration shows, and the id of its element. For the test of completeness."""
    for item in config["components"]:
        found: list[str] = []
        _props(item, lambda text, found=found: found.append(text) or text)
        yield from ((text, str(item["props"].get("elem_id") or "")) for text in found)


def _props(component: Mapping[str, Any], change: Change) -> dict[str, Any]:
    props = dict(component["props"])
    for name in _TEXTS:
        if isinstance(props.get(name), str):
            props[name] = _text(props[name], change)
    if component["type"] in _SAYING and isinstance(props.get("value"), str):
        props["value"] = _text(props["value"], change)
    drawn = redrawn.get(str(props.get("elem_id")))
    if drawn is not None:  # it says its sentences itself
        props["value"] = drawn()
    elif component["type"] == "html" and isinstance(props.get("value"), str):
        props["value"] = fixed_html(props["value"], change)
    if isinstance(props.get("choices"), list):
        props["choices"] = [[_text(str(shown), change), value] for shown, value in props["choices"]]
    return props


def fixed_html(content: str, change: Change) -> str:
    """HTML that the page's code alone made, with its texts changed. Never for HTML that holds text of users."""
    for pattern in (_TEXT_NODE, _ATTRIBUTE):
        content = pattern.sub(lambda found: _escaped(found[0], change), content)
    return content


def _escaped(text: str, change: Change) -> str:
    plain = html.unescape(text)
    told_text = _text(plain, change)
    return text if told_text == plain else html.escape(told_text)


def _text(text: str, change: Change) -> str:
    """A text with the blanks around it kept."""
    bare = text.strip()
    return text.replace(bare, change(bare)) if any(letter.isalpha() for letter in bare) else text


def _translated(text: str) -> str:
    if text in built:
        sentence, values = built[text]
        return say(
            sentence,
            **{name: _translated(value) if isinstance(value, str) else value for name, value in values.items()},
        )
    return catalogue(spoken()).get(text, text)
