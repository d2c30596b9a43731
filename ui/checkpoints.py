"""The files that a run saved: to fetch, to draw samples with once more, to train on from. Pure text but for `draw`."""

from __future__ import annotations

from pathlib import Path

from engine import events
from engine import queue as queues
from engine.errors import UserError
from engine.plan_sizes import size_text
from engine.preset import load
from engine.prompts import parse_prompts
from engine.run import RunFolder
from launchers.worker import start_worker
from ui import served, thumbnails, words
from ui.gallery_view import copy_button, step_name
from ui.language import say, word
from ui.run_view import RunView
from ui.told import fault
from ui.words import escape

_DRAWN = "drawn"  # in the run's folder: a folder for each checkpoint that was drawn with once more
_MOST_SHOWN = 60
_COMPARE = word("Open them on the tab Compare: one prompt with each of them")


def panel(view: RunView) -> str:
    """The checkpoints, the newest first, and what was drawn with them later."""
    rows = []
    for path, entry in view.checkpoints():
        event = entry.event
        assert isinstance(event, events.Saved)
        name = escape(path.name)
        does = f'<a href="{escape(thumbnails.url(path))}" download="{name}">{say("Download")}</a> '
        does += copy_button(path, say("Copy path"))
        does += _button("draw", path.name, say("Draw samples"), say("Draw this run's prompts with it once more"))
        does += _button("sample", path, say("Sample with it"), say("Open it on the tab Sample, with another prompt"))
        does += _button(
            "go-on", path, say("Train on from it"), say("Put it into the form, as what training begins with")
        )
        rows.append(
            f'<tr><td>{name}</td><td class="fixed">{step_name(event.step)}</td>'
            f'<td class="fixed">{size_text(event.size_bytes)}</td>'
            f'<td class="fixed">{escape(words.local_time(entry.time))}</td>'
            f'<td class="fixed"><span class="row-buttons">{does}</span></td></tr>'
        )
    if not rows:
        text = say("Checkpoints are the LoRA files to use elsewhere; the first appears when it is saved.")
        return f'<div class="sheet"><h4>{say("Checkpoints")}</h4><p class="quiet">{text}</p></div>'
    where = f'<p class="quiet">{say("In {folder}", folder=f"<code>{escape(view.run.checkpoints)}</code>")}</p>'
    table = f'<div class="scroll"><table class="plain"><tbody>{"".join(rows)}</tbody></table></div>'
    head = say("Checkpoints") + _button("compare-run", view.run.path, say("Compare checkpoints"), say(_COMPARE))
    return f'<div class="sheet"><h4>{head}</h4>{table}{where}{_drawn_later(view.run)}</div>'


def _button(name: str, value: object, text: str, title: str) -> str:
    about = f'data-{name}="{escape(value)}" title="{escape(title)}"'
    return f'<button type="button" class="small" {about}>{escape(text)}</button>'


def _drawn_later(run: RunFolder) -> str:
    """The pictures that were asked for after training, by checkpoint."""
    folder = run.path / _DRAWN
    if not folder.is_dir():
        return ""
    served.allow(folder)
    rows = []
    for checkpoint in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures = sorted(path for path in checkpoint.iterdir() if path.suffix == ".png")[-_MOST_SHOWN:]
        drawn = "".join(_picture(checkpoint.name, path) for path in pictures if served.lies_in(path, folder))
        rows.append(
            f"<tr><th>{escape(checkpoint.name)}</th><td>{drawn or say('waits in the queue, or is drawn now')}</td></tr>"
        )
    title = f"<h5>{say('Drawn later')}</h5>"
    return f'{title}<div class="scroll"><table class="samples later"><tbody>{"".join(rows)}</tbody></table></div>'


def _picture(checkpoint: str, path: Path) -> str:
    small = thumbnails.if_ready(path)
    if small is None:
        return '<span class="soon">…</span>'
    about = escape(f"{checkpoint} · {path.stem}")
    return (
        f'<a class="picture" href="{escape(thumbnails.url(path))}" target="_blank" data-full="{about}">'
        f'<img src="{escape(thumbnails.url(small))}" alt="{about}" loading="lazy"></a>'
    )


def draw(view: RunView, name: str) -> str:
    """Put the drawing of the run's prompts with a checkpoint into the queue; what is in the way, or "".

    It is drawn as soon as the device is free; while training goes on, that is after it.
    """
    path = next((path for path, _ in view.checkpoints() if path.name == name), None)
    if path is None:
        return say("There is no such checkpoint any more.")
    try:
        if not parse_prompts(load(view.run.preset).sample)[0]:
            return say("This run has no sample prompts, so there is nothing to draw.")
        folder = view.run.path / _DRAWN / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        arguments = [str(view.run.path), "--lora", f"{path}=1", "--out", str(folder)]
        queues.queue().add(queues.of_sampling(arguments, folder))
        start_worker()
    except UserError as error:
        return fault(error)
    except OSError as error:
        return say("cannot be written ({reason}).", reason=error.strerror or "")
    return ""
