"""What a training set is like: captions, sizes, buckets, twins, tags; for the page and `check --report`. Torch-free.

Names, sizes, captions and buckets come from the scan and the placement that the run uses. What only the pixels tell
(twins, transparency, files that cannot be decoded) comes from `looks`, and is remembered there by content.
"""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.caption_source import rules_of_images, steady
from engine.data.buckets import Size
from engine.data.caption_draws import CaptionRules, Drawing, draw_caption
from engine.data.looks import Look, Looks
from engine.data.near_same import near_groups
from engine.data.tags import split_tags
from engine.errors import Problem
from engine.plan_images import ImagePlan, Pictures, look_at_images
from engine.preset import Preset, resolve
from engine.sdxl.emphasis import weighted_pieces
from engine.sdxl.tokenizer import Tokenizers

EXTREME_RATIO = 3.0  # long side ÷ short side from which an image is named: SDXL saw few shapes beyond it
MUCH_CUT_SHARE = 0.1  # an image that loses more of its pixels to its bucket is named
NEAR_SAME_BITS = 4  # of 64, in each of both hashes
SIZE_EDGES_MPX = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
CHUNKS_TOKENS = (75, 150, 225)
_TAGS_LISTED = 1000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Note:
    """One file, and what is to be said of it, in a few words for people ("512 × 400 px, enlarged 2.6 times")."""

    path: str
    text: str


@dataclass(frozen=True)
class SubsetReport:
    """One folder. `images` are trained; `shown` is how many an epoch shows (images × repeats).

    captions_found + captions_missing + captions_empty = images + held_out; empty: a file with nothing in it.
    """

    name: str
    folder: str
    is_regularization: bool
    repeats: int
    images: int
    held_out: int
    shown: int
    captions_found: int
    captions_missing: int
    captions_empty: int


@dataclass(frozen=True)
class EncoderReport:
    """How long the captions are for text encoder 1 or 2, trigger word, prefix and suffix counted.

    `longer`: ((75, n), (150, n), (225, n)), how many captions have more tokens than that. `cut`: those longer than
    captions.max_tokens, whose end is not read, with "93 tokens, 75 are read".
    """

    encoder: int
    longest_tokens: int
    longer: tuple[tuple[int, int], ...]
    max_tokens: int
    cut: tuple[Note, ...]


@dataclass(frozen=True)
class BucketReport:
    """A bucket, its images (`shown`: repeats counted), and the share of their pixels (0 to 1) that is cut away."""

    size_px: Size
    images: int
    shown: int
    mean_cut_share: float
    worst_cut_share: float
    worst: str


@dataclass(frozen=True)
class SizeBin:
    """Images from `from_mpx` up to below `to_mpx` million pixels; None: no upper end."""

    from_mpx: float
    to_mpx: float | None
    images: int


@dataclass(frozen=True)
class Twins:
    """Images that are the same to the last byte (`bits` 0 and `is_same_bytes`), or nearly the same picture.

    `bits`: the largest distance of a link between two of them, of 64 (engine/data/near_same.py).
    """

    paths: tuple[str, ...]
    is_same_bytes: bool
    bits: int


@dataclass(frozen=True)
class DataReport:
    """Everything, in lists that are empty where there is nothing to say. All paths are absolute.

    `is_looked_at`: whether the pixels were looked at; else `alpha`, `twins` and decoding faults are unknown, not none.
    `broken`: files that cannot be used, with the reason. `cut_away`: images that lose more than a tenth.
    """

    images: int
    shown: int
    subsets: tuple[SubsetReport, ...]
    captions_missing: tuple[str, ...]
    captions_empty: tuple[str, ...]
    encoders: tuple[EncoderReport, ...]
    broken: tuple[Note, ...]
    enlarged: tuple[Note, ...]
    extreme: tuple[Note, ...]
    alpha: tuple[str, ...]
    twins: tuple[Twins, ...]
    tags: tuple[tuple[str, int], ...]
    tags_in_all: int
    buckets: tuple[BucketReport, ...]
    cut_away: tuple[Note, ...]
    sizes: tuple[SizeBin, ...]
    is_looked_at: bool
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)


def report(preset: Preset, *, look: bool = True, progress: Progress | None = None) -> DataReport:
    """The report of a preset's training, regularization and validation folders.

    look: decode each image that was never seen before (some 30 a second and processor core), and tell what only its
    pixels tell; without, ten thousand images take a second. `progress(done, total)` is told while images are looked
    at; what it raises ends the report, and what was looked at so far is remembered.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    pictures = look_at_images(preset, frozenset(), problems, warnings)
    images = (*pictures.images, *pictures.validation)
    looks: dict[Path, Look] = {}
    if look:
        with Looks(resolve(preset.data.cache_folder)) as memory:
            paths = [image.path for image in images]
            looks = dict(zip(paths, memory.of_all(paths, progress), strict=True))
    broken = [Note(problem.where, problem.message) for found in pictures.scans for problem in found.broken]
    broken += [Note(str(path), seen.fault) for path, seen in looks.items() if seen.fault]
    missing, empty = _uncaptioned(pictures)
    tags = _tags(preset, images)
    return DataReport(
        images=len(pictures.images),
        shown=sum(image.repeats for image in pictures.images),
        subsets=_subsets(pictures, {*missing}, {*empty}),
        captions_missing=tuple(map(str, missing)),
        captions_empty=tuple(map(str, empty)),
        encoders=_encoders(preset, images),
        broken=tuple(broken),
        enlarged=_enlarged(images),
        extreme=_extreme(images),
        alpha=tuple(str(path) for path, seen in looks.items() if seen.has_alpha),
        twins=_twins(looks),
        tags=tuple(tags.most_common(_TAGS_LISTED)),
        tags_in_all=len(tags),
        buckets=_buckets(images),
        cut_away=_cut_away(images),
        sizes=_sizes(images),
        is_looked_at=look,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _uncaptioned(pictures: Pictures) -> tuple[list[Path], list[Path]]:
    """Images without a caption file, and those whose caption file has nothing in it."""
    items = [item for found in pictures.scans for subset in found.subsets for item in subset.items]
    missing = [item.path for item in items if item.caption_name is None]
    return missing, [item.path for item in items if item.caption_name is not None and not item.caption]


def _subsets(pictures: Pictures, missing: set[Path], empty: set[Path]) -> tuple[SubsetReport, ...]:
    shown: Counter[tuple[bool, str]] = Counter()
    for image in pictures.images:
        shown[image.is_regularization, image.subset] += image.repeats
    items = {
        (subset.is_regularization, subset.name): [item.path for item in subset.items]
        for found in pictures.scans
        for subset in found.subsets
    }
    rows = []
    for subset in pictures.subsets:
        key = subset.is_regularization, subset.name
        lacking, blank = (sum(path in paths for path in items[key]) for paths in (missing, empty))
        rows.append(
            SubsetReport(
                name=subset.name,
                folder=str(subset.folder),
                is_regularization=subset.is_regularization,
                repeats=subset.repeats,
                images=subset.images,
                held_out=subset.held_out,
                shown=shown[key],
                captions_found=len(items[key]) - lacking - blank,
                captions_missing=lacking,
                captions_empty=blank,
            )
        )
    return tuple(rows)


def _encoders(preset: Preset, images: Sequence[ImagePlan]) -> tuple[EncoderReport, ...]:
    rules_of, weighted = rules_of_images(preset, 0), preset.captions.weighted
    first = [_text(image, image.caption, steady(rules_of(image))) for image in images]
    tokens = _token_counts(first, weighted)
    reports = [_encoder(1, images, tokens, preset.captions.max_tokens)]
    if any(image.second_caption is not None for image in images):
        texts = [image.caption if image.second_caption is None else image.second_caption for image in images]
        second = [_text(image, text, steady(rules_of(image))) for image, text in zip(images, texts, strict=True)]
        tokens = _token_counts(second, weighted)
    return (*reports, _encoder(2, images, tokens, preset.captions.max_tokens))


def _text(image: ImagePlan, caption: str, rules: CaptionRules) -> str:
    """A caption with all its tags, as training shows it."""
    return draw_caption(caption, rules, Drawing(0, image.key, 0))


def _token_counts(texts: Sequence[str], weighted: bool) -> list[int]:
    """Of each text; equal texts are counted once."""
    tokenizers = Tokenizers.load()
    different = list(dict.fromkeys(texts))
    if weighted:
        counts = [sum(map(len, tokenizers.tokens([part for part, _ in weighted_pieces(text)]))) for text in different]
    else:
        counts = [len(ids) for ids in tokenizers.tokens(different)]
    by_text = dict(zip(different, counts, strict=True))
    return [by_text[text] for text in texts]


def _encoder(number: int, images: Sequence[ImagePlan], tokens: Sequence[int], most: int) -> EncoderReport:
    return EncoderReport(
        encoder=number,
        longest_tokens=max(tokens, default=0),
        longer=tuple((limit, sum(count > limit for count in tokens)) for limit in CHUNKS_TOKENS),
        max_tokens=most,
        cut=tuple(
            Note(str(image.path), f"{count} tokens, {most} are read")
            for image, count in zip(images, tokens, strict=True)
            if count > most
        ),
    )


def _enlarged(images: Sequence[ImagePlan]) -> tuple[Note, ...]:
    """Images smaller than what they are resized to, the smallest first."""
    factors = [(max(r / s for r, s in zip(i.resized_px, i.size_px, strict=True)), i) for i in images]
    found = [(factor, image) for factor, image in factors if min(_growth(image)) > 0]
    found.sort(key=lambda entry: (-entry[0], str(entry[1].path)))
    return tuple(Note(str(i.path), f"{size_words(i.size_px)}, enlarged {factor:.2f} times") for factor, i in found)


def _growth(image: ImagePlan) -> tuple[int, int]:
    return image.resized_px[0] - image.size_px[0], image.resized_px[1] - image.size_px[1]


def _extreme(images: Sequence[ImagePlan]) -> tuple[Note, ...]:
    found = [(max(image.size_px) / min(image.size_px), image) for image in images]
    found = sorted(((r, i) for r, i in found if r > EXTREME_RATIO), key=lambda entry: (-entry[0], str(entry[1].path)))
    return tuple(Note(str(i.path), f"{size_words(i.size_px)}, {ratio:.1f} to 1") for ratio, i in found)


def _twins(looks: dict[Path, Look]) -> tuple[Twins, ...]:
    """First the images of the same bytes, then those that are nearly the same (of each content only one)."""
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    for path, seen in looks.items():
        if seen.digest:
            by_digest[seen.digest].append(str(path))
    different = {seen.digest: seen.print for seen in looks.values() if seen.print is not None}
    groups = near_groups(list(different.values()), NEAR_SAME_BITS)
    names = [by_digest[digest][0] for digest in different]
    same = [Twins(tuple(paths), True, 0) for paths in by_digest.values() if len(paths) > 1]
    return (*same, *(Twins(tuple(names[n] for n in group), False, bits) for group, bits in groups))


def _tags(preset: Preset, images: Sequence[ImagePlan]) -> Counter[str]:
    """In how many captions each tag stands."""
    counts: Counter[str] = Counter()
    for image in images:
        lines = image.caption.splitlines()
        separator = image.value(preset, "captions.separator")
        counts.update({tag for line in lines for tag in split_tags(line, separator)})
    return counts


def _cut_share(image: ImagePlan) -> float:
    """Share of the resized picture that lies outside of its bucket."""
    resized = image.resized_px[0] * image.resized_px[1]
    return 1.0 - image.bucket_px[0] * image.bucket_px[1] / resized


def _buckets(images: Sequence[ImagePlan]) -> tuple[BucketReport, ...]:
    by_size: dict[Size, list[ImagePlan]] = defaultdict(list)
    for image in images:
        by_size[image.bucket_px].append(image)
    rows = []
    for size, members in sorted(by_size.items()):
        shares = [_cut_share(image) for image in members]
        worst = max(range(len(members)), key=shares.__getitem__)
        shown, mean = sum(image.repeats for image in members), sum(shares) / len(shares)
        rows.append(BucketReport(size, len(members), shown, mean, shares[worst], str(members[worst].path)))
    return tuple(rows)


def _cut_away(images: Sequence[ImagePlan]) -> tuple[Note, ...]:
    found = [(_cut_share(image), image) for image in images]
    much = sorted(((s, i) for s, i in found if s > MUCH_CUT_SHARE), key=lambda entry: (-entry[0], str(entry[1].path)))
    return tuple(
        Note(str(i.path), f"{size_words(i.size_px)} in the bucket {size_words(i.bucket_px)}: {share:.0%} is cut away")
        for share, i in much
    )


def _sizes(images: Sequence[ImagePlan]) -> tuple[SizeBin, ...]:
    bins = Counter(bisect_right(SIZE_EDGES_MPX, image.size_px[0] * image.size_px[1] / 1e6) for image in images)
    edges = (0.0, *SIZE_EDGES_MPX, None)
    return tuple(SizeBin(edges[n] or 0.0, edges[n + 1], bins[n]) for n in range(len(edges) - 1))


def size_words(size_px: Size) -> str:
    return f"{size_px[0]} × {size_px[1]}"
