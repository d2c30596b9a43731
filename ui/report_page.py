"""The report of the data set as HTML: calm tables, bars, and the pictures that are twice there. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.data_report import BucketReport, DataReport, EncoderReport, Note, SizeBin, Twins
from ui import thumbnails
from ui.data_page import problem_list
from ui.language import say, word
from ui.report_job import MOST_OF_TWINS, MOST_TWINS, ReportJob
from ui.words import escape, plural

_MOST_LISTED = 200
_MOST_TAGS = 40


def page(job: ReportJob) -> str:
    """The whole report, as far as it is known."""
    if job.problems:
        return f'<div class="fault">{problem_list(job.problems, "problem")}</div>'
    if job.found is None:
        return _progress(job)
    found = job.found
    if not found.images:
        text = say("Choose a training folder above; the report tells what is in it.")
        return f'<div class="empty"><h3>{say("No images yet")}</h3><p>{text}</p></div>'
    parts = [_folders(found), _sizes(found), _encoders(found), _tags(found), _buckets(found)]
    tables = f'<div class="report">{"".join(parts)}</div>'
    return _progress(job) + _figures(found) + tables + _twins(found, job) + _lists(found)


def _progress(job: ReportJob) -> str:
    if job.is_over:
        return ""
    share = job.done / job.total * 100 if job.total else 0
    detail = say("reading names, sizes and captions")
    if job.total:
        detail = say("{count} of {total}", count=f"{job.done:,}", total=f"{job.total:,}")
    waiting = "" if job.total else "waiting"
    about = say("Each picture is looked at once for what only its pixels tell; the next look is quick.")
    return (
        f'<div class="sheet"><div class="headline"><h3>{say("Looking at the pictures")}</h3>'
        f'<span class="detail">{detail}</span></div><div class="bar {waiting}"><div style="width:{share:.1f}%"></div>'
        f'</div><p class="quiet">{about}</p></div>'
    )


def _figures(found: DataReport) -> str:
    captioned = sum(subset.captions_found for subset in found.subsets)
    cut = max((len(encoder.cut) for encoder in found.encoders), default=0)
    figures = [
        (say("Images"), f"{found.images:,}", ""),
        (say("Shown per epoch"), f"{found.shown:,}", ""),
        (say("With caption"), f"{captioned:,}", ""),
        (say("Without caption"), f"{len(found.captions_missing):,}", "bad" if found.captions_missing else ""),
        (say("Empty captions"), f"{len(found.captions_empty):,}", "bad" if found.captions_empty else ""),
        (say("Captions cut off"), f"{cut:,}", "bad" if cut else ""),
        (say("Unusable files"), f"{len(found.broken):,}", "bad" if found.broken else ""),
        (say("Enlarged"), f"{len(found.enlarged):,}", "bad" if found.enlarged else ""),
    ]
    if found.is_looked_at:
        twice = sum(len(twins.paths) - 1 for twins in found.twins)
        figures.append((say("Twice or nearly so"), f"{twice:,}", "bad" if twice else ""))
    cells = "".join(f'<div><dt>{name}</dt><dd class="{style}">{value}</dd></div>' for name, value, style in figures)
    return f'<div class="sheet"><dl class="figures">{cells}</dl></div>'


def _folders(found: DataReport) -> str:
    rows = []
    for subset in found.subsets:
        kind = f' <span class="tag">{say("regularization")}</span>' if subset.is_regularization else ""
        held = " + " + say("{count} held out", count=f"{subset.held_out:,}") if subset.held_out else ""
        lacking = subset.captions_missing + subset.captions_empty
        rows.append(
            f'<tr><td title="{escape(subset.folder)}">{escape(subset.name)}{kind}</td>'
            f'<td class="number">{subset.images:,}{held}</td><td class="number">× {subset.repeats:,}</td>'
            f'<td class="number">{subset.shown:,}</td><td class="number">{subset.captions_found:,}</td>'
            f'<td class="number {"bad" if lacking else ""}">{lacking:,}</td></tr>'
        )
    head = _heads(say("Folder"), say("Images"), say("Repeats"), say("Shown"), say("Captions"))
    head += f'<th title="{say("no caption file, or an empty one")}">{say("Without")}</th>'
    return _sheet(say("Folders"), _table(head, rows))


def _encoders(found: DataReport) -> str:
    """How long captions are for each text encoder."""
    rows = [_encoder_row(encoder) for encoder in found.encoders]
    over = [say("over {count}", count=count) for count in (75, 150, 225)]
    head = _heads(say("Text encoder"), say("Longest"), *over, say("Cut off"))
    most = found.encoders[0].max_tokens if found.encoders else 75
    about = say("In tokens. Of each caption {count} are read (Training, section Captions).", count=most)
    return _sheet(say("Caption lengths"), _table(head, rows), about)


def _encoder_row(encoder: EncoderReport) -> str:
    longer = "".join(f'<td class="number">{count:,}</td>' for _, count in encoder.longer)
    return (
        f'<tr><td>{encoder.encoder}</td><td class="number">{encoder.longest_tokens:,}</td>{longer}'
        f'<td class="number {"bad" if encoder.cut else ""}">{len(encoder.cut):,}</td></tr>'
    )


def _buckets(found: DataReport) -> str:
    most = max((bucket.shown for bucket in found.buckets), default=1) or 1  # surplus regularization is never shown
    rows = [_bucket_row(bucket, most) for bucket in sorted(found.buckets, key=lambda item: -item.shown)]
    head = f'<th>{say("Size")}</th><th class="bar-cell"></th>' + _heads(say("Shown"), say("Cut away"), say("at most"))
    about = say("How much of the pictures is cut away so that they fit their bucket: the mean, and the worst picture.")
    return _sheet(say("Buckets"), _table(head, rows, "buckets"), about)


def _bucket_row(bucket: BucketReport, most: int) -> str:
    width, height = bucket.size_px
    style = "bad" if bucket.worst_cut_share > 0.1 else ""
    return (
        f'<tr><td class="fixed">{width} × {height}</td><td class="bar-cell"><div class="share" '
        f'style="width:{bucket.shown / most * 100:.1f}%"></div></td><td class="number">{bucket.shown:,}</td>'
        f'<td class="number">{_percent(bucket.mean_cut_share)}</td>'
        f'<td class="number {style}" title="{escape(bucket.worst)}">{_percent(bucket.worst_cut_share)}</td></tr>'
    )


def _percent(share: float) -> str:
    return say("none") if share < 0.0005 else f"{share * 100:.1f} %"


def _sizes(found: DataReport) -> str:
    """A histogram of the pictures' sizes in million pixels."""
    most = max((item.images for item in found.sizes), default=0)
    if not most:
        return ""
    columns = "".join(
        f'<div><b>{item.images or ""}</b><i style="height:{item.images / most * 100:.1f}%"></i>'
        f"<span>{_size_name(item)}</span></div>"
        for item in found.sizes
    )
    about = say("In million pixels; SDXL trains at 1.")
    return _sheet(say("Picture sizes"), f'<div class="columns">{columns}</div>', about)


def _size_name(item: SizeBin) -> str:
    return f"{item.from_mpx:g} +" if item.to_mpx is None else f"{item.from_mpx:g} – {item.to_mpx:g}"


def _tags(found: DataReport) -> str:
    if not found.tags:
        return ""
    most = found.tags[0][1]
    rows = [
        f'<tr><td>{escape(tag)}</td><td class="bar-cell"><div class="share" style="width:{count / most * 100:.1f}%">'
        f'</div></td><td class="number">{count:,}</td></tr>'
        for tag, count in found.tags[:_MOST_TAGS]
    ]
    tags = plural(found.tags_in_all, "different tag")
    about = say("{tags}; what stands between commas counts as one.", tags=tags)
    return _sheet(say("Tags"), f'<div class="tall">{_table("", rows, "buckets")}</div>', about)


def _twins(found: DataReport, job: ReportJob) -> str:
    if not found.twins:
        return ""
    groups = "".join(_twin_group(twins, job) for twins in found.twins[:MOST_TWINS])
    more = len(found.twins) - MOST_TWINS
    left = f'<p class="quiet">{say("and {groups}", groups=plural(more, "more group"))}</p>' if more > 0 else ""
    about = say(
        "The tool Clean up (under Prepare) moves those that are too many to a folder beside; nothing is deleted."
    )
    return f'<div class="sheet"><h4>{say("Twice, or nearly so")}</h4><p class="quiet">{about}</p>{groups}{left}</div>'


def _twin_group(twins: Twins, job: ReportJob) -> str:
    kind = say("the same file") if twins.is_same_bytes else say("nearly the same picture")
    cards = []
    for path in twins.paths[:MOST_OF_TWINS]:
        small = job.small.get(path)
        image = f'<img src="{escape(thumbnails.url(small))}" alt="" loading="lazy">' if small else say("no preview")
        name = escape(Path(path).name)
        cards.append(
            f'<figure title="{escape(path)}"><div class="frame">{image}</div><figcaption>{name}</figcaption></figure>'
        )
    more = len(twins.paths) - MOST_OF_TWINS
    left = f'<p class="quiet">{say("and {count} more", count=f"{more:,}")}</p>' if more > 0 else ""
    return f'<div class="twins"><p class="quiet">{kind}</p><div class="pictures">{"".join(cards)}</div>{left}</div>'


def _lists(found: DataReport) -> str:
    """Files by name, each list closed until it is asked for."""
    plain = [Note(path, "") for path in found.captions_missing]
    cut = [note for encoder in found.encoders for note in encoder.cut]
    lists: list[tuple[str, Sequence[Note]]] = [
        (word("without a caption"), plain),
        (word("with an empty caption"), [Note(path, "") for path in found.captions_empty]),
        (word("with a caption that is cut off"), list({note.path: note for note in cut}.values())),
        (word("that cannot be used"), found.broken),
        (word("smaller than their bucket, so that they are enlarged"), found.enlarged),
        (word("of an extreme shape"), found.extreme),
        (word("that lose more than a tenth to their bucket"), found.cut_away),
        (word("with transparent parts"), [Note(path, "") for path in found.alpha]),
    ]
    shown = [_list(title, notes) for title, notes in lists if notes]
    return f'<div class="sheet lists"><h4>{say("By name")}</h4>{"".join(shown)}</div>' if shown else ""


def _list(title: str, notes: Sequence[Note]) -> str:
    rows = [
        f'<tr><td title="{escape(note.path)}">{escape(Path(note.path).name)}</td><td>{escape(note.text)}</td></tr>'
        for note in notes[:_MOST_LISTED]
    ]
    rest = len(notes) - _MOST_LISTED
    more = f'<p class="quiet">{say("and {count} more", count=f"{rest:,}")}</p>' if rest > 0 else ""
    summary = say("{images} {which}", images=plural(len(notes), "image"), which=say(title))
    return f'<details data-keep="report {title}"><summary>{summary}</summary>{_table("", rows)}{more}</details>'


def _heads(*names: str) -> str:
    return "".join(f"<th>{name}</th>" for name in names)


def _sheet(title: str, content: str, about: str = "") -> str:
    note = f'<p class="quiet">{about}</p>' if about else ""
    return f'<div class="sheet"><h4>{title}</h4>{note}{content}</div>'


def _table(head: str, rows: Sequence[str], style: str = "") -> str:
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<table class="plain {style}">{top}<tbody>{"".join(rows)}</tbody></table>'
