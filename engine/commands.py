"""What each command does. Torch is imported inside the commands that compute."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path

from engine import events, processes, run
from engine.atomic import write_text_whole
from engine.drawing.command import is_for_drawing
from engine.drawing.command import sample as sample_drawing
from engine.drawing.room import make_room
from engine.errors import PresetError, Problem, UserError
from engine.forecast import forecast_here
from engine.forecast_words import beside
from engine.inputs import with_kept
from engine.measured import note_run
from engine.plan import Plan, make_plan
from engine.preset import Preset, load, parse_assignments
from engine.processes import Processes
from engine.read_ahead import read_ahead
from engine.report import Reporter, SilentReporter
from engine.run import RunFolder
from engine.sentence import sentence

OUT_OF_MEMORY = 3


def train(chosen: argparse.Namespace) -> int:
    """Make a run of a preset, or take up a run folder, and train."""
    here = processes.join()
    try:
        if not here.is_first:
            folder, preset = run.open_run(Path(here.tell(None)))
            return _train(folder, preset, SilentReporter(folder), here)
        folder, preset = _run_of(chosen)
        with run.held(folder):
            folder.forget_old_requests()
            preset = _shared_between(preset, here.count, chosen.target.is_dir())
            if chosen.assignments or here.count > 1:
                preset.save(folder.preset)
            here.tell(str(folder.path))
            try:
                return _train(folder, preset, Reporter(folder), here)
            finally:
                folder.forget_requests()
    finally:
        processes.leave()


def extend(chosen: argparse.Namespace) -> int:
    """Give a run more epochs, say what that means, and train on."""
    if processes.count_started() > 1:
        what = "is done by one process. Start it without a launcher, with --no-start, then resume the run on all GPUs."
        raise UserError(what, "extend")
    from engine.extend import extend as lengthen

    made = lengthen(chosen.target, chosen.epochs)
    print(made.sentence, flush=True)
    if chosen.no_start:
        return 0
    return train(argparse.Namespace(target=made.run.path, assignments=[], run=None))


def _shared_between(preset: Preset, count: int, resumed: bool) -> Preset:
    """A new run is made for as many GPUs as processes were started. A resumed one keeps its number, whatever it is now
    computed by, and so goes on as it would have."""
    if count <= preset.run.gpus:
        return preset
    if resumed:
        what = f"the run was begun for {preset.run.gpus}, so more processes have nothing to do (got {count})."
        raise UserError(f"{what} Start at most {preset.run.gpus}.", "run.gpus")
    return preset.changed({"run.gpus": count})


def _run_of(chosen: argparse.Namespace) -> tuple[RunFolder, Preset]:
    """The run folder to work in and its preset; a preset that cannot be trained leaves no folder behind."""
    if chosen.target.is_dir():
        if chosen.run is not None:
            raise UserError("is for presets: a run folder is resumed where it is. Leave it out.", "--run")
        return run.open_run(chosen.target)[0], preset_of(chosen)
    preset, plan = planned(chosen, chosen.run)
    if preset is None or plan.problems:
        for warning in plan.warnings:
            print(f"Warning: {warning}", file=sys.stderr)
        raise PresetError(plan.problems)
    return run.create(preset, chosen.run.resolve() if chosen.run else None), preset


def preset_of(chosen: argparse.Namespace) -> Preset:
    """The preset of a file or run folder with the changes of `--set`."""
    preset = run.open_run(chosen.target)[1] if chosen.target.is_dir() else load(chosen.target)
    assignments = parse_assignments(chosen.assignments)
    return preset.changed(assignments) if assignments else preset


def planned(chosen: argparse.Namespace, run_folder: Path | None = None) -> tuple[Preset | None, Plan]:
    """Preset and plan. None where the preset has faults: the plan then names them beside what else is wrong."""
    try:
        preset = preset_of(chosen)
    except PresetError as error:
        if error.rest is None:
            raise
        plan = make_plan(error.rest, run_folder=run_folder)
        told = {problem.where for problem in error.problems}
        others = [problem for problem in plan.problems if problem.where not in told]
        return None, dataclasses.replace(plan, problems=(*error.problems, *others))
    return preset, make_plan(_with_kept(preset, chosen), run_folder=run_folder)


def _with_kept(preset: Preset, chosen: argparse.Namespace) -> Preset:
    """A run folder may have kept the adapter files that its preset names."""
    return with_kept(preset, RunFolder(chosen.target.resolve())) if chosen.target.is_dir() else preset


def _train(folder: RunFolder, preset: Preset, report: Reporter, here: Processes) -> int:
    """Train, and turn everything that goes wrong into a `failed` event and an exit code."""
    read_ahead(preset.model.base)
    if here.is_first:
        make_room()
    try:
        from engine.memory import advice, is_out_of_memory
        from engine.state import list_states, step_of_state
        from engine.stopping import StopAsked, Stopping
        from engine.train import train as train_run
    except (ImportError, OSError, RuntimeError) as error:  # a package is missing or broken; the page tells what to do
        return failed(report, f"{type(error).__name__}: {error}", 1, details=traceback.format_exc())

    stopping = Stopping()
    stopping.listen()
    try:
        train_run(preset, report, stopping, here)
    except StopAsked:
        states = list_states(folder.state)
        report.emit(events.Stopped(step_of_state(states[0]) if states else 0))
        report.say("Stopped before training went on.")
    except UserError as error:
        code = failed(report, str(error), error.exit_code, problems=error.problems)
        if list_states(folder.state):
            report.say(f"When that is mended, it goes on from the last saved step: ./train.sh {folder.path}")
        return code
    except KeyboardInterrupt:
        return failed(report, "interrupted twice; what was saved before is whole.", 1)
    except BaseException as error:
        if is_out_of_memory(error):
            report.say(f"{type(error).__name__}: {error}")  # torch names who else holds the card's memory
            return failed(report, advice(preset, report.stage_name), OUT_OF_MEMORY)
        return failed(report, f"{type(error).__name__}: {error}", 1, details=traceback.format_exc())
    if here.is_first:
        _note_measured(folder, preset, report)
    return 0


def _note_measured(folder: RunFolder, preset: Preset, report: Reporter) -> None:
    """Keep what the run measured for forecasts to come; a table that cannot be written spoils no run."""
    try:
        note_run(folder, preset)
    except UserError as error:
        report.say(f"Not kept for forecasts of time: {error}")


def failed(
    report: Reporter, message: str, exit_code: int, problems: tuple[Problem, ...] = (), details: str = ""
) -> int:
    listed = [{"where": problem.where, "message": problem.message} for problem in problems]
    report.emit(events.Failed(message, exit_code, details, listed))
    report.complain(details or message)
    return exit_code


def check(chosen: argparse.Namespace) -> int:
    """Print the plan, or the report of the training set; exit code 2 if something stands in its way."""
    if chosen.report:
        return _report_data(chosen)
    preset, plan = planned(chosen)
    if chosen.json:
        print(plan.to_json())
    else:
        if preset is not None and plan.steps:
            forecast = forecast_here(preset, plan)
            print(sentence(preset, plan, forecast))
            print(beside(plan, forecast))
        for warning in plan.warnings:
            print(f"Warning: {warning}")
        for problem in plan.problems:
            print(problem, file=sys.stderr)
        print("This cannot be trained yet." if plan.problems else "Nothing stands in the way.")
    if chosen.target.is_dir() and not RunFolder(chosen.target).is_running():
        write_text_whole(RunFolder(chosen.target).plan, plan.to_json() + "\n")
    return UserError.exit_code if plan.problems else 0


def _report_data(chosen: argparse.Namespace) -> int:
    from engine.data_report import report
    from engine.data_report_text import words

    found = report(preset_of(chosen), progress=_show_progress)
    if chosen.json:
        print(found.to_json())
    else:
        print(words(found))
        for warning in found.warnings:
            print(f"Warning: {warning}")
        for problem in found.problems:
            print(problem, file=sys.stderr)
    return UserError.exit_code if found.problems else 0


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done == total or done % 50 == 0):
        print(f"\r{done:,} of {total:,} images", end="\n" if done == total else "", file=sys.stderr, flush=True)


STOPPED = "Stopped on request."  # the last line of a drawing that did not get to its end


def sample(chosen: argparse.Namespace) -> int:
    """Draw the prompts of a preset or those given, with LoRAs; a drawing preset's or a model's pictures."""
    if is_for_drawing(chosen.target):
        return sample_drawing(chosen)
    from engine.draw import draw_pictures

    preset = _with_kept(preset_of(chosen), chosen)
    if chosen.prompt:
        preset = preset.changed({"sample.prompts": "\n".join(chosen.prompt)})
    loras = [_lora(text) for text in chosen.lora or ()]
    if chosen.lora is None and chosen.target.is_dir():
        last = RunFolder(chosen.target.resolve()).last_checkpoint()
        loras = [(last, 1.0)] if last else []
    out = chosen.out or Path("samples")
    for path in draw_pictures(preset, loras, out):
        print(path, flush=True)
        if (asked := out / "requests" / "stop").exists():
            asked.unlink(missing_ok=True)
            print(STOPPED)
            break
    return 0


def import_preset(chosen: argparse.Namespace) -> int:
    """Read another trainer's preset, write ours, and tell what became of each key; exit code 2 if it has faults."""
    from engine.kohya import read

    out: Path | None = chosen.out
    if out is not None and out.exists():
        raise UserError("there is such a file already, and it is not overwritten. Choose another name.", str(out))
    found = read(chosen.file)
    written = found.preset is not None and out is not None
    if found.preset is not None and out is not None:
        found.preset.save(out)
    if chosen.json:
        problems = [dataclasses.asdict(problem) for problem in found.problems]
        told = {"file": str(chosen.file), "preset": str(out) if written else None, **found.receipt.to_dict()}
        print(json.dumps({**told, "problems": problems}, ensure_ascii=False, indent=2))
    else:
        print(found.receipt.text())
        if written:
            print(f"\nWritten: {out}")
    for problem in found.problems:
        print(problem, file=sys.stderr)
    return UserError.exit_code if found.problems else 0


def export_preset(chosen: argparse.Namespace) -> int:
    """Write a preset as a kohya_ss file, and tell what that program cannot express."""
    from engine.kohya import export

    out: Path | None = chosen.out
    if out is not None and out.exists():
        raise UserError("there is such a file already, and it is not overwritten. Choose another name.", str(out))
    made = export(preset_of(chosen))
    if out is not None:
        write_text_whole(out, json.dumps(made.content, ensure_ascii=False, indent=2) + "\n")
    if chosen.json:
        told = {"file": str(chosen.target), "written": str(out) if out else None, **made.to_dict()}
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        print(made.text())
        if out is not None:
            print(f"\nWritten: {out}")
    return 0


def doctor(chosen: argparse.Namespace) -> int:
    """Check the machine."""
    from engine.doctor import main as examine

    return examine(["--json"] if chosen.json else [])


def _lora(text: str) -> tuple[Path, float]:
    name, mark, strength = text.rpartition("=")
    if not mark:
        return Path(text), 1.0
    try:
        return Path(name), float(strength)
    except ValueError:
        raise UserError(f"the strength must be a number (got {strength!r}).", f"--lora {text}") from None


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # whatever a library would like to look up: Atelier needs no network
os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
