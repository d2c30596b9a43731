"""Beam search over any model that gives the next token's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Search(NamedTuple):
    """How words are looked for; `longest` counts the tokens after the start mark, the end mark among them."""

    beams: int
    start: int
    end: int
    longest: int


def beam_search(next_logits: Callable[[torch.Tensor], torch.Tensor], images: int, search: Search) -> list[list[int]]:
    """The sequence of each image that has the best mean log-probability a token; without start and end mark.

    `next_logits` gives for ids [images · beams, length] (an image's beams lie together) the logits [images · beams,
    vocabulary] of the token after each. One beam is greedy search. A beam that ends is put aside and its place given
    to the next best; an image is done with as many ends as beams. Wu et al. 2016 (arXiv 1609.08144), section 7, with
    the length itself as its penalty.
    """
    import torch

    beams, rows = search.beams, torch.arange(images)[:, None]
    ids = torch.full((images, beams, 1), search.start)
    scores = torch.full((images, beams), -torch.inf)
    scores[:, 0] = 0  # all beams are alike at first: only one of them may go on
    ended: list[list[tuple[float, list[int]]]] = [[] for _ in range(images)]
    for length in range(1, search.longest + 1):
        steps = next_logits(ids.flatten(0, 1)).float().cpu().log_softmax(-1).unflatten(0, (images, beams))
        totals, flat = (scores[..., None] + steps).flatten(1).topk(2 * beams)  # enough even if each beam ends
        from_beam, token = flat // steps.shape[-1], flat % steps.shape[-1]
        ends = token == search.end
        for image, rank in (ends[:, :beams] & totals[:, :beams].isfinite()).nonzero().tolist():
            words = ids[image, from_beam[image, rank], 1:].tolist()
            ended[image].append((float(totals[image, rank]) / length, words))
        scores, chosen = totals.masked_fill(ends, -torch.inf).topk(beams)
        ids = torch.cat([ids[rows, from_beam.gather(1, chosen)], token.gather(1, chosen)[..., None]], dim=-1)
        if all(len(found) >= beams for found in ended):
            break
    for image, found in enumerate(ended):  # what the limit cut off counts as it is
        if len(found) < beams:
            found += [(float(scores[image, 0]) / search.longest, ids[image, 0, 1:].tolist())]
    return [max(found, key=lambda pair: pair[0])[1] for found in ended]
