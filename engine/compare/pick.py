"""The tool `pick`: scores for every checkpoint of a run at several strengths, and which one to take, with reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.atomic import write_text_whole
from engine.compare.candidates import Trial, trial_of
from engine.compare.cells import Place, problems_of
from engine.compare.clip import clip_problems
from engine.compare.estimate import estimate, room_problems
from engine.compare.grid import Item, Legends, ending, grid_picture, save_grid
from engine.compare.judging import Candidate, Judgement, judge, plain
from engine.compare.layout import AxisLegend, Layout, layout_of
from engine.compare.plot import font_problems, look_of, warned_of
from engine.compare.settings import PickSettings
from engine.compare.timeline import start_values as run_values
from engine.errors import UserError
from engine.tools.jobs import jobs_home
from engine.tools.tool import Proposal, Report

if TYPE_CHECKING:
    from engine.compare.drawing import Shown
    from engine.compare.measuring import Seen

TITLE = "Choosing a checkpoint"
ABOUT = "Draw with every checkpoint of a run at several strengths, measure the pictures, and say which one to take."
RESUMES = True
WORDS = "RUN_FOLDER"
RESULT = "scores.json"
FORMAT = 1
WITHOUT_CLIP = (
    "No CLIP weights are chosen. Likeness, diversity and leak are measured by outlines, colours and rough layout "
    "alone, and how well pictures follow their prompts is not measured. Choose weights in clip.weights to know more."
)
NO_WAY = (
    "The base model's pictures are as like the training pictures as these are among themselves, so what was learnt "
    "cannot be told. Write prompts that are like the captions, or choose CLIP weights."
)
Settings = PickSettings


def start_values(words: list[str]) -> dict[str, Any]:
    """The run that the command line names, and how its samples are drawn; the prompts are chosen otherwise."""
    return {name: value for name, value in run_values(words).items() if name != "picture.prompt"}


def propose(settings: PickSettings) -> Proposal:
    """All pictures in the order of drawing. Raises PresetError with the faults of settings."""
    trial = trial_of(settings)
    problems = [*problems_of(trial.cells), *font_problems(settings.grid)]
    if settings.clip.weights:
        problems += clip_problems(settings.clip.weights, settings.clip.model)
    taken = estimate([cell.preset for cell in trial.cells], len(trial.cells))
    problems += room_problems(jobs_home(), taken.bytes)
    others = len(trial.prompts) - trial.with_trigger
    prompts = f"prompts with the trigger word: {trial.with_trigger}, without: {others}"
    summary = f"Candidates: {len(trial.tried)}; {prompts}; seeds: {trial.seeds}. {taken.text}"
    note = "" if settings.clip.weights else f" {WITHOUT_CLIP}"
    rows = tuple(cell.row() for cell in trial.cells)
    return Proposal(rows, summary + note, tuple(problems), content=trial)


def carry_out(proposal: Proposal, settings: PickSettings, report: Report) -> None:
    """Draw what is missing, measure, and write scores.json. Nothing is judged of pictures that are not there."""
    from engine.compare.clip import Clip
    from engine.compare.drawing import draw_cells
    from engine.compare.measuring import readable

    trial: Trial = proposal.content
    layout_of_trial(trial).write(report.folder)
    training = readable(trial.training)
    if settings.clip.weights:  # what cannot be read is told before hours of drawing
        report.stage("Looking at CLIP's weights")
        Clip(settings.clip.weights, settings.clip.model, "cpu")
    shown = draw_cells(trial.cells, report)
    if report.is_stop_asked():
        return
    report.stage("Measuring the pictures")
    result = _judged(trial, training, shown, settings)
    write_text_whole(report.folder / RESULT, json.dumps(_finite(result), ensure_ascii=False, indent=1) + "\n")
    report.stage("Making the grid")
    _write_grid(trial, shown, settings, report)
    for sentence in (*result["notes"], *result["reasons"]):
        print(sentence, flush=True)


def layout_of_trial(trial: Trial) -> Layout:
    """Its axes: candidates with the base model first, prompts, seeds."""
    names = ("base model", *(one.name for one in trial.tried))
    seeds = tuple(f"seed {number + 1}" for number in range(trial.seeds))
    axes = AxisLegend("candidate", names), AxisLegend("prompt", trial.prompts), AxisLegend("seed", seeds)
    return layout_of(axes, trial.cells)


def _judged(
    trial: Trial, training: Sequence[Path], shown: Mapping[Place, Shown], settings: PickSettings
) -> dict[str, Any]:
    """What goes into scores.json. Raises UserError where the base model's pictures are not all there."""
    from engine.compare.measuring import candidates_of, rough, see

    files = {place: one.path for place, one in shown.items() if one.path is not None}
    base = [place for place in files if place[0] == 0]
    if len(base) < len(trial.prompts) * trial.seeds:
        raise UserError("the base model's pictures could not all be drawn, so there is nothing to compare with.")
    notes: list[str] = []
    if settings.clip.weights:
        seen = _seen_by_clip(trial, training, files, settings)
    else:
        seen = see(files, training, rough)
        notes.append(WITHOUT_CLIP)
    candidates, ends = candidates_of(files, seen, trial.tried, trial.with_trigger)
    if len(candidates) < len(trial.tried):
        notes.append(f"{len(trial.tried) - len(candidates)} of {len(trial.tried)} could not be drawn and are left out.")
    if not ends.tells_learning:
        notes.append(NO_WAY)
    if not any(one.loss is not None for one in trial.tried):
        notes.append("The run measured no validation loss, so it does not count.")
    judgement = judge(candidates)
    features = "clip" if settings.clip.weights else "rough"
    told = {"v": FORMAT, "features": features, "notes": notes, "ends": asdict(ends)}
    return {**told, **result_of(candidates, judgement)}


def _seen_by_clip(trial: Trial, training: Sequence[Path], files: Mapping[Place, Path], settings: PickSettings) -> Seen:
    from engine.compare.clip import Clip
    from engine.compare.measuring import see
    from engine.memory import device_of

    model = settings.model
    clip = Clip(settings.clip.weights, settings.clip.model, device_of(model.device, "fp32", model.threads, "model"))
    seen = see(files, training, clip.pictures)
    return replace(seen, texts=clip.texts(trial.texts))


def result_of(candidates: Sequence[Candidate], judgement: Judgement) -> dict[str, Any]:
    """Scores, trade-off and proposal as JSON takes them."""
    return {
        "candidates": [plain(one) for one in candidates],
        "front": list(judgement.front),
        "proposed": judgement.proposed,
        "reasons": list(judgement.reasons),
    }


def _write_grid(trial: Trial, shown: Mapping[Place, Shown], settings: PickSettings, report: Report) -> None:
    """Each candidate's first seed of all prompts."""
    candidates, prompts, _ = layout_of_trial(trial).axes
    items: dict[tuple[int, int], Item] = {
        (place[1], place[0]): one.path or one.fault for place, one in shown.items() if place[2] == 0
    }
    with warned_of(report):
        picture = grid_picture(items, Legends(prompts.labels, candidates.labels), look_of(settings.grid))
        save_grid(picture, report.folder / f"grid{ending(settings.grid.format)}")


def _finite(value: Any) -> Any:
    """JSON has no infinite numbers: None in their place."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
