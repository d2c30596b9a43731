"""How long to train and how long to warm up: keys that decide together."""

from __future__ import annotations

from typing import Literal

from engine.kohya.optimizer import optimizer_of, share_of
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.optimizer_kinds import OPTIMIZERS

STEPS_PATH, EPOCHS_PATH, LENGTH_PATH = "run.steps", "run.epochs", "run.length"


def deciding(values: Values) -> Literal["epoch", "max_train_epochs", "max_train_steps"]:
    """The key that ends the run. kohya_ss: max_train_steps, where it is not 0, beats epoch.

    A preset that holds `epoch` and no `max_train_steps` was made when the steps were computed from the epochs; the
    1600 that a fresh form shows was never meant by it.
    """
    if values["max_train_epochs"]:
        return "max_train_epochs"
    if not values.is_kohya:
        return "max_train_steps"
    if not values["max_train_steps"]:
        return "epoch"
    return "epoch" if "epoch" in values.given and "max_train_steps" not in values.given else "max_train_steps"


def epochs(values: Values, key: str) -> Outcome:
    """kohya_ss's own epochs."""
    decides = deciding(values)
    if decides == "max_train_epochs":
        return _beaten(values, key, decides)
    settings = {EPOCHS_PATH: values[key] or 1}
    if decides == key:
        return Outcome("honoured", {**settings, LENGTH_PATH: "epochs"})
    what = f"max_train_steps = {values[decides]} decides, as there; run.length = epochs makes this number decide"
    return Outcome("honoured", settings, what)


def max_train_epochs(values: Values, key: str) -> Outcome:
    if deciding(values) == key:
        return Outcome("honoured", {EPOCHS_PATH: values[key], LENGTH_PATH: "epochs"})
    return Outcome("ignored_default")


def max_train_steps(values: Values, key: str) -> Outcome:
    decides = deciding(values)
    if decides == key:
        return Outcome("honoured", {STEPS_PATH: values[key], LENGTH_PATH: "steps"})
    if not values[key]:
        return Outcome("converted", note="0 means that the epochs decide", setting=LENGTH_PATH)
    return _beaten(values, key, decides)


def _beaten(values: Values, key: str, decides: str) -> Outcome:
    what = f"had no effect there either: {decides} = {values[decides]} decides"
    return Outcome("ignored_default" if values[key] == values.default(key) else "ignored_effect", note=what)


def warmup_percent(values: Values, key: str) -> Outcome:
    """kohya_ss's share of all steps, 0 to 100."""
    if _has_none(values):
        return _no_warmup(values, key)
    if values["lr_warmup_steps"]:
        return _beaten(values, key, "lr_warmup_steps")
    return _share(values[key] / 100)


def warmup_steps(values: Values, key: str) -> Outcome:
    """A number of steps; in sd-scripts also a share: 0.1 or "10%"."""
    if _has_none(values):
        return _no_warmup(values, key)
    amount = values[key]
    if values.is_kohya and not amount:
        return Outcome("ignored_default", note="lr_warmup decides")
    share = share_of(amount)
    if share is None:
        return Outcome("ignored_effect", {"optimizer.warmup_steps": 0}, "is not a share such as 10%; no warm-up")
    return _share(share) if 0 < share < 1 else Outcome("honoured", {"optimizer.warmup_steps": int(share)})


def _has_none(values: Values) -> bool:
    """Whether there is no warm-up there, whatever the keys say."""
    return values["lr_scheduler"] == "constant" or OPTIMIZERS[optimizer_of(values) or "adamw"].schedule_free


def _no_warmup(values: Values, key: str) -> Outcome:
    """Only one of the two keys sets the setting."""
    own = OPTIMIZERS[optimizer_of(values) or "adamw"].schedule_free  # among its arguments
    settings = {"optimizer.warmup_steps": 0} if key == "lr_warmup_steps" and not own else {}
    if values[key] == values.default(key):
        return Outcome("ignored_default", settings)
    return Outcome(
        "ignored_effect", settings, "had no effect there either: this schedule or optimizer has no warm-up there"
    )


def _share(share: float) -> Outcome:
    if share == 0:
        return Outcome("honoured", {"optimizer.warmup_share": 0.0})
    return Outcome("converted", {"optimizer.warmup_share": share}, f"{share * 100:g} % of the steps")
