"""The tool `similarity`: how alike all captions are to the base model's text encoders, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from captioning.caption_similarity import LIMITS, SIMILAR, Features, Likeness, likeness
from captioning.picture_files import listings_of
from engine.atomic import write_text_whole
from engine.data.captions import CaptionIndex, read_caption
from engine.data.folders import Listing, stem_and_suffix
from engine.errors import ModelError, Problem, UserError
from engine.preset import resolve
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.tokenizer import CHUNK_TOKENS, Tokenizers
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Overfitting risk from captions"
ABOUT = "Tells how alike the captions are to both text encoders of the base model; changes no file."

COMPARE, LEAVE = "compare", "leave out"
RESULT_NAME = "similarity.json"
ADVICE = (
    "Say in each caption what is particular to its picture (pose, view, background, light), shorten what all of them "
    "repeat, and leave the rest to the trigger word; else train fewer steps, or the UNet alone."
)
_NAMED = 20


class Settings(ToolSettings):
    folder: str = setting("", "The folder that the images, or folders of images, are in.", "图像文件夹", kind="folder")
    model: str = setting(
        "",
        "The base model whose text encoders read the captions: an SDXL checkpoint, or a folder.",
        "底模",
        label="Base model",
        kind="file",
    )
    extension: str = setting(".txt", "File name ending of the caption files.", "标注扩展名", level="advanced")
    threshold: float = setting(
        SIMILAR,
        "From this cosine on two captions are called highly similar.",
        "高相似阈值",
        ge=0,
        le=1,
        level="expert",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where the encoders compute; auto takes the GPU where one can be used.", "设备", level="advanced"
    )


@dataclass(frozen=True)
class _Captions:
    """The different captions, in how many rows each stands, and which one each row has."""

    facts: ModelFacts
    texts: tuple[str, ...]
    counts: tuple[int, ...]
    of_row: dict[str, int]


def propose(settings: Settings) -> Proposal:
    """One row for each image. Raises UserError, DatasetError or ModelError."""
    facts = _model(settings.model)
    _, listings, unlisted = listings_of(settings.folder)
    read: dict[str, tuple[Path, str]] = {}
    rows: list[Row] = []
    for listing in listings:
        for row, text in _rows(listing, settings.extension):
            rows.append(row)
            if row.action == COMPARE:
                read[row.source] = Path(row.target), text
    if len(read) < 2:
        what = f"has fewer than two captions in {settings.extension} files, so there is nothing to compare."
        raise UserError(f"{what} Caption the images first.", settings.folder)
    texts = tuple(dict.fromkeys(text for _, text in read.values()))
    places = {text: place for place, text in enumerate(texts)}
    of_row = {source: places[text] for source, (_, text) in read.items()}
    counts = tuple(np.bincount([*of_row.values()], minlength=len(texts)).tolist())
    longer = sum(len(tokens) > CHUNK_TOKENS for tokens in Tokenizers.load().tokens(texts))
    warnings = list(unlisted)
    if longer:
        what = f"{counted(longer, 'caption')} longer than {CHUNK_TOKENS} tokens: only the beginning is compared."
        warnings.append(Problem("similarity", what))
    summary = f"{counted(len(read), 'caption')} to compare, {len(texts):,} of them different."
    content = _Captions(facts, texts, counts, of_row)
    return Proposal(tuple(rows), summary, warnings=tuple(warnings), content=content)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    """Encode, compare, tell: a note on each row, warnings for what is beyond a limit, all in similarity.json."""
    captions: _Captions = proposal.content
    encoded = _encode(captions, settings.device, report)
    if encoded is None:
        return
    report.stage("Comparing captions")
    results = {
        encoder: likeness(features, captions.counts, settings.threshold, _NAMED)
        for encoder, features in zip((1, 2), encoded, strict=True)
    }
    sources = _first_sources(captions)
    told = _told(captions, sources, results, settings.threshold)
    write_text_whole(report.journal.path.parent / RESULT_NAME, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    for row in proposal.rows:
        if row.action == COMPARE:
            report.done(row, "done", _note(row.source, captions, sources, results))
        else:
            report.done(row, "kept")
    for encoder, result in results.items():
        if beyond := result.beyond(LIMITS[encoder]):
            report.warn(f"{'; '.join(beyond)}. {ADVICE}", f"text encoder {encoder}")


def _model(text: str) -> ModelFacts:
    if not text:
        raise ModelError("no base model is given. Choose the SDXL checkpoint that you train on.", "model")
    facts = identify(resolve(text))
    if facts.config.text_1 is None:
        raise ModelError("has no first text encoder (it is a refiner). Choose a base model.", text)
    return facts


def _rows(listing: Listing, extension: str) -> list[tuple[Row, str]]:
    index = CaptionIndex(listing.other_files, extension)
    found = []
    for name in listing.images:
        source = str(listing.folder / name)
        caption = index.of(stem_and_suffix(name)[0])
        try:
            text = read_caption(listing.folder / caption).text if caption else ""
        except OSError as error:
            found.append((Row(source, LEAVE, note=f"its caption cannot be read ({error.strerror})"), ""))
            continue
        if text and caption:
            found.append((Row(source, COMPARE, str(listing.folder / caption)), text))
        else:
            found.append((Row(source, LEAVE, note="has no caption"), ""))
    return found


def _encode(captions: _Captions, device: str, report: Report) -> tuple[Features, Features] | None:
    """The features of both encoders; None where a stop was asked for."""
    from captioning.devices import torch_device
    from captioning.text_features import features, load_encoders

    report.stage("Loading the text encoders")
    encoders = load_encoders(captions.facts, torch_device(device))
    report.stage("Encoding captions")
    batches = []
    for batch in features(encoders, captions.texts):
        if report.is_stop_asked():
            return None
        batches.append(batch)
    first, second = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return first, second


def _first_sources(captions: _Captions) -> list[str]:
    """For each different caption the first image that has it."""
    found: dict[int, str] = {}
    for source, place in captions.of_row.items():
        found.setdefault(place, source)
    return [found[place] for place in range(len(captions.texts))]


def _note(source: str, captions: _Captions, sources: Sequence[str], results: dict[int, Likeness]) -> str:
    place = captions.of_row[source]
    others = captions.counts[place] - 1
    notes = [f"{counted(others, 'other image')} with the very same caption"] if others else []
    for encoder, result in results.items():
        pair = result.nearest[place]
        if pair is not None:
            notes.append(f"text encoder {encoder}: {pair.cosine:.3f} to {Path(sources[pair.two]).name}")
    return "; ".join(notes)


def _told(
    captions: _Captions, sources: Sequence[str], results: dict[int, Likeness], threshold: float
) -> dict[str, Any]:
    def pair(encoder: int, place: int) -> dict[str, Any]:
        found = results[encoder].pairs[place]
        return {
            "cosine": round(found.cosine, 6),
            "images": [sources[found.one], sources[found.two]],
            "captions": [captions.texts[found.one], captions.texts[found.two]],
        }

    return {
        "captions": sum(captions.counts),
        "different": len(captions.texts),
        "threshold": threshold,
        "encoders": [
            {
                "encoder": encoder,
                "mean": round(result.mean, 6),
                "similar_share": round(result.similar_share, 6),
                "diversity": round(result.diversity, 6),
                "limits": vars(LIMITS[encoder]),
                "beyond": result.beyond(LIMITS[encoder]),
                "pairs": [pair(encoder, place) for place in range(len(result.pairs))],
            }
            for encoder, result in results.items()
        ],
        "advice": ADVICE if any(result.beyond(LIMITS[encoder]) for encoder, result in results.items()) else "",
    }
