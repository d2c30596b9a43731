"""Where the weights of a part lie, faults of single tensors, and the digest of a part."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from loaded_model import CPU, METADATA, STORED, Model, vae_tensors, write
from model_headers import write_sparse
from safetensors.torch import save_file

from engine.errors import ModelError
from engine.sdxl import keys, parts
from engine.sdxl.checkpoint import (
    load_text_encoders,
    load_unet,
    load_vae,
    part_digest,
)
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.parts import Part, digest_ahead, local_tensors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"middle_block.1.transformer_blocks.1.attn2.to_k.weight": None}, "lacks 1 tensor in its UNet: middle_block"),
        ({"out.0.bias": None, "out.0.weight": None}, "lacks 2 tensors in its UNet"),
        ({"out.0.scale": (32,)}, "holds 1 tensor in its UNet that SDXL does not have: out.0.scale"),
        ({"out.0.bias": (33,)}, "conv_norm_out.bias \\[33\\]"),
    ],
)
def test_single_faults_are_named(tmp_path: Path, stored: dict, change: dict, words: str):
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name, shape in change.items():
        if shape is None:
            del shapes[keys.UNET_PREFIX + name]
        else:
            shapes[keys.UNET_PREFIX + name] = shape
    facts = identify(write_sparse(tmp_path / "a.safetensors", shapes, METADATA))
    with pytest.raises(ModelError, match=words):
        load_unet(facts, STORED, CPU)


def test_quantized_weights_are_refused(tmp_path: Path, stored: dict):
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    facts = identify(write_sparse(tmp_path / "a.safetensors", shapes, METADATA, dtype="I8"))
    with pytest.raises(ModelError, match="whole numbers"):
        load_vae(facts, STORED, CPU)


def test_the_refiner_has_no_first_text_encoder(facts: ModelFacts):
    refiner = dataclasses.replace(facts, kind="refiner", config=dataclasses.replace(facts.config, text_1=None))
    with pytest.raises(ModelError, match="refiner and has no first text encoder"):
        load_text_encoders(refiner, STORED, CPU)


def test_a_digest_depends_on_the_weights_alone(facts: ModelFacts, model: Model, tmp_path: Path):
    path = write(tmp_path / "another name.safetensors", model, STORED, {"modelspec.title": "another"})
    again = identify(path)
    digests = {part: part_digest(facts, part) for part in ("unet", "text", "vae")}
    assert digests == {part: part_digest(again, part) for part in ("unet", "text", "vae")}
    assert len(set(digests.values())) == 3


@pytest.mark.parametrize("part", ["unet", "text_1", "text_2", "vae"])
def test_one_changed_byte_changes_the_digest_of_its_part_only(facts: ModelFacts, tmp_path: Path, part: Part):
    path = tmp_path / "changed.safetensors"
    shutil.copy(facts.path, path)
    largest = max(local_tensors(facts, part).values(), key=lambda info: info.end - info.start)
    with path.open("r+b") as file:
        file.seek(largest.end - 1)
        byte = file.read(1)[0]
        file.seek(largest.end - 1)
        file.write(bytes([byte ^ 1]))
    changed = identify(path)
    differing = {name for name in ("unet", "text", "vae") if part_digest(facts, name) != part_digest(changed, name)}
    assert differing == {part.partition("_")[0]}


def test_a_digest_is_computed_anew_when_the_file_changes(facts: ModelFacts, stored: dict, tmp_path: Path):
    path = tmp_path / "vae.safetensors"
    save_file(vae_tensors(stored), path, METADATA)
    first = part_digest(facts, "vae", path)
    assert part_digest(facts, "vae", path) == first
    changed = {name: tensor + 1 for name, tensor in vae_tensors(stored).items()}
    save_file(changed, path, METADATA)
    os.utime(path, ns=(1, 1))
    assert part_digest(facts, "vae", path) != first


def test_a_digest_that_was_begun_ahead_is_waited_for_and_computed_once(
    facts: ModelFacts, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here = identify(write(tmp_path / "fresh.safetensors", model, STORED, METADATA))
    expected, calls = part_digest(facts, "text"), list[str]()
    begun, go_on, compute = threading.Event(), threading.Event(), parts._digest

    def slow(*given: Any) -> str:
        calls.append(threading.current_thread().name)
        begun.set()
        assert go_on.wait(60)
        return compute(*given)

    monkeypatch.setattr(parts, "_digest", slow)
    digest_ahead(here, "text")
    assert begun.wait(60)
    threading.Timer(0.2, go_on.set).start()
    assert part_digest(here, "text") == expected
    assert len(calls) == 1 and calls[0].startswith("digest")


def test_what_cannot_be_read_ahead_is_told_by_who_needs_it(
    model: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    here = identify(write(tmp_path / "gone.safetensors", model, STORED, METADATA))
    here.path.unlink()
    digest_ahead(here, "text")
    with pytest.raises(ModelError, match="no such file"):
        part_digest(here, "text")
    assert capfd.readouterr().err == ""
