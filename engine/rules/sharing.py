"""Faults between settings: metadata, upload, trackers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.secrets import holds_secret

if TYPE_CHECKING:
    from engine.preset import Preset

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def hub_repo_is_a_repo(preset: Preset) -> Iterator[Problem]:
    repo = preset.sharing.hub_repo
    if repo and not holds_secret(repo) and (not _REPO.fullmatch(repo) or len(repo) > 96):
        yield Problem("sharing.hub_repo", f"must be a repository such as user/my-lora (got {repo!r}).")


def hub_settings_have_a_repo(preset: Preset) -> Iterator[Problem]:
    sharing = preset.sharing
    if sharing.hub_repo:
        return
    if sharing.hub_folder:
        yield Problem(
            "sharing.hub_folder",
            f"is a place in a repository, and none is given (got {sharing.hub_folder!r}). Set sharing.hub_repo, or "
            "empty it.",
        )
    if sharing.hub_files != "final":
        yield Problem(
            "sharing.hub_files",
            f"says what is uploaded, and no repository is given (got {sharing.hub_files}). Set sharing.hub_repo, or "
            "set it to final.",
        )


def hub_folder_stays_in_the_repo(preset: Preset) -> Iterator[Problem]:
    folder = preset.sharing.hub_folder
    if ".." in folder.split("/") or "\\" in folder or folder.startswith("/"):
        yield Problem("sharing.hub_folder", f"must be a folder in the repository such as loras/cat (got {folder!r}).")


def presets_hold_no_secrets(preset: Preset) -> Iterator[Problem]:
    """Presets are shared, so a key in one is refused, and not repeated."""
    texts = {path: value for path, value in preset.values().items() if isinstance(value, str)}
    for where, text in {**texts, "about": preset.about, "author": preset.author}.items():
        if text and holds_secret(text):
            yield Problem(
                where,
                "holds what looks like a key or token, and presets are no place for secrets. Take it out; log in "
                "with `hf auth login` or `wandb login`, or set HF_TOKEN or WANDB_API_KEY.",
            )


def tracker_settings_have_a_tracker(preset: Preset) -> Iterator[Problem]:
    logging = preset.logging
    if logging.tracker != "none":
        return
    for name in ("folder", "run_name"):
        if value := getattr(logging, name):
            yield Problem(
                f"logging.{name}",
                f"is for a tracker, and none is chosen (got {value!r}). Set logging.tracker, or empty it.",
            )
    if logging.settings:
        yield Problem(
            "logging.settings",
            "is for a tracker, and none is chosen (got true). Set logging.tracker, or set it to false.",
        )


def tracker_names_are_names(preset: Preset) -> Iterator[Problem]:
    logging = preset.logging
    if logging.run_name and (".." in logging.run_name.split("/") or logging.run_name.startswith("/")):
        yield Problem("logging.run_name", f"must be a name, not a path (got {logging.run_name!r}).")
    if logging.tracker in ("wandb", "all") and not re.fullmatch(r"[\w.\- ]{1,128}", logging.project):
        yield Problem(
            "logging.project",
            f"must be 1 to 128 letters, digits, spaces or . _ - (got {logging.project!r}).",
        )


RULES = (
    hub_repo_is_a_repo,
    hub_settings_have_a_repo,
    hub_folder_stays_in_the_repo,
    presets_hold_no_secrets,
    tracker_settings_have_a_tracker,
    tracker_names_are_names,
)
