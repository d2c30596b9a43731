"""The pictures that a run drew: prompts by steps, to compare, copy from, and star the best. Pure text."""

from __future__ import annotations

from pathlib import Path

from engine import events
from ui import thumbnails
from ui.language import say
from ui.run_view import RunView
from ui.stars import stars
from ui.words import escape

Row = tuple[int, str, int]  # place in the list of prompts, prompt, seed: what makes pictures comparable


def samples(view: RunView) -> tuple[str, str]:
    """The pictures, a row per prompt and a column per step; and a signature that changes when they do."""
    if not view.samples:
        text = say("Pictures appear here when the preset holds sample prompts (Training, section Sample).")
        return f'<div class="sheet"><h4>{say("Samples")}</h4><p class="quiet">{text}</p></div>', "none"
    steps = sorted({step for step, _ in view.samples})
    rows: dict[Row, dict[int, events.Sampled]] = {}
    for (step, index), item in sorted(view.samples.items()):
        rows.setdefault((index, item.prompt, item.seed), {})[step] = item
    starred = stars(view.run)
    drawn, signature = [], [*sorted(starred)]
    for row in sorted(rows, key=lambda row: row[0]):
        cells = []
        for step in steps:
            item = rows[row].get(step)
            picture = view.run.path / item.path if item else None
            small = thumbnails.if_ready(picture) if picture else None
            signature.append(thumbnails.url(small) if small else "-" if item is None else "soon")
            cells.append(f"<td>{_picture(item, picture, small, starred)}</td>")
        drawn.append(f"<tr>{_head(row, len(rows[row]))}{''.join(cells)}</tr>")
    head = "".join(f"<th>{step_name(step)}</th>" for step in steps)
    top = f"<thead><tr><th>{say('Prompt')}</th>{head}</tr></thead>"
    table = f'<table class="samples">{top}<tbody>{"".join(drawn)}</tbody></table>'
    shown = f'<div class="sheet"><h4>{say("Samples")}</h4><div class="scroll" data-follow="end">{table}</div></div>'
    return shown, "|".join(signature)


def step_name(step: int) -> str:
    return say("step {number}", number=f"{step:,}") if step else say("before")


def copy_button(text: object, title: str) -> str:
    """A button that puts a text into the clipboard."""
    return f'<button type="button" class="small" data-copy="{escape(text)}">{escape(title)}</button>'


def _head(row: Row, pictures: int) -> str:
    """A row's prompt, with what can be done with it."""
    _, prompt, seed = row
    compare = f'<button type="button" class="small" data-compare>{say("Compare")}</button>' if pictures > 1 else ""
    buttons = copy_button(prompt, say("Copy prompt")) + copy_button(seed, say("Copy seed")) + compare
    text = escape(prompt)
    return f'<th scope="row" title="{text}"><span>{text}</span><div class="row-buttons">{buttons}</div></th>'


def _picture(item: events.Sampled | None, picture: Path | None, small: Path | None, starred: frozenset[str]) -> str:
    if item is None:
        return ""
    if picture is None or small is None:
        return '<span class="soon">…</span>'
    about = escape(say("{prompt} · step {step} · seed {seed}", prompt=item.prompt, step=item.step, seed=item.seed))
    is_star = item.path in starred
    star = (
        f'<button type="button" class="star" data-star="{escape(item.path)}" aria-pressed="{str(is_star).lower()}" '
        f'title="{escape(say("Star the best"))}">{"★" if is_star else "☆"}</button>'
    )
    name = escape(step_name(item.step))
    return (
        f'<div class="drawn-picture"><a class="picture" href="{escape(thumbnails.url(picture))}" target="_blank" '
        f'data-full="{about}" data-step="{name}">'
        f'<img src="{escape(thumbnails.url(small))}" alt="{about}" loading="lazy"></a>{star}</div>'
    )
