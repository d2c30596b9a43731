"""Rules for captions and the training of text encoders."""

from __future__ import annotations

from engine.kohya.adapter import text_encoder_rate_of
from engine.kohya.plain import plain, unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH
from engine.settings import Setting

_SETTINGS = {
    "caption_prefix": "captions.prefix",
    "caption_suffix": "captions.suffix",
    "secondary_separator": "captions.secondary_separator",
    "caption_dropout_every_n_epochs": "captions.dropout_every_epochs",
}
_SKIPPED = "passed over in silence there, because text features are cached; here it takes effect"


def keep_tokens(values: Values, key: str) -> Outcome:
    if _works_on_tags(values):
        return plain(values, key, BY_PATH["captions.keep_tokens"])
    return unused(values, key, {"captions.keep_tokens": 0}, "tags are neither shuffled nor left out")


def wildcards(values: Values, key: str) -> Outcome:
    """One switch there for choices in braces and for files of several lines."""
    on = bool(values[key])
    settings = {"captions.wildcards": on, "captions.lines": "random" if on else "first"}
    if not on:
        return Outcome("ignored_default", settings)
    return _told(values, Outcome("converted", settings, "choices in braces, and one line of several"))


def separator(values: Values, key: str) -> Outcome:
    outcome = plain(values, key, BY_PATH["captions.separator"])
    if values[key] in (None, "", ","):
        return Outcome("ignored_default", {"captions.separator": ","})
    return Outcome("converted", outcome.settings, "tags are joined with it again, there with a comma")


def keep_separator(values: Values, key: str) -> Outcome:
    outcome = _text(values, key, BY_PATH["captions.keep_separator"])
    if outcome.group != "honoured" or _works_on_tags(values):
        return _told(values, outcome)
    what = "the mark itself stayed in the captions there, because nothing is shuffled or left out; here it goes"
    return Outcome("converted", outcome.settings, what)


def skipped_there(values: Values, key: str) -> Outcome:
    """Plain values that the trainer does not use with cached text features, without saying so."""
    item = BY_PATH[_SETTINGS[key]]
    return _told(values, _text(values, key, item) if item.type is str else plain(values, key, item))


def text_encoder_stop(values: Values, key: str) -> Outcome:
    """kohya_ss's percent of the run; its form offers it, its LoRA trainer does not know it."""
    percent = values[key] or 0
    setting = "adapter.text_encoder_stop"
    if percent == 0:
        return Outcome("ignored_default", {setting: 0.0})
    if text_encoder_rate_of(values) <= 0:
        return unused(values, key, {setting: 0.0}, "no text encoder is trained")
    if not 0 < percent < 100:
        what = "to the end" if percent >= 100 else "no percent of the run; the text encoders are trained to the end"
        return Outcome("converted" if percent >= 100 else "ignored_effect", {setting: 0.0}, what)
    note = f"{percent:g} % of the run; its LoRA trainer passed this over, here it takes effect"
    return Outcome("converted", {setting: percent / 100}, note)


def _text(values: Values, key: str, item: Setting) -> Outcome:
    """Text where nothing at all and empty text are the same."""
    return plain(values, key, item) if values[key] else Outcome("ignored_default", {item.path: ""})


def _works_on_tags(values: Values) -> bool:
    names = ("shuffle_caption", "caption_tag_dropout_rate", "token_warmup_step")
    return any(values[name] for name in names)


def _told(values: Values, outcome: Outcome) -> Outcome:
    cached = values["sdxl_cache_text_encoder_outputs" if values.is_kohya else "cache_text_encoder_outputs"]
    if outcome.group == "ignored_default" or not cached or not any(outcome.settings.values()):
        return outcome
    note = f"{outcome.note}; {_SKIPPED}".removeprefix("; ")
    return Outcome("converted", outcome.settings, note)
