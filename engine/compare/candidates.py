"""What `pick` draws: every checkpoint at every strength, and the base model, over the same prompts and seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engine import event_log, events
from engine.compare.axes import Value, colon_faults, told_apart
from engine.compare.cells import Cell, drawn_with, in_order, start_of
from engine.compare.number_lists import lines_of, numbers_of, shown
from engine.compare.of_run import Checkpoint, checkpoints_of, prompts_of
from engine.compare.settings import PickSettings
from engine.data.scan import scan
from engine.drawing.settings import DrawingPreset
from engine.errors import PresetError, Problem, UserError
from engine.preset import Preset, resolve
from engine.run import RunFolder, open_run

MOST_PROMPTS = 3
"""So many are taken where the user wrote none."""
MOST_TRAINING_PICTURES = 200
MOST_CELLS = 20_000
_Item = TypeVar("_Item")
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


@dataclass(frozen=True)
class Tried:
    """A checkpoint at a strength, `place` from 1 (0 is the base model); `loss`: of the run's validation, or None;
    `step`: None where it is not known.
    """

    place: int
    name: str
    checkpoint: Path
    strength: float
    loss: float | None
    step: int | None = None


@dataclass(frozen=True)
class Trial:
    """All that is drawn. Cells' places are (candidate, prompt, seed); candidate 0 is the base model alone.

    The first `with_trigger` prompts have the trigger word, the others do not. `texts`: the prompts as CLIP gets them.
    """

    tried: tuple[Tried, ...]
    prompts: tuple[str, ...]
    with_trigger: int
    seeds: int
    texts: tuple[str, ...]
    training: tuple[Path, ...]
    cells: tuple[Cell, ...]


def trial_of(settings: PickSettings) -> Trial:
    """What is to be drawn. Raises PresetError with every fault at once."""
    problems: list[Problem] = []
    start = start_of(settings, problems)
    strengths, faults = numbers_of(settings.strengths)
    wrong = [one for one in strengths if not 0 < one <= 10]
    faults += [f"a strength must be above 0 and at most 10 (got {shown(one)})." for one in wrong]
    if not strengths and not faults:
        faults = ["is empty. Write one or some, like 0.6, 0.8, 1."]
    problems += [Problem("strengths", fault) for fault in faults]
    try:
        run, preset = _run(settings)
        checkpoints = checkpoints_of(run.path)
    except UserError as error:
        raise PresetError([*problems, *(Problem("run", str(problem)) for problem in error.problems)]) from None
    problems += [Problem("run", fault) for fault in colon_faults(str(one.path) for one in checkpoints)]
    training = _training_pictures(settings, preset, problems)
    trigger = settings.trigger.strip() or preset.captions.trigger.strip() or preset.sharing.trigger_phrase.strip()
    called, plain = _prompts(settings, preset, trigger, problems)
    if problems or start is None:
        raise PresetError(problems)
    losses = losses_of(run)
    names = told_apart([Value(one.label, checkpoint=str(one.path)) for one in checkpoints])
    pairs = [(named, strength) for named in zip(names, checkpoints, strict=True) for strength in strengths]
    tried = [
        Tried(place, f"{name.label} at {shown(strength)}", one.path, float(strength), _loss(one, losses), one.step)
        for place, ((name, one), strength) in enumerate(pairs, start=1)
    ]
    prompts = (*called, *plain)
    if (count := (len(tried) + 1) * len(prompts) * settings.seeds) > MOST_CELLS:
        raise PresetError([Problem("strengths", f"there would be {count:,} pictures; {MOST_CELLS:,} are the most.")])
    cells = _cells(start, tried, prompts, settings.seeds)
    texts = tuple(without(prompt, trigger) for prompt in prompts)
    return Trial(tuple(tried), prompts, len(called), settings.seeds, texts, training, tuple(in_order(cells)))


def _run(settings: PickSettings) -> tuple[RunFolder, Preset]:
    if not settings.run.strip():
        raise UserError("is empty. Choose a run.")
    return open_run(resolve(settings.run))


def _cells(start: DrawingPreset, tried: Sequence[Tried], prompts: Sequence[str], seeds: int) -> list[Cell]:
    first = max(0, start.picture.seed)
    found: list[Cell] = []
    for place, name, file, strength in ((0, "base model", "", 1.0), *_each(tried)):
        for number, prompt in enumerate(prompts):
            for seed in range(seeds):
                changes = (("picture.prompt", prompt), ("picture.seed", (first + seed) % 2**32))
                preset = drawn_with(start, [Value("", changes, file, strength)], strength)
                found.append(Cell((place, number, seed), f"{name} · {prompt} · seed {first + seed}", preset))
    return found


def _each(tried: Sequence[Tried]) -> list[tuple[int, str, str, float]]:
    return [(one.place, one.name, str(one.checkpoint), one.strength) for one in tried]


# ---------------------------------------------------------------- prompts


def _prompts(
    settings: PickSettings, preset: Preset, trigger: str, problems: list[Problem]
) -> tuple[list[str], list[str]]:
    """Prompts with the trigger word, and prompts without."""
    called, plain = (list(dict.fromkeys(lines_of(text))) for text in (settings.prompts, settings.plain_prompts))
    if both := [one for one in plain if one in called]:
        problems.append(Problem("plain_prompts", f"has a prompt of the others, too (got {both[0]!r}). Take it out."))
    if not trigger and not (called and plain):
        what = "is not known, as the run's settings name none. Write it here, or write both kinds of prompts."
        problems.append(Problem("trigger", what))
        return called, plain
    samples = [one.prompt for one in prompts_of(preset)]
    called = called or [one for one in samples if has(one, trigger)][:MOST_PROMPTS] or _captions(preset, trigger)
    if not called:
        called = [trigger]
    if not plain:
        plain = [one for one in samples if not has(one, trigger)][:MOST_PROMPTS]
        plain = plain or list(dict.fromkeys(filter(None, (without(one, trigger) for one in called))))
    if not plain:
        problems.append(Problem("plain_prompts", "is empty, and nothing is left of the others. Write one or some."))
    return called, plain


def _captions(preset: Preset, trigger: str) -> list[str]:
    """Captions of the training pictures with the trigger word, evenly over all of them."""
    found = scan(resolve(preset.data.folder)) if preset.data.folder else None
    captions = [item.caption for subset in found.subsets for item in subset.items] if found else []
    called = list(dict.fromkeys(one if has(one, trigger) else f"{trigger}, {one}" for one in captions if one.strip()))
    return evenly(called, MOST_PROMPTS)


def has(prompt: str, trigger: str) -> bool:
    """Whether a prompt has the trigger word, as a word of its own."""
    return bool(trigger) and _word(trigger).search(prompt) is not None


def without(prompt: str, trigger: str) -> str:
    """The prompt without the trigger word, and without the comma or space that was its own."""
    if not trigger:
        return prompt
    bare = _word(trigger).sub("", prompt)
    bare = re.sub(r"\s{2,}", " ", re.sub(r"\s*,(\s*,)+", ",", bare))
    return bare.strip(" ,")


def _word(trigger: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)


# ---------------------------------------------------------------- what the run tells


def _training_pictures(settings: PickSettings, preset: Preset, problems: list[Problem]) -> tuple[Path, ...]:
    if settings.pictures:
        folder = resolve(settings.pictures)
        files = folder.rglob("*") if folder.is_dir() else ()
        found = sorted(path for path in files if path.suffix.lower() in _PICTURES)
        if not found:
            problems.append(Problem("pictures", f"there are no pictures in {folder}. Choose another folder."))
        return tuple(evenly(found, MOST_TRAINING_PICTURES))
    folder = preset.data.folder and resolve(preset.data.folder)
    paths = [item.path for subset in scan(folder).subsets for item in subset.items] if folder else []
    if not paths:
        what = f"the run's training pictures are no longer there ({folder or 'none'})."
        problems.append(Problem("pictures", f"{what} Choose a folder with pictures like them."))
    return tuple(evenly(paths, MOST_TRAINING_PICTURES))


def losses_of(run: RunFolder) -> dict[int, float]:
    """The validation loss at each step that the run measured."""
    told = [entry.event for entry in event_log.read(run.events)[0] if isinstance(entry.event, events.Validated)]
    return {event.step: event.loss for event in told if event.loss is not None}


def _loss(one: Checkpoint, losses: dict[int, float]) -> float | None:
    return losses.get(one.step) if one.step is not None else None


def evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most so many, evenly over the whole list, the first one always."""
    return [items[at * len(items) // most] for at in range(most)] if len(items) > most else list(items)
