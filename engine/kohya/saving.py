"""Rules for what is saved and kept, what the file tells, trackers, uploads and validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.kohya.length import deciding
from engine.kohya.noise import only_if
from engine.kohya.plain import plain, unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH

KEEP_LAST, KEEP_STATES, EVERY_EPOCHS = "run.keep_last", "run.keep_states", "run.save_every_epochs"


def save_every_epochs(values: Values, key: str) -> Outcome:
    if values["save_n_epoch_ratio"]:
        return unused(values, key, {}, "save_n_epoch_ratio decides")
    return plain(values, key, BY_PATH[EVERY_EPOCHS])


def epoch_ratio(values: Values, key: str) -> Outcome:
    """At least so many files: every ⌊epochs / ratio⌋ epochs, one at least."""
    ratio = int(values[key] or 0)
    if ratio <= 0:
        return Outcome("ignored_default")
    decides = deciding(values)
    if decides == "max_train_steps":
        what = "needs the number of epochs, and the steps decide: set run.save_every_epochs"
        return Outcome("ignored_effect", {EVERY_EPOCHS: 1}, what)
    every = max(1, int(values[decides] or 1) // ratio)
    return Outcome("converted", {EVERY_EPOCHS: every}, f"{ratio} files at least: every {every} epochs")


def _counts(values: Values, ending: str = "") -> dict[str, int]:
    """How many files the two keys keep, where what they go with is set. By steps N // every + 1: those not older."""
    found: dict[str, int] = {}
    epochs, steps = f"save_last_n_epochs{ending}", f"save_last_n_steps{ending}"
    if values[epochs] and (values["save_every_n_epochs"] or values["save_n_epoch_ratio"]):
        found[epochs] = int(values[epochs])
    if values[steps] and values["save_every_n_steps"]:
        found[steps] = int(values[steps]) // int(values["save_every_n_steps"]) + 1
    return found


def keep_last(values: Values, key: str) -> Outcome:
    return _kept(values, key, _counts(values), KEEP_LAST)


def keep_states(values: Values, key: str) -> Outcome:
    if values[key] and not values["save_state"]:
        return Outcome("ignored_effect", note="had no effect there either: no states were saved; here some always are")
    return _kept(values, key, _counts(values, "_state"), KEEP_STATES)


def _kept(values: Values, key: str, counts: dict[str, int], path: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    if key not in counts:
        other = "save_every_n_epochs" if "epochs" in key else "save_every_n_steps"
        return Outcome("ignored_effect", note=f"had no effect there either: {other} is not set")
    most = max(counts.values())
    if counts[key] < most:
        return Outcome("converted", note=f"{most} are kept, as the other key asks", setting=path)
    if counts[key] == values[key]:
        return Outcome("honoured", {path: most})
    note = f"the last {values[key]} steps, of which {values['save_every_n_steps']} lie between two files: {most} files"
    return Outcome("converted", {path: most}, note)


def no_metadata(values: Values, key: str) -> Outcome:
    return Outcome(
        "converted" if values[key] else "ignored_default",
        {"sharing.training_facts": not values[key]},
        "the same, asked the other way round",
    )


def thumbnail(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default", {"sharing.thumbnail": ""})
    if str(values[key]).startswith("data:"):
        what = "is the picture itself, as text; choose its file in sharing.thumbnail"
        return Outcome("ignored_effect", note=what, setting="sharing.thumbnail")
    return plain(values, key, BY_PATH["sharing.thumbnail"])


def _tracker(values: Values) -> str:
    """The tracker in force: with a folder and no name it is TensorBoard; without a folder TensorBoard has no place."""
    named = str(values["log_with"] or "")
    if not values["logging_dir"] and named in ("tensorboard", "all"):
        return "wandb" if named == "all" else "none"
    return named or ("tensorboard" if values["logging_dir"] else "none")


def tracker(values: Values, key: str) -> Outcome:
    chosen = _tracker(values)
    if chosen not in BY_PATH["logging.tracker"].choices:
        known = ", ".join(map(str, BY_PATH["logging.tracker"].choices))
        return Outcome("ignored_effect", {"logging.tracker": "none"}, f"Atelier knows {known}")
    settings = {"logging.tracker": chosen}
    if chosen == (values[key] or "none"):
        return Outcome("honoured" if values[key] else "ignored_default", settings)
    if not values[key]:
        return Outcome("converted", settings, "logging_dir is given, and TensorBoard is what writes there")
    return Outcome("converted", settings, "TensorBoard was given no logging_dir to write to")


def _is_tracked(values: Values) -> bool:
    return _tracker(values) not in ("none", "")


def _with_repo(values: Values) -> bool:
    return bool(values["huggingface_repo_id"])


def repo(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default", {"sharing.hub_repo": "", "sharing.hub_files": "final"})
    if values["huggingface_repo_type"] not in (None, "", "model"):
        what = f"is a {values['huggingface_repo_type']} there; Atelier uploads to model repositories"
        return Outcome("ignored_effect", {"sharing.hub_repo": "", "sharing.hub_files": "final"}, what)
    files = "checkpoints_and_states" if values["save_state_to_huggingface"] else "checkpoints"
    return Outcome("converted", {"sharing.hub_repo": str(values[key]), "sharing.hub_files": files}, "each one saved")


def repo_type(values: Values, key: str) -> Outcome:
    if values[key] in (None, ""):
        return Outcome("ignored_default")
    if values[key] == "model" or not _with_repo(values):
        return Outcome("converted", note="always a model repository", setting="sharing.hub_repo")
    return Outcome("ignored_effect", note="Atelier uploads to model repositories")


def visibility(values: Values, key: str) -> Outcome:
    """Everything but "public" is private there."""
    public = values[key] == "public"
    settings = {"sharing.hub_visibility": "public" if public else "private"}
    if values[key] in (None, ""):
        return Outcome("ignored_default", settings)
    return Outcome("honoured" if values[key] in ("public", "private") else "converted", settings)


def states_to_hub(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    if not _with_repo(values):
        return Outcome("ignored_effect", note="had no effect there either: no repository is given")
    return Outcome("converted", note="states are uploaded too", setting="sharing.hub_files")


def _is_validated(values: Values) -> bool:
    return bool(values["validation_split"])


RULES: dict[str, Callable[[Values, str], Any]] = {
    "save_every_n_epochs": save_every_epochs, "save_n_epoch_ratio": epoch_ratio,
    "save_last_n_epochs": keep_last, "save_last_n_steps": keep_last,
    "save_last_n_epochs_state": keep_states, "save_last_n_steps_state": keep_states,
    "no_metadata": no_metadata, "metadata_thumbnail": thumbnail,
    "log_with": tracker,
    "logging_dir": only_if("logging.folder", _is_tracked, "no tracker is chosen"),
    "log_tracker_name": only_if(
        "logging.project", lambda values: _is_tracked(values) and values["log_tracker_name"], "no tracker is chosen"),
    "wandb_run_name": only_if("logging.run_name", _is_tracked, "no tracker is chosen"),
    "log_config": only_if("logging.settings", _is_tracked, "no tracker is chosen"),
    "huggingface_repo_id": repo, "huggingface_repo_type": repo_type, "huggingface_repo_visibility": visibility,
    "huggingface_path_in_repo": only_if("sharing.hub_folder", _with_repo, "no repository is given"),
    "save_state_to_huggingface": states_to_hub,
    "validate_every_n_epochs": only_if("validation.every_epochs", _is_validated, "nothing is held out"),
    "validate_every_n_steps": only_if("validation.every_steps", _is_validated, "nothing is held out"),
    "max_validation_steps": only_if("validation.most_batches", _is_validated, "nothing is held out"),
    "validation_seed": only_if("validation.seed", _is_validated, "nothing is held out"),
}  # fmt: skip
