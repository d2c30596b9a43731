"""The data set as HTML: folders with their repeats, buckets, pictures with captions, what is wrong. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import Problem
from engine.plan import Plan
from engine.plan_images import ImagePlan
from engine.preset import BY_PATH
from ui import thumbnails, words
from ui.check import Check
from ui.language import say
from ui.told import retold
from ui.words import escape

PAGE_IMAGES = 48
_MOST_PROBLEMS = 50
_FEW_WARNINGS = 2  # more are folded up
_WAIT_SECONDS = 0.1  # for a page of thumbnails; the sentences beside the fields come with the same answer

_LAYOUT = """training
└── 10_mycat cat
    ├── 001.jpg
    ├── 001.txt     photo of mycat cat on a sofa
    └── 002.png"""


def folders(plan: Plan | None) -> str:
    """The subsets: images × repeats, and how many have captions."""
    if plan is None or not plan.subsets:
        return _how_to()
    rows = []
    for subset in plan.subsets:
        captions = say("{count} of {total}", count=f"{subset.captioned:,}", total=f"{subset.images:,}")
        kind = f'<span class="tag">{say("regularization")}</span>' if subset.is_regularization else ""
        rows.append(
            f'<tr><td title="{escape(subset.folder)}">{escape(subset.folder.name)} {kind}</td>'
            f'<td class="number">{subset.images:,}</td>'
            f'<td class="number">× {subset.repeats:,}</td><td class="number">{subset.images * subset.repeats:,}</td>'
            f"<td>{escape(captions)}</td></tr>"
        )
    heads = (say("Folder"), say("Images"), say("Repeats"), say("Shown per epoch"), say("Captions"))
    head = "".join(f"<th>{name}</th>" for name in heads)
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="sheet"><h4>{say("Folders")}</h4>{table}</div>'


def _how_to() -> str:
    about = say(
        "It holds one folder for each subject. The number before the name tells how often each picture is shown per "
        "epoch; the text file beside a picture is its caption."
    )
    return f'<div class="empty"><h3>{say("Choose a training folder")}</h3><p>{about}</p><pre>{_LAYOUT}</pre></div>'


def buckets(plan: Plan | None) -> str:
    """The buckets with their images and batches as bars, the largest first."""
    if plan is None or not plan.buckets:
        return ""
    most = max(bucket.images for bucket in plan.buckets)
    rows = []
    for bucket in sorted(plan.buckets, key=lambda item: -item.images):
        width, height = bucket.size_px
        scale = 22 / max(width, height)
        shape = f'<i class="shape" style="width:{width * scale:.0f}px;height:{height * scale:.0f}px"></i>'
        rows.append(
            f'<tr><td class="shape-cell">{shape}</td><td>{width} × {height}</td><td class="bar-cell">'
            f'<div class="share" style="width:{bucket.images / most * 100:.1f}%"></div></td>'
            f'<td class="number">{words.plural(bucket.images, "image")}</td>'
            f'<td class="number">{_batches(bucket.batches)}</td></tr>'
        )
    about = say("Pictures are sorted by shape into buckets, scaled and cut to the bucket's size; repeats are counted.")
    return (
        f'<div class="sheet"><h4>{say("Buckets")}</h4><p class="quiet">{about}</p><table class="plain buckets"><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _batches(count: int) -> str:
    return say("1 batch") if count == 1 else say("{count} batches", count=f"{count:,}")


def problem_list(problems: Sequence[Problem], style: str) -> str:
    """Problems or warnings in words; those of a setting lead to its field. `style` is "problem" or "warning"."""
    if not problems:
        return ""
    items = [f"<li>{_place(problem)}{escape(retold(problem.message))}</li>" for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) > _MOST_PROBLEMS:
        items.append(f"<li>{say('and {count} more', count=f'{len(problems) - _MOST_PROBLEMS:,}')}</li>")
    return f'<ul class="notes {style}">{"".join(items)}</ul>'


def notes(check: Check) -> str:
    """What is wrong with the data set: problems first, then warnings."""
    own = [item for item in check.problems if is_about_data(item)]
    warnings = [item for item in check.warnings if is_about_data(item)]
    listed = problem_list(warnings, "warning")
    if len(warnings) > _FEW_WARNINGS:
        summary = words.plural(len(warnings), "warning")
        listed = f'<details class="warnings" data-keep="data-warnings"><summary>{summary}</summary>{listed}</details>'
    return problem_list(own, "problem") + listed


def is_about_data(problem: Problem) -> bool:
    """Whether it belongs to the tab Data set: files and folders, and the settings of data and captions."""
    return problem.where not in BY_PATH or problem.where.split(".")[0] in ("data", "captions")


def gallery(images: Sequence[ImagePlan], first: int) -> str:
    """A page of pictures with their captions, starting at number `first`."""
    shown = images[first : first + PAGE_IMAGES]
    small = thumbnails.soon((image.path for image in shown), _WAIT_SECONDS)
    cards = [_card(image, *of) for image, of in zip(shown, small, strict=True)]
    return f'<div class="pictures">{"".join(cards)}</div>' if cards else ""


def _card(image: ImagePlan, small: Path | None, is_ready: bool) -> str:
    """One picture. page.js asks again for thumbnails that are still being made."""
    nothing = escape(say("no preview"))
    waits = "" if is_ready else f' data-soon="{nothing}"'
    picture = (
        f'<img src="{escape(thumbnails.url(small))}" alt="" loading="lazy"{waits}>'
        if small
        else f'<span class="soon">{nothing}</span>'
    )
    width, height = image.size_px
    size = f'<span class="whole">{width} × {height} → {image.bucket_px[0]} × {image.bucket_px[1]}</span>'
    caption = escape(image.caption) if image.caption else f'<span class="quiet">{say("no caption")}</span>'
    return (
        f'<figure title="{escape(image.path)}"><div class="frame">{picture}</div><figcaption>{caption}'
        f"<small>{escape(image.path.name)} · {size}</small></figcaption></figure>"
    )


def _place(problem: Problem) -> str:
    if not problem.where:
        return ""
    label = escape(words.place(problem.where))
    if problem.where in BY_PATH:
        return f'<a href="#" data-field="{escape(problem.where)}">{label}</a> '
    return f"<b>{label}</b> "
