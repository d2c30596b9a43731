"""The process that draws, and the command line: what they tell, write, refuse, and leave behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing_models import lora_file, small_drawing
from PIL import Image
from safetensors.torch import save_file

from engine import event_log, events
from engine.__main__ import main
from engine.drawing import command, room, server
from engine.drawing.desk import Desk
from engine.drawing.plan import count_looks
from engine.drawing.preview import Previews, load_decoder
from engine.drawing.settings import DrawingPreset
from engine.errors import ModelError, UserError
from engine.locks import locked
from tests.micro_model import micro_model


def told(desk: Desk, kind: type[events.Event]) -> list[Any]:
    return [entry.event for entry in event_log.read(desk.events)[0] if isinstance(entry.event, kind)]


def small(folder: Path, **changes: Any) -> DrawingPreset:
    return small_drawing(**{"sampling__steps": 3, "picture__folder": str(folder / "pictures"), **changes})


@pytest.mark.slow
def test_requests_are_drawn_one_after_the_other(tmp_path):
    desk = Desk(tmp_path / "drawing")
    first = desk.ask(small(tmp_path, preview__every_steps=1, picture__count=2, picture__batch_size=2))
    wrong = desk.ask(small(tmp_path, image__init=str(tmp_path / "none.png")))
    last = desk.ask(small(tmp_path, loras__files=str(lora_file())))
    server.serve(desk, idle_seconds=0.3)
    answered = told(desk, events.Answered)
    assert [(one.request, one.outcome, one.pictures) for one in answered] == [
        (first, "drawn", 2), (wrong, "failed", 0), (last, "drawn", 1),
    ]  # fmt: skip
    assert [problem["where"] for problem in answered[1].problems] == ["image.init"]
    drawn = told(desk, events.Drawn)
    assert [(one.index, one.seed) for one in drawn] == [(0, 7), (1, 8), (0, 7)]
    assert [Path(one.path).name for one in drawn] == ["00000-7.png", "00001-8.png", "00002-7.png"]
    assert {one.total for one in told(desk, events.Progress)} == {3}
    assert {one.index for one in told(desk, events.Previewed)} == {0, 1}
    assert (desk.waiting(), list(desk.previews.iterdir()), desk.is_running()) == ([], [], False)
    with Image.open(drawn[0].path) as picture:
        texts: dict[Any, Any] = picture.info
        assert picture.size == (64, 64)
        assert {"parameters", "atelier"} <= texts.keys()
        assert "Seed: 7" in texts["parameters"]


class Impatient(Desk):
    """Somebody who cancels, or wants the GPU, at the second look."""

    looks = 0
    leaves = False

    def is_asked_to_stop(self) -> bool:
        Impatient.looks += 1
        if Impatient.looks >= 4 and Impatient.leaves:
            (self.requests / "leave").touch()
        return Impatient.looks >= 4


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [False, True])
def test_a_drawing_is_cancelled_between_two_steps(tmp_path, monkeypatch, leaves):
    monkeypatch.setattr(Impatient, "looks", 0)
    monkeypatch.setattr(Impatient, "leaves", leaves)
    desk = Impatient(tmp_path / "drawing")
    request = desk.ask(small(tmp_path, sampling__steps=200))
    server.serve(desk, idle_seconds=0.3)
    assert [one.outcome for one in told(desk, events.Answered)] == ([] if leaves else ["cancelled"])
    assert desk.waiting() == ([request] if leaves else [])
    assert not (tmp_path / "pictures").exists()


@pytest.mark.slow
def test_only_one_process_draws_for_a_folder(tmp_path):
    desk = Desk(tmp_path)
    with locked(desk.lock, 1, "", ""), pytest.raises(UserError, match="another process"):
        server.serve(desk, idle_seconds=0.1)


def test_a_training_waits_until_the_gpu_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "desk", lambda: Desk(tmp_path / "drawing"))
    room.make_room(patience_seconds=0)  # nobody draws
    ends = threading.Thread(target=server.serve, args=(Desk(tmp_path / "drawing"), 60))
    ends.start()
    while not Desk(tmp_path / "drawing").is_running():
        threading.Event().wait(0.02)
    room.make_room(patience_seconds=20)
    ends.join(20)
    assert not ends.is_alive()


def test_beside_a_training_no_picture_takes_the_gpu(monkeypatch):
    monkeypatch.setattr(server, "training_now", lambda: "my run")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="my run"):
        server.refuse_beside_training(small_drawing(model__device="auto"))
    server.refuse_beside_training(small_drawing(model__device="cpu"))


@pytest.mark.slow
def test_the_command_line_draws_presets_and_models(tmp_path, capsys):
    small(tmp_path).save(tmp_path / "drawing.json")
    set_seed = ["--set", "picture.seed=3", "--set", "sampling.steps=1"]
    assert main(["sample", str(tmp_path / "drawing.json"), *set_seed, "--lora", f"{lora_file()}=0.5"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "00000-3.png"
    assert main(["sample", str(tmp_path / "drawing.json"), "--out", str(tmp_path / "out"), *set_seed]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000-3.png"]
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "drawing.json"), "--set", "picture.sed=3"]) == 2
    assert "Did you mean picture.seed?" in capsys.readouterr().err


def test_a_model_and_prompts_are_enough():
    found = command.presets_of(micro_model(), ["picture.seed=5"], ["a cat", "a dog"], ["a.safetensors=0.5", "b"])
    assert [(one.picture.prompt, one.picture.seed) for one in found] == [("a cat", 5), ("a dog", 5)]
    assert found[0].loras.files.splitlines() == ["a.safetensors: 0.5", "b"]
    assert command.is_for_drawing(micro_model())


def test_looks_are_counted_before_the_start():
    assert count_looks(small_drawing(sampling__steps=5)) == 5
    assert count_looks(small_drawing(sampling__steps=5, sampling__sampler="heun")) == 9
    changes = {"hires__on": True, "hires__denoising_strength": 0.5, "hires__steps": 8}
    assert count_looks(small_drawing(sampling__steps=5, **changes)) == 9


def test_previews_are_pictures_of_the_size():
    assert Previews(None).pictures(torch.full((2, 4, 6, 8), float("nan")))[1].size == (64, 48)


def test_a_small_decoder_is_read_in_both_namings(tmp_path):
    from diffusers.models.autoencoders.vae import DecoderTiny

    options: Any = {"upsampling_scaling_factor": 2, "act_fn": "relu", "upsample_fn": "nearest"}
    decoder = DecoderTiny(4, 3, (3, 3, 3, 1), (64, 64, 64, 64), **options)
    state = decoder.state_dict()
    save_file({f"decoder.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.safetensors")
    published: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        number, rest = name.removeprefix("layers.").split(".", 1)
        published[f"{int(number) + 1}.{rest}"] = tensor
    save_file(published, tmp_path / "b.safetensors")
    latents = torch.randn(1, 4, 4, 4)
    wanted = (decoder(latents) + 1) / 2
    for name in ("a", "b"):
        assert torch.allclose(load_decoder(tmp_path / f"{name}.safetensors")(latents), wanted, atol=1e-6)
    assert Previews(tmp_path / "a.safetensors").pictures(latents)[0].size == (32, 32)
    with pytest.raises(ModelError, match="TAESD"):
        load_decoder(lora_file())
