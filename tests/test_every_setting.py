"""Every setting changes what it should in a run of two steps, and nothing else; one that changes none is a defect."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from setting_rows import CARD, DATA, FILES, LOSS, NUMBERS, PLAN, RATES, ROWS, SAMPLES, VALIDATION, WEIGHTS, WORK, Row

from engine import events
from engine.batches import BatchMaker
from engine.latent_source import LatentSource
from engine.memory import choose_device
from engine.plan import make_plan
from engine.preset import SETTINGS, Preset
from engine.run import RunFolder
from engine.sdxl import checkpoint
from engine.steplog import StepLog
from tests.training import events_of, losses_of, small_preset, steps_of, train_here

NUMBERS_FROM_1 = count(1)
BASE: dict[str, Any] = {"run__steps": 2, "run__batch_size": 2, "sample__every_epochs": 0}
TESTS = Path(__file__).parent
Outcome = dict[str, Any]


def write_images(folder: Path, seed: int) -> None:
    """Four pictures, one with transparent parts, with captions that every caption setting finds something in."""
    numbers = np.random.default_rng(seed)
    subset = folder / "2_sks thing"
    subset.mkdir(parents=True)
    for index, (width_px, height_px) in enumerate(((100, 100), (120, 80), (96, 144), (40, 44))):
        pixels = numbers.integers(0, 255, (height_px, width_px, 4), dtype=np.uint8)
        pixels[: height_px // 2, :, 3] = 255
        Image.fromarray(pixels).save(subset / f"{index}.png")
        tags = (
            f"thing {index}, red square, {{big|small}} one ||| wood;;table, (bright:1.5) light; day, blue, white, sky"
        )
        (subset / f"{index}.txt").write_text(f"{tags}\nsecond line {index}")
        (subset / f"{index}.caption").write_text(f"another caption {index}")


def write_masks(folder: Path, white: int) -> None:
    folder.mkdir()
    for index in range(4):
        mask = np.zeros((40, 40), np.uint8)
        mask[:, :white] = 255
        Image.fromarray(mask).save(folder / f"{index}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the rows name."""
    folder = tmp_path_factory.mktemp("settings")
    write_images(folder / "images", 5)
    write_images(folder / "others", 6)
    write_masks(folder / "masks", 10)
    write_masks(folder / "other masks", 30)
    return folder


@pytest.fixture(scope="module", autouse=True)
def models_read_once() -> Iterator[None]:
    """Loading is not what is tested here: each model is read once, and copied."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_unet", "load_vae", "load_text_encoders"):
            patch.setattr(checkpoint, name, reading_once(getattr(checkpoint, name)))
        yield


def reading_once(load: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[str, Any] = {}

    def copied(*asked: Any) -> Any:
        key = repr(asked)
        if key not in kept:
            kept[key] = load(*asked)
        return copy.deepcopy(kept[key])

    return copied


@pytest.fixture(scope="module")
def outcomes(home: Path) -> dict[str, Outcome]:
    """What runs came to, by their values."""
    return {}


def preset_of(home: Path, values: dict[str, Any]) -> Preset:
    """The small preset with these values; `{name}` is a file or folder of that name, `{fresh}` a new one each time."""

    def place(name: re.Match[str]) -> str:
        return str(home / (f"fresh {next(NUMBERS_FROM_1)}" if name[1] == "fresh" else name[1]))

    texts = {path: re.sub(r"\{([\w ]+)\}", place, str(value)) for path, value in values.items()}
    return small_preset(home, **BASE).changed(texts)


def plan_of(preset: Preset) -> dict[str, Any]:
    """The plan without what is only said about it, and without the room on the disks, which others fill too."""
    content = json.loads(make_plan(preset).to_json())
    return {name: part for name, part in content.items() if name not in ("warnings", "disk", "disk_bytes", "rooms")}


def card_of(path: Path) -> dict[str, Any]:
    """What the file tells people, and which facts of training it holds at all."""
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata()
    told = {name: text for name, text in metadata.items() if name.startswith("modelspec.") or "comment" in name}
    for changing in ("modelspec.hash_sha256", "modelspec.date"):
        told.pop(changing, None)
    return {**told, "names": sorted(metadata)}


def run(preset: Preset, home: Path) -> Outcome:
    """Train two steps; all that came of it, by kind."""
    seen: list[Any] = []
    draw = BatchMaker.batches

    def noted(maker: BatchMaker, step: int):
        batches = draw(maker, step)
        for batch in batches:
            values = (batch.latents, batch.noise, batch.input_noise, batch.timesteps, batch.size_ids, batch.weights)
            seen.append([value.tolist() for value in values])
            seen.append([batch.captions, [image.path.name for image in batch.images]])
            seen.append(None if batch.mask is None else batch.mask.tolist())
        return batches

    work: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchMaker, "batches", noted)
        if "fresh" in preset.data.cache_folder:  # else it depends on what an earlier run has cached
            patch.setattr(LatentSource, "_encode", counted(LatentSource._encode, work))
        made = train_here(preset)
    saved_path = made.checkpoints / f"{preset.run.name}.safetensors"
    weights = load_file(sorted(made.state.glob("*"))[-1])
    saved = load_file(saved_path)
    return {
        PLAN: plan_of(preset),
        DATA: seen,
        LOSS: losses_of(made)[0],
        RATES: [step.lr for step in steps_of(made)],
        WEIGHTS: {name: tensor.tolist() for name, tensor in weights.items() if name.startswith("adapter.")},
        SAMPLES: [hashlib.sha256(Image.open(path).tobytes()).hexdigest() for path in sorted(made.samples.iterdir())],
        VALIDATION: [(event.step, event.loss, event.bands) for event in events_of(made, events.Validated)],
        FILES: files_of(made, home, preset),
        NUMBERS: sorted((name, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in saved.items()),
        CARD: card_of(saved_path),
        WORK: work,
    }


def counted(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def called(*words: Any) -> Any:
        calls.append(function.__name__)
        return function(*words)

    return called


def files_of(made: RunFolder, home: Path, preset: Preset) -> list[str]:
    """Where the run and its cache lie, and the names of the run's files."""
    names = sorted(str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file())
    return [re.sub(r"-\d+$", "", str(made.path)), re.sub(r" \d+$", "", preset.data.cache_folder), *names]


def outcome_of(values: dict[str, Any], home: Path, outcomes: dict[str, Outcome]) -> Outcome:
    key = json.dumps(values, sort_keys=True)
    if key not in outcomes:
        outcomes[key] = run(preset_of(home, values), home)
    return outcomes[key]


def test_every_setting_has_a_row():
    assert set(ROWS) == {item.path for item in SETTINGS}


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path, row in ROWS.items() if not row.proof])
def test_a_setting_changes_what_it_should_and_nothing_else(home: Path, outcomes: dict[str, Outcome], path: str):
    row: Row = ROWS[path]
    changed = {**row.needs, path: row.value}
    if row.changes == {PLAN}:
        assert plan_of(preset_of(home, changed)) != plan_of(preset_of(home, row.needs))
        return
    before, after = outcome_of(row.needs, home, outcomes), run(preset_of(home, changed), home)
    changes = {kind for kind in before if before[kind] != after[kind]}
    assert changes - {CARD} == row.changes - {CARD}
    assert CARD in changes or CARD not in row.changes


@pytest.mark.parametrize("path", [path for path, row in ROWS.items() if row.proof])
def test_what_two_steps_cannot_show_another_test_does(path: str):
    file, _, name = ROWS[path].proof.partition("::")
    assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_vae_computes_in_fp32_where_asked(home: Path, monkeypatch: pytest.MonkeyPatch):
    """On a processor that is fast in bf16, where the run's precision would be the VAE's."""
    monkeypatch.setattr("engine.memory.cpu_computes_fast_in", lambda dtype: True)
    asked: list[torch.dtype] = []
    load = checkpoint.load_vae
    monkeypatch.setattr(checkpoint, "load_vae", lambda *words: (asked.append(words[1]), load(*words))[1])
    for precision in ("auto", "fp32"):
        run(preset_of(home, {"memory.precision": "bf16", "memory.vae_precision": precision}), home)
    assert asked == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("there", [True, False])
def test_the_device_is_the_one_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch, there: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    chosen = {asked: choose_device(preset_of(home, {"memory.device": asked})).type for asked in ("auto", "cpu")}
    assert chosen == {"auto": "cuda" if there else "cpu", "cpu": "cpu"}


@pytest.mark.slow
def test_the_threads_are_those_asked_for(home: Path):
    try:
        run(preset_of(home, {"memory.threads": 3}), home)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "reads"), [(1, [1, 1, 1, 1, 1]), (3, [1, 3, 1]), (10, [1, 4])])
def test_losses_are_read_every_so_many_steps(home: Path, monkeypatch: pytest.MonkeyPatch, every: int, reads: list[int]):
    """After the first step, then after as many as are asked for, and what is left at the end."""
    monkeypatch.setattr("engine.steplog.READ_AFTER_SECONDS", 1e9)
    found: list[int] = []
    read = StepLog.read

    def noted(log: StepLog) -> None:
        found.append(len(log.notes))
        read(log)

    monkeypatch.setattr(StepLog, "read", noted)
    run(preset_of(home, {"run.steps": 5, "logging.every_steps": every}), home)
    assert [count for count in found if count] == reads
