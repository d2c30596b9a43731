"""What happened in a run, as a timeline: begun, changed, paused, saved, sampled, warned, ended … Pure text."""

from __future__ import annotations

from collections.abc import Sequence

from engine import event_log, events
from ui import words
from ui.language import say
from ui.told import retold
from ui.words import escape

TOLD = (
    *(events.Started, events.Changed, events.Paused, events.Continued, events.Saved, events.Sampled),
    *(events.Validated, events.Warned, events.Failed, events.Stopped, events.Finished),
)
_MOST_SHOWN = 200


def belongs(entry: event_log.Entry, before: event_log.Entry | None) -> bool:
    """Whether an event stands in the timeline: of the pictures of one step only the first, of states none."""
    event = entry.event
    if isinstance(event, events.Saved):
        return event.what == "checkpoint"
    if isinstance(event, events.Sampled) and before is not None and isinstance(before.event, events.Sampled):
        return event.step != before.event.step
    return isinstance(event, TOLD)


def timeline(told: Sequence[event_log.Entry]) -> str:
    """The newest first; of very many the newest ones."""
    if not told:
        return ""
    rows = []
    for entry in reversed(told[-_MOST_SHOWN:]):
        kind, text = _words(entry.event)
        when = escape(words.local_time(entry.time))
        rows.append(f'<li class="{entry.event.kind}"><time>{when}</time><b>{escape(kind)}</b> {escape(text)}</li>')
    more = len(told) - _MOST_SHOWN
    note = f'<p class="quiet">{say("{count} earlier ones are not shown.", count=f"{more:,}")}</p>' if more > 0 else ""
    count = f'<span class="legend">{len(told):,}</span>'
    return (
        f'<details class="sheet timeline" data-keep="timeline"><summary>{say("What happened")} {count}</summary>'
        f"<ol>{''.join(rows)}</ol>{note}</details>"
    )


def _words(event: events.Event) -> tuple[str, str]:
    """What happened, and the particulars."""
    at = say("at step {number}", number=f"{getattr(event, 'step', 0):,}")
    if isinstance(event, events.Started):
        on = say("on {device}", device=event.device)
        if not event.from_step:
            return say("Started"), on
        return say("Resumed"), say("after step {number}", number=f"{event.from_step:,}") + ", " + on
    if isinstance(event, events.Changed):
        return say("Changed"), f"{at}: {changed_words(event)}"
    if isinstance(event, events.Paused):
        return say("Paused"), at
    if isinstance(event, events.Continued):
        return say("Went on"), say("after {time}", time=words.duration(event.seconds))
    if isinstance(event, events.Saved):
        return say("Saved"), f"{at}: {event.path.rpartition('/')[2]}"
    if isinstance(event, events.Sampled):
        return say("Sampled"), at if event.step else say("before the first step")
    if isinstance(event, events.Validated):
        loss = "–" if event.loss is None else f"{event.loss:.5f}"
        return say("Validated"), f"{at}: {loss}"
    return _ended(event, at)


def _ended(event: events.Event, at: str) -> tuple[str, str]:
    if isinstance(event, events.Warned):
        return say("Warning"), (f"{words.place(event.where)}: " if event.where else "") + retold(event.message)
    if isinstance(event, events.Failed):
        return say("Failed"), retold(event.message.split("\n", 1)[0])
    if isinstance(event, events.Finished):
        return say("Finished"), at + (f": {event.reason}" if event.reason else "")
    return say("Stopped"), at


def changed_words(event: events.Changed) -> str:
    """What got which value instead of which."""
    if event.what == "prompts":
        return say("other sample prompts")
    if event.what == "rate_factor":
        values = {"before": f"{event.before:g}", "now": f"{event.value:g}"}
        return say("learning rates × {now} (were × {before})", **values)
    return say("{now} steps instead of {before}", now=f"{event.value:,}", before=f"{event.before:,}")
