"""The command line: `python -m engine train|extend|check|forecast|measure|fit|sample|draw|import|export|queue|doctor`,
the tools for LoRA files (see engine/lora_tools), and the comparisons (see engine/compare).

Torch is imported where it is needed.

Exit codes: 0 finished or stopped on request, 1 defect, 2 the user's input, 3 out of memory.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from engine import commands, forecast_commands, queue_commands
from engine.compare import COMPARISONS
from engine.drawing import command as drawing_command
from engine.errors import UserError
from engine.lora_tools import TOOLS
from engine.tools import command
from engine.tools.tool import Program

PROGRAM = Program("engine", {**TOOLS, **COMPARISONS})


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        return chosen.command(chosen)
    except UserError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Train LoRAs for SDXL.")
    names = (
        "train",
        "extend",
        "check",
        "forecast",
        "measure",
        "fit",
        "sample",
        "draw",
        "import",
        "export",
        "queue",
        "doctor",
    )
    parts = parser.add_subparsers(required=True, metavar=" | ".join((*names, *command.commands(PROGRAM))))

    train = parts.add_parser("train", help="train from a preset, or resume a run folder")
    _add_preset(train)
    train.add_argument("--run", type=Path, metavar="FOLDER", help="the run folder to make; default: runs/NAME")
    train.set_defaults(command=commands.train)

    extend = parts.add_parser("extend", help="give a run that has ended more epochs, and train on")
    extend.add_argument("target", type=Path, metavar="RUN_FOLDER")
    extend.add_argument("--epochs", type=int, required=True, metavar="N", help="how many epochs more")
    extend.add_argument("--no-start", action="store_true", help="only make it longer; resume it later")
    extend.set_defaults(command=commands.extend)

    check = parts.add_parser("check", help="tell what a preset would do, without doing it")
    _add_preset(check)
    check.add_argument("--report", action="store_true", help="tell what the pictures and captions are like instead")
    check.add_argument("--json", action="store_true", help="print the whole plan, or report, as JSON")
    check.set_defaults(command=commands.check)

    _add_looking_ahead(parts)

    sample = parts.add_parser("sample", help="draw pictures: of a run, of a drawing preset, or with a model")
    sample.add_argument("target", type=Path, metavar="PRESET.json|RUN_FOLDER|MODEL.safetensors")
    _add_settings(sample)
    sample.add_argument("--prompt", action="append", metavar="TEXT", help="instead of the preset's prompts; repeatable")
    sample.add_argument(
        "--lora", action="append", metavar="FILE[=STRENGTH]", help="repeatable; default for a run: its last checkpoint"
    )
    sample.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the pictures go; default: ./samples, of a drawing its own"
    )
    sample.set_defaults(command=commands.sample)

    drawing = parts.add_parser("draw", help="be the process that draws pictures for the page")
    drawing.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="default: Atelier's folder drawing")
    drawing.set_defaults(command=drawing_command.serve)

    importing = parts.add_parser("import", help="turn a preset of kohya_ss, sd-scripts or OneTrainer into ours")
    importing.add_argument("file", type=Path, metavar="FILE", help="a .json, or an sd-scripts .toml")
    importing.add_argument("-o", "--out", type=Path, metavar="PRESET.json", help="the preset to write (no old one)")
    importing.add_argument("--json", action="store_true", help="print what became of each key as JSON")
    importing.set_defaults(command=commands.import_preset)

    exporting = parts.add_parser("export", help="turn a preset into a kohya_ss preset")
    _add_preset(exporting)
    exporting.add_argument("-o", "--out", type=Path, metavar="FILE.json", help="the file to write (no old one)")
    exporting.add_argument("--json", action="store_true", help="print what kohya_ss cannot express as JSON")
    exporting.set_defaults(command=commands.export_preset)

    queue_commands.add_parser(parts, _add_settings)
    command.add_parsers(parts, PROGRAM)

    doctor = parts.add_parser("doctor", help="check this machine and what is installed")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=commands.doctor)
    return parser


def _add_looking_ahead(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    forecast = parts.add_parser("forecast", help="tell what a run would take: steps, time, memory, disk")
    _add_preset(forecast)
    forecast.add_argument("--json", action="store_true", help="print the forecast as JSON")
    forecast.set_defaults(command=forecast_commands.forecast)

    measure = parts.add_parser("measure", help="make three steps at the largest bucket, so that forecasts know")
    _add_preset(measure)
    measure.add_argument("--run", type=Path, metavar="FOLDER", help="an empty folder for events and log, left to you")
    measure.set_defaults(command=forecast_commands.measure)

    fit = parts.add_parser("fit", help="tell the cheapest changes with which a run fits into a card's memory")
    _add_preset(fit)
    fit.add_argument("--gb", type=float, metavar="N", help="memory of the card; default: the card of this machine")
    fit.add_argument("-o", "--out", type=Path, metavar="PRESET.json", help="write the changed preset (no old one)")
    fit.add_argument("--json", action="store_true", help="print the changes as JSON")
    fit.set_defaults(command=forecast_commands.fit)


def _add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, metavar="PRESET.json|RUN_FOLDER")
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", dest="assignments",
        help="change a setting of the preset; repeatable (all of them: docs/settings.md)",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
