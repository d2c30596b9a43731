"""The commands that look ahead: forecast, measure, fit."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import traceback
from pathlib import Path

from engine import events, in_use
from engine.cards import cards
from engine.commands import OUT_OF_MEMORY, failed, planned
from engine.errors import PresetError, UserError
from engine.fit import Fit
from engine.fit import fit as find_fit
from engine.forecast import USABLE, forecast_here, make_forecast
from engine.forecast_words import fit_lines, measured_words, rows
from engine.measured import note, read_table
from engine.plan import Plan
from engine.preset import Preset
from engine.report import Reporter
from engine.run import RunFolder
from engine.sentence import GIB, sentence


def forecast(chosen: argparse.Namespace) -> int:
    """Print what a run would take; exit code 2 where something stands in its way."""
    preset, plan = planned(chosen)
    if preset is not None and plan.steps:
        found = forecast_here(preset, plan)
        if chosen.json:
            print(found.to_json())
        else:
            print(sentence(preset, plan, found))
            for what, words in rows(preset, plan, found):
                print(f"{what + ':':<9}{words}")
    for problem in plan.problems:
        print(problem, file=sys.stderr)
    return UserError.exit_code if plan.problems else 0


def measure(chosen: argparse.Namespace) -> int:
    """Make three steps at the largest bucket and keep what they took; nothing else is left of them."""
    preset, plan = planned(chosen)
    if preset is None or plan.problems:
        raise PresetError(plan.problems)
    from engine import measure as measuring

    with in_use.measuring(measuring.runs_folders(preset)):
        if chosen.run is None:
            with measuring.thrown_away() as folder:
                return _measure(preset, plan, folder)
        return _measure(preset, plan, measuring.prepared(chosen.run.resolve()))


def _measure(preset: Preset, plan: Plan, folder: RunFolder) -> int:
    """Measure, and tell what came of it in the folder's events as a run does."""
    from engine.measure import measure as make_steps
    from engine.memory import advice, is_out_of_memory
    from engine.stopping import StopAsked

    report = Reporter(folder)
    try:
        row = make_steps(preset, plan, folder)
        note(row)
    except StopAsked:
        report.emit(events.Stopped(0))
        report.say("Stopped; nothing was measured.")
        return 0
    except UserError as error:
        return failed(report, str(error), error.exit_code, problems=error.problems)
    except Exception as error:  # whatever training raises is told as training tells it
        if is_out_of_memory(error):
            return failed(report, advice(preset, "measuring"), OUT_OF_MEMORY)
        return failed(report, f"{type(error).__name__}: {error}", 1, details=traceback.format_exc())
    report.emit(events.Finished(row.steps, "", 0.0, "measured"))
    report.say(measured_words(row))
    return 0


def fit(chosen: argparse.Namespace) -> int:
    """Print the cheapest changes with which a run fits; exit code 2 where none do."""
    out: Path | None = chosen.out
    if out is not None and out.exists():
        raise UserError("there is such a file already, and it is not overwritten. Choose another name.", str(out))
    preset, plan = planned(chosen)
    if preset is None or plan.model is None or not plan.images:
        raise PresetError(plan.problems)
    found = fit_into(preset, plan, chosen.gb)
    if chosen.json:
        content = {**dataclasses.asdict(found), "values": found.values, "slower": found.slower}
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        print("\n".join(fit_lines(found)))
    if out is not None and found.fits:
        preset.changed(found.values).save(out)
        print(f"Written: {out}", file=sys.stderr if chosen.json else sys.stdout)
    return 0 if found.fits else UserError.exit_code


def fit_into(preset: Preset, plan: Plan, gb: float | None) -> Fit:
    """The cheapest changes for a card of so many GB, or for the card of this machine. Raises UserError without one."""
    card = next(iter(cards()), None)
    if gb is None and card is None:
        raise UserError("no graphics card is found here. Tell how much memory it shall be.", "--gb")
    if gb is not None and not 0 < gb <= 1000:
        raise UserError(f"must be a number of GB from 1 to 1000 (got {gb:g}).", "--gb")
    limit_bytes = round(USABLE * (gb * GIB if gb is not None else card.memory_bytes if card else 0))
    on_card = preset.model_copy(update={"memory": preset.memory.model_copy(update={"device": "cuda"})})
    correction = make_forecast(on_card, plan, read_table(), card).memory_correction
    return find_fit(preset, plan, limit_bytes, correction)
