"""How the page looks: one accent colour, system fonts, light and dark. Nothing is loaded from another host."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

from engine.preset import SETTINGS
from ui.form import field_id
from ui.language import catalogue

_HERE = Path(__file__).parent
_SAID = re.compile(r'\bsay\("((?:[^"\\]|\\.)+)"')
_COUNTED = re.compile(r'\bplural\([^"]*?, "([^"]+)"\)')
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Ubuntu", "Cantarell", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.stone,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=[fonts.Font(name) for name in _SANS],
        font_mono=[fonts.Font(name) for name in _MONO],
    ).set(
        body_background_fill="#f7f6f3",
        body_background_fill_dark="#171614",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#201f1c",
        background_fill_secondary="#f2f0ec",
        background_fill_secondary_dark="#191816",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="600",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_padding="0px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#272522",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, var(--accent) 22%, transparent)",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_cancel_background_fill="transparent",
        button_cancel_background_fill_dark="transparent",
        button_cancel_background_fill_hover="#b4380d1f",
        button_cancel_background_fill_hover_dark="#fb923c2a",
        button_cancel_border_color="#b4380d66",
        button_cancel_border_color_dark="#fb923c66",
        button_cancel_text_color="#b4380d",
        button_cancel_text_color_dark="#fb923c",
        button_large_padding="8px 18px",
        button_large_text_size="*text_md",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_600",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
    )


def head(is_signed_in: bool = False) -> str:
    """The page's own styles and scripts, with what they tell about each setting. is_signed_in: there is a password.

    The style is not given to Gradio as `css`, which would confine it to the inside of the page's container.
    """
    style, script = _joined("*.css", "controls.css"), _joined("*.js", "page.js")
    facts = f"window.atelierSearch = {_json(_search_texts())};\nwindow.atelierSignedIn = {_json(is_signed_in)};"
    return f"<style>{style}</style><script>{words('en')}\n{facts}\n{script}</script>"


def words(language: str) -> str:
    """The script that tells the other scripts the language, and what they say in it."""
    told = {text: catalogue(language).get(text, text) for text in script_sentences()} if language != "en" else {}
    return f"window.atelierLanguage = {_json(language)}; window.atelierWords = {_json(told)};"


@cache
def script_sentences() -> tuple[str, ...]:
    """What the scripts say: `say("…")`, and the nouns of `plural(…, "…")`."""
    found: dict[str, None] = {}
    for path in sorted(_HERE.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        found |= dict.fromkeys(json.loads(f'"{item}"') for item in _SAID.findall(text))
        found |= dict.fromkeys("{count} " + item for item in _COUNTED.findall(text))
    return tuple(found)


def _search_texts() -> dict[str, str]:
    """By field: what a setting is called and what its help says, in every language, for the search."""
    chinese = catalogue("zh")
    return {
        field_id(item.path): " ".join((item.label, item.help, item.zh, chinese.get(item.help, ""), item.sd_scripts))
        for item in SETTINGS
    }


def _joined(names: str, first: str) -> str:
    """All files of these names as one text; the others build on the first."""
    paths = sorted(_HERE.glob(names), key=lambda path: (path.name != first, path.name))
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def _json(content: object) -> str:
    return json.dumps(content).replace("<", "\\u003c")
