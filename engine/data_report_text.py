"""The report of a training set in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.data_report import EXTREME_RATIO, MUCH_CUT_SHARE, DataReport, EncoderReport, Note, SizeBin, size_words

_NAMED = 10
_TAGS = 20


def words(report: DataReport) -> str:
    """Several lines: counts first, then what is worth a look, each with the first names."""
    images = f"{report.images:,} image{'s' * (report.images != 1)}"
    parts = [
        f"{images}, {report.shown:,} shown per epoch",
        *_subset_lines(report),
        *_caption_lines(report),
        *_named("Files that cannot be used", report.broken),
        *_named("Smaller than their bucket, so they are enlarged", report.enlarged),
        *_named(f"Longer than {EXTREME_RATIO:g} to 1", report.extreme),
        *_named(f"More than {MUCH_CUT_SHARE:.0%} of the pixels are cut away", report.cut_away),
        *_named("With transparent pixels", [Note(path, "") for path in report.alpha]),
        *_twin_lines(report),
        *_bucket_lines(report),
        "Sizes: " + ", ".join(f"{_range(bin)}: {bin.images:,}" for bin in report.sizes if bin.images),
        *_tag_lines(report),
    ]
    if not report.is_looked_at:
        parts.append("The pixels were not looked at: transparency, twins and damaged files are not known.")
    return "\n".join(parts)


def _subset_lines(report: DataReport) -> Iterator[str]:
    for subset in report.subsets:
        kind = " (regularization)" if subset.is_regularization else ""
        held = f", {subset.held_out:,} held out" if subset.held_out else ""
        missing = f", {subset.captions_missing:,} missing" if subset.captions_missing else ""
        empty = f", {subset.captions_empty:,} empty" if subset.captions_empty else ""
        yield (
            f"  {subset.name}{kind}: {subset.images:,} × {subset.repeats:,} = {subset.shown:,}{held}; "
            f"captions: {subset.captions_found:,} found{missing}{empty}"
        )


def _caption_lines(report: DataReport) -> Iterator[str]:
    yield from _named("Without a caption file", [Note(path, "") for path in report.captions_missing])
    yield from _named("With an empty caption file", [Note(path, "") for path in report.captions_empty])
    first, second = report.encoders
    same = _lengths(first) == _lengths(second)
    for encoder in (first,) if same else report.encoders:
        who = "both text encoders" if same else f"text encoder {encoder.encoder}"
        longer = ", ".join(f"{count:,} above {limit}" for limit, count in encoder.longer)
        yield f"Tokens for {who}: {encoder.longest_tokens:,} at most; {longer}"
        yield from _named("Captions that are cut", encoder.cut)


def _lengths(encoder: EncoderReport) -> tuple[object, ...]:
    """Everything but the encoder's number."""
    return encoder.longest_tokens, encoder.longer, encoder.max_tokens, encoder.cut


def _twin_lines(report: DataReport) -> Iterator[str]:
    for title, same in (("The same file more than once", True), ("Nearly the same picture", False)):
        groups = [twins for twins in report.twins if twins.is_same_bytes == same]
        yield from _named(title, [Note(" = ".join(twins.paths), "") for twins in groups])


def _bucket_lines(report: DataReport) -> Iterator[str]:
    if report.buckets:
        yield "Buckets (images, share cut away on average):"
    for bucket in report.buckets:
        yield f"  {size_words(bucket.size_px)}: {bucket.images:,}, {bucket.mean_cut_share:.1%}"


def _tag_lines(report: DataReport) -> Iterator[str]:
    if report.tags:
        most = ", ".join(f"{tag} ({count:,})" for tag, count in report.tags[:_TAGS])
        yield f"Tags: {report.tags_in_all:,} different; most frequent: {most}"


def _range(bin: SizeBin) -> str:
    if bin.to_mpx is None:
        return f"{bin.from_mpx:g} megapixels and more"
    return f"{bin.from_mpx:g} to {bin.to_mpx:g} megapixels"


def _named(title: str, notes: Sequence[Note]) -> Iterator[str]:
    if not notes:
        return
    yield f"{title}: {len(notes):,}"
    for note in notes[:_NAMED]:
        yield f"  {note.path}" + (f" ({note.text})" if note.text else "")
    if len(notes) > _NAMED:
        yield f"  and {len(notes) - _NAMED:,} more"
