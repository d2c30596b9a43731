"""In which order images are trained: repeats, batches, regularization images, and epochs against steps.

Everything is a function of its arguments: epoch 7 of seed 42 has the same batches in a fresh run and in a resumed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.buckets import Size
from engine.draws import permutation


@dataclass(frozen=True)
class Entry:
    """One image as the order sees it: its bucket and how often it is drawn in an epoch (0: never)."""

    bucket_px: Size
    repeats: int


Batch = tuple[int, ...]


def epoch_batches(entries: Sequence[Entry], batch_size: int, seed: int, epoch: int) -> list[Batch]:
    """The batches of one epoch as indices into `entries`: of one bucket each, the last of a bucket may be short."""
    members: dict[Size, list[int]] = {}
    for index, entry in enumerate(entries):
        members.setdefault(entry.bucket_px, []).extend([index] * entry.repeats)
    batches: list[Batch] = []
    for bucket_px, indices in sorted(members.items()):
        order = permutation(len(indices), "within bucket", seed, epoch, *bucket_px)
        shuffled = [indices[position] for position in order]
        batches += [tuple(shuffled[at : at + batch_size]) for at in range(0, len(shuffled), batch_size)]
    return [batches[position] for position in permutation(len(batches), "batches", seed, epoch)]


def batch_counts(entries: Sequence[Entry], batch_size: int) -> dict[Size, tuple[int, int]]:
    """Per bucket, in ascending order: how many images (repeats counted) and how many batches an epoch holds."""
    images: dict[Size, int] = {}
    for entry in entries:
        images[entry.bucket_px] = images.get(entry.bucket_px, 0) + entry.repeats
    return {size: (count, -(-count // batch_size)) for size, count in sorted(images.items()) if count}


def regularization_repeats(train_images: int, repeats: Sequence[int]) -> tuple[int, ...]:
    """How often each regularization image is drawn per epoch, so that they match `train_images` (repeats counted).

    The images are taken in order with their own repeats until the count is reached; when all are used and it is not,
    each gets one more in turn, round after round. 0 means surplus: the image is not used.
    """
    used = [0] * len(repeats)
    total = 0
    for index, count in enumerate(repeats):
        if total >= train_images:
            return tuple(used)
        used[index] = count
        total += count
    rounds, rest = divmod(max(0, train_images - total), len(repeats)) if repeats else (0, 0)
    return tuple(count + rounds + (index < rest) for index, count in enumerate(used))


def steps_per_epoch(batches: int, accumulation: int) -> int:
    """Optimizer updates per epoch: `accumulation` batches each, the last with what is left."""
    return -(-batches // accumulation)


def steps_for_epochs(epochs: int, batches: int, accumulation: int) -> int:
    """Updates in `epochs` whole epochs."""
    return epochs * steps_per_epoch(batches, accumulation)


def epochs_for_steps(steps: int, batches: int, accumulation: int) -> int:
    """Epochs begun (the last may be cut short) when `steps` updates are made."""
    return -(-steps // steps_per_epoch(batches, accumulation))


def step_batches(batches: Sequence[Batch], accumulation: int) -> list[tuple[Batch, ...]]:
    """The batches of an epoch grouped by update; the last group may be short."""
    return [tuple(batches[at : at + accumulation]) for at in range(0, len(batches), accumulation)]


def epoch_steps(
    entries: Sequence[Entry], batch_size: int, accumulation: int, seed: int, epoch: int
) -> list[tuple[Batch, ...]]:
    """The batches of one epoch, update by update."""
    return step_batches(epoch_batches(entries, batch_size, seed, epoch), accumulation)


def showings(groups: Sequence[Sequence[Batch]]) -> list[tuple[Batch, ...]]:
    """In the place of each image of an epoch: how often it was shown before in this epoch."""
    counts: dict[int, int] = {}

    def number(index: int) -> int:
        counts[index] = counts.get(index, -1) + 1
        return counts[index]

    return [tuple(tuple(number(index) for index in batch) for batch in group) for group in groups]
