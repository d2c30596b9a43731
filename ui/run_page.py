"""A run as HTML: what it is doing, its curves, its samples by prompt and step, its checkpoints. Pure text."""

from __future__ import annotations

from engine import events
from engine.plan_sizes import size_text
from engine.run import Status
from ui import failure_page, hardware_view, run_list, validation_view, words
from ui.charts import Line, chart, thinned
from ui.language import say, word
from ui.run_view import RunView
from ui.told import retold
from ui.words import escape

STATE_HEADLINES: dict[Status, str] = {
    "new": word("Not started yet"),
    "running": word("Training"),
    "finished": word("Finished"),
    "stopped": word("Stopped"),
    "failed": word("Failed"),
    "killed": word("Interrupted"),
}


def empty() -> str:
    text = say(
        "Press <b>Start training</b> below. Progress, the loss curve, sample pictures and the finished LoRA appear "
        "here. You may close this page meanwhile: training goes on without it, and the page finds the run again."
    )
    return f'<div class="empty"><h3>{say("No run yet")}</h3><p>{text}</p></div>'


def header(view: RunView | None, state: Status | None) -> str:
    """The one-line status beside the name of the program."""
    if view is None or state is None:
        return f'<span class="status idle">{say("No training is running")}</span>'
    text = escape(f"{view.run.name}: {one_line(view, state)}")
    return f'<a class="status {state}" data-tab="run" href="#run"><i class="dot"></i>{text}</a>'


def one_line(view: RunView, state: Status) -> str:
    """State and progress in a few words."""
    if state != "running":
        return say(STATE_HEADLINES[state]).lower()
    if not view.started or not view.curves.steps:
        return say(view.stage or word("Starting")).lower()
    left = time_left(view)
    done = say("step {number} of {total}", number=f"{view.steps_done:,}", total=f"{view.started.steps:,}")
    return done + (say(", {time} left", time=left) if left else "")


def time_left(view: RunView) -> str:
    seconds = view.seconds_per_step()
    if not view.started or not seconds:
        return ""
    return words.duration((view.started.steps - view.steps_done) * seconds)


def progress(view: RunView, state: Status) -> str:
    """The panel at the top: state, bar, figures, and what to know about how it ended."""
    total = view.started.steps if view.started else 0
    share = min(view.steps_done / total, 1.0) if total else 0.0
    waiting = state == "running" and not view.curves.steps
    headline, detail = _state_text(view, state)
    bar = f'<div class="bar {"waiting" if waiting else ""}"><div style="width:{share * 100:.2f}%"></div></div>'
    return (
        f'<div class="sheet run-state {state}"><div class="headline"><i class="dot"></i><h3>{escape(headline)}</h3>'
        f'<span class="detail">{escape(detail)}</span></div>'
        f"{bar}{_figures(view, state)}{failure_page.panel(view, state)}{_warnings(view)}</div>"
    )


def _state_text(view: RunView, state: Status) -> tuple[str, str]:
    resume_at = say("Resume starts from the beginning.")
    if view.state_step:
        resume_at = say("Resume goes on after step {number}.", number=f"{view.state_step:,}")
    headline, at_step = say(STATE_HEADLINES[state]), say("at step {number}", number=f"{view.steps_done:,}")
    if state == "running":
        asked = [name for name in ("stop", "save", "sample") if (view.run.requests / name).exists()]
        if "stop" in asked:
            return say("Stopping"), say("after the present step; what was learned so far is saved")
        if view.is_paused:
            paused = say("Continue goes on, Stop saves and ends. What else is asked for comes when it goes on.")
            return say("Paused"), f"{at_step}. {paused}"
        if view.run.is_requested("pause"):
            return say("Pausing"), say("after the present step")
        if view.run.is_requested("stop_after_epoch"):
            return headline, say("stops and saves at the end of this epoch")
        if asked:
            return headline, say("saving after the present step") if "save" in asked else say("samples come next")
        if view.end or not view.started or run_list.is_starting(view.run.path):
            return say("Starting"), say("the engine is loading")
        return say(view.stage) or headline, _stage_detail(view)
    if state == "finished":
        seconds = view.end.seconds if isinstance(view.end, events.Finished) else 0.0
        reason = view.end.reason if isinstance(view.end, events.Finished) else ""
        early = say("; ended early: {reason}", reason=reason) if reason else ""
        steps = words.plural(view.steps_done, "step")
        return headline, say("{steps} in {time}", steps=steps, time=words.duration(seconds)) + early
    if state == "stopped":
        return headline, f"{at_step}. {resume_at}"
    if state == "killed":
        ended = say("the engine was ended from outside, or the machine went down,")
        return headline, f"{ended} {at_step}. {resume_at}"
    if state == "failed":
        return headline, at_step if view.steps_done else say("before the first step")
    return headline, say("The engine has not begun. If you pressed Start, the log below says why.")


def _stage_detail(view: RunView) -> str:
    if view.progress:
        return say("{count} of {total}", count=f"{view.progress.done:,}", total=f"{view.progress.total:,}")
    left = time_left(view)
    return say("about {time} left", time=left) if left and view.step else ""


def _figures(view: RunView, state: Status) -> str:
    if not view.started:
        return ""
    steps, epochs, last = view.started.steps, view.started.epochs, view.step
    epoch = last.epoch if last else 0
    of_epochs = say("{count} of {total}", count=f"{epoch:,}", total=f"{epochs:,}")
    figures = [(say("Step"), say("{count} of {total}", count=f"{view.steps_done:,}", total=f"{steps:,}"))]
    figures.append((say("Epoch"), of_epochs if epoch else "–"))
    figures.append((say("Time a step"), f"{view.seconds_per_step():.3g} {say('s')}" if view.curves.steps else "–"))
    if state == "running":
        figures.append((say("Time left"), time_left(view) or "–"))
    loss = view.curves.smoothed[-1] if view.curves.smoothed else None
    figures.append((say("Loss (smoothed)"), "–" if loss is None else f"{loss:.4f}"))
    figures += validation_view.figures(view.validations)
    figures += hardware_view.figures(view.hardware)
    figures.append((say("Memory"), size_text(last.memory_bytes) if last and last.memory_bytes else "–"))
    figures.append((say("Device"), view.started.device))
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f'<dl class="figures">{cells}</dl>'


def _warnings(view: RunView) -> str:
    spilled = hardware_view.spill_note(view.hardware, view.curves.seconds)
    if not view.warnings:
        return spilled
    items = "".join(
        f"<li>{f'<b>{escape(words.place(item.where))}</b> ' if item.where else ''}{escape(retold(item.message))}</li>"
        for item in view.warnings.values()
    )
    count = words.plural(len(view.warnings), "warning")
    return (
        f'{spilled}<details class="warnings" data-keep="warnings"><summary>{count}</summary><ul>{items}</ul></details>'
    )


def curves(view: RunView) -> str:
    """The loss, raw and smoothed, beside learning rates, gradient norm, memory, and the card's use and temperature."""
    lines = view.curves
    if not lines.steps:
        text = say("The loss curve begins with the first step.")
        return f'<div class="sheet"><h4>{say("Loss")}</h4><p class="quiet">{text}</p></div>'
    end = max(view.started.steps if view.started else 0, lines.steps[-1])
    loss = [
        Line(say("loss"), lines.steps, lines.losses, "raw"),
        *validation_view.lines(view.validations),
        Line(say("smoothed"), lines.steps, lines.smoothed, "smooth"),
    ]
    rates = [
        Line(name, lines.steps, line, f"group-{index % 3}") for index, (name, line) in enumerate(lines.rates.items())
    ]
    used = thinned(Line(say("memory"), lines.steps, lines.memory_bytes, "group-0"))
    most_bytes = max(filter(None, used.y), default=0)
    unit, unit_bytes = ("GB", 1e9) if most_bytes >= 1e9 else ("MB", 1e6)
    memory = [Line(say("memory"), used.x, [(value or 0) / unit_bytes for value in used.y], "group-0")]
    legend = f'<span class="key raw">{say("each step")}</span><span class="key smooth">{say("smoothed")}</span>'
    legend += validation_view.legend(view.validations)
    names = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in rates)
    side = _panel(say("Learning rate"), names, chart(rates, end, (420, 132), _short_rate))
    norms = [Line(say("gradient norm"), lines.steps, lines.gradient_norms, "raw")]
    side += _drawn_panel(say("Gradient norm"), "", chart(norms, end, (420, 132), lambda value: f"{value:.3g}"))
    if most_bytes:
        side += _panel(say("Memory"), "", chart(memory, end, (420, 132), lambda value: f"{value:g} {unit}", unit))
    used_card, card_names = hardware_view.drawn(view.hardware, end)
    side += _drawn_panel(say("Graphics card"), card_names, used_card)
    bands = validation_view.bands(view.validations)
    height = 330 if bands else 560  # as high as what stands beside it
    drawn = chart(loss, end, (860, height), lambda value: f"{value:.4g}")
    return (
        '<div class="curves">'
        + _panel(say("Loss"), legend, drawn + bands)
        + f'<div class="side">{side}</div></div>'
    )


def _short_rate(value: float) -> str:
    return words.rate(float(f"{value:.3g}"))


def _drawn_panel(title: str, legend: str, content: str) -> str:
    """A panel, where there is something in it."""
    return _panel(title, legend, content) if content else ""


def _panel(title: str, legend: str, content: str) -> str:
    return f'<div class="sheet"><h4>{escape(title)}<span class="legend">{legend}</span></h4>{content}</div>'
