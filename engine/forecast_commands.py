"""The commands that look ahead: forecast, measure, fit."""

from __future__ import annotations

import argparse
import sys

from engine.commands import planned
from engine.errors import UserError
from engine.forecast import forecast_here
from engine.forecast_words import rows
from engine.sentence import sentence


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
