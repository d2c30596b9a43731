"""What the engine draws: hires fix, tiling, prompts over the steps, LoRAs with block weights, what stays loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawing_models import lora_file, micro_refiner, small_drawing, studio
from PIL import Image

from engine.drawing import draw
from engine.drawing.conditioning import PromptEncoder
from engine.drawing.pictures_in import part_around
from engine.drawing.plan import plan_drawing
from engine.drawing.prompt_chunks import chunks_of
from engine.errors import ModelError, PresetError
from engine.sdxl.detect import identify
from engine.sdxl.tokenizer import Tokenizers
from tests.micro_model import micro_model


def drawn(**changes) -> np.ndarray:
    """The pictures [N, H, W, 3] of two steps."""
    plan = plan_drawing(small_drawing(**{"sampling__steps": 2, **changes}))
    seen = [np.asarray(one) for batch in plan.batches() for one in draw.draw_batch(plan, batch, studio(), ignore)]
    return np.stack(seen).astype(int)


def ignore(*seen: object) -> None:
    """Look at nothing."""


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return drawn()


@pytest.mark.parametrize("upscaler", ["pixel", "latent"])
def test_hires_fix_draws_a_larger_picture_like_the_small_one(plain, upscaler):
    found = drawn(hires__on=True, hires__scale=1.5, hires__upscaler=upscaler, hires__denoising_strength=0.5)
    assert found.shape == (1, 96, 96, 3)
    assert not np.array_equal(found, drawn(hires__on=True, hires__scale=1.5, hires__denoising_strength=1.0))


def test_a_tiled_picture_is_the_same_when_it_is_begun_elsewhere(monkeypatch):
    """With both edges wrapped a shift of the noise by a whole attention grid shifts the picture."""
    both = {"tiling__horizontal": True, "tiling__vertical": True, "picture__width_px": 128}
    first = drawn(**both)
    randn = draw._randn
    monkeypatch.setattr(draw, "_randn", lambda *about: randn(*about).roll(8, dims=-1))
    assert np.abs(np.roll(first, 64, axis=2) - drawn(**both)).max() <= 1
    monkeypatch.setattr(draw, "_randn", randn)
    plain_one = drawn(picture__width_px=128)
    assert not np.array_equal(first, plain_one)
    assert np.array_equal(plain_one, drawn(picture__width_px=128))


def test_a_prompt_that_changes_draws_with_each_text_at_its_steps(plain):
    changing = drawn(picture__prompt="[a sks thing:a green wall:0.5]")
    assert not np.array_equal(changing, plain)
    assert not np.array_equal(changing, drawn(picture__prompt="a green wall"))
    assert np.array_equal(drawn(picture__prompt="[a sks thing:a green wall:5]"), plain)


def test_wildcards_are_drawn_with_each_pictures_seed(tmp_path):
    (tmp_path / "color.txt").write_text("red\ngreen\nblue\nblack\n")
    changes = {"picture__wildcards_folder": str(tmp_path), "picture__count": 6}
    plan = plan_drawing(small_drawing(picture__prompt="a __color__ thing", **changes))
    assert len({picture.positive for picture in plan.pictures}) > 1
    assert [picture.seed for picture in plan.pictures] == list(range(7, 13))


def test_chunks_are_cut_at_breaks_and_at_commas():
    tokenizers = Tokenizers.load()
    assert [len(chunk.ids) for chunk in chunks_of("a cat BREAK a dog", tokenizers)] == [2, 2]
    assert [len(chunk.ids) for chunk in chunks_of("", tokenizers)] == [0]
    long = "word " * 60 + ", " + "tail " * 30
    assert [len(chunk.ids) for chunk in chunks_of(long, tokenizers)] == [61, 30]
    assert [len(chunk.ids) for chunk in chunks_of("word " * 90, tokenizers)] == [75, 15]
    weighted = chunks_of("a (red:1.5) cat", tokenizers)[0]
    assert weighted.weights == [1.0, 1.5, 1.0]


def test_emphasis_keeps_the_mean_of_a_chunk_and_changes_its_words():
    base = studio().open(plan_drawing(small_drawing()), print)[0]
    base.stack.use(())
    encoder = PromptEncoder(base.encoders, 2)
    plain_rows, weighted = encoder.features("a red cat", 1).rows, encoder.features("a (red:1.5) cat", 1).rows
    width = base.encoders[0].config.hidden_size
    for part in (slice(0, width), slice(width, None)):
        assert torch.allclose(plain_rows[..., part].mean(), weighted[..., part].mean(), atol=1e-6)
    assert not torch.allclose(plain_rows[:, 2], weighted[:, 2])
    assert encoder.features("a red cat", 2).rows.shape[1] == 154


def test_a_lora_of_the_prompt_acts_like_one_of_the_list(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ink.safetensors").write_bytes(lora_file().read_bytes())
    listed = drawn(loras__files=f"{lora_file()}: 0.8: 0.5")
    assert np.array_equal(drawn(picture__prompt="a sks thing<lora:ink:0.5:0.8>", loras__folder=str(tmp_path)), listed)


def test_block_weights_choose_where_a_lora_acts(plain):
    weights = ",".join(["0"] * 23)
    assert np.array_equal(drawn(loras__files=f"{lora_file()}: 1: 0: {weights}"), plain)
    whole = drawn(loras__files=f"{lora_file()}: 1: 0")
    assert np.array_equal(drawn(loras__files=f"{lora_file()}: 1: 0: {','.join(['1'] * 23)}"), whole)
    part = drawn(loras__files=f"{lora_file()}: 1: 0: {','.join(['1'] * 12 + ['0'] * 11)}")
    assert not np.array_equal(part, whole)
    assert not np.array_equal(part, plain)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["dora", "oft"])
def test_families_go_together_and_come_off(plain, algorithm):
    both = drawn(loras__files=f"{lora_file()}: 0.8\n{lora_file(algorithm, 3)}: 0.5")
    assert not np.array_equal(both, drawn(loras__files=f"{lora_file()}: 0.8"))
    assert np.array_equal(drawn(), plain)


def test_the_model_stays_loaded_when_loras_and_prompts_change():
    base = studio().open(plan_drawing(small_drawing()), print)[0]
    drawn(loras__files=str(lora_file()), picture__prompt="another")
    assert studio().open(plan_drawing(small_drawing()), print)[0] is base


def test_the_mask_keeps_what_is_outside(tmp_path, plain):
    old = Image.effect_noise((64, 64), 90).convert("RGB")
    old.save(tmp_path / "old.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 16, 48, 48))
    mask.save(tmp_path / "mask.png")
    files = {"image__init": str(tmp_path / "old.png"), "image__mask": str(tmp_path / "mask.png")}
    found = drawn(**files, image__mask_blur_px=2)[0]
    assert np.array_equal(found[:8], np.asarray(old)[:8])
    assert not np.array_equal(found[24:40, 24:40], np.asarray(old)[24:40, 24:40])
    inverted = drawn(**files, image__mask_blur_px=0, image__mask_inverted=True)[0]
    assert np.array_equal(inverted[16:48, 16:48], np.asarray(old)[16:48, 16:48])


def test_the_part_around_the_mask_is_drawn_into_a_picture_of_its_own_size(tmp_path):
    old = Image.effect_noise((200, 120), 90).convert("RGB")
    old.save(tmp_path / "old.png")
    mask = Image.new("L", (200, 120), 0)
    mask.paste(255, (150, 40, 170, 50))
    mask.save(tmp_path / "mask.png")
    files = {"image__init": str(tmp_path / "old.png"), "image__mask": str(tmp_path / "mask.png")}
    found = drawn(**files, image__area="masked", image__padding_px=8, image__mask_blur_px=2)[0]
    differs = (found != np.asarray(old)).any(-1)
    assert found.shape == (120, 200, 3)
    assert differs[41:49, 151:169].mean() > 0.9
    differs[32:58, 142:178] = False
    assert not differs.any()


@pytest.mark.parametrize(
    ("box", "size_px", "padding_px", "expected"),
    [
        ((50, 40, 70, 60), (64, 64), 0, (50, 40, 70, 60)),
        ((50, 40, 70, 60), (64, 64), 5, (45, 35, 75, 65)),
        ((50, 40, 70, 60), (128, 64), 0, (40, 40, 80, 60)),
        ((0, 0, 10, 40), (64, 64), 0, (0, 0, 40, 40)),
        ((90, 10, 100, 50), (64, 64), 10, (40, 0, 100, 60)),
        ((0, 0, 100, 80), (64, 128), 32, (0, 0, 100, 80)),
    ],
)
def test_the_part_has_the_shape_that_is_drawn_where_there_is_room(box, size_px, padding_px, expected):
    assert part_around(box, (100, 80), size_px, padding_px) == expected


def test_a_cancelled_drawing_leaves_the_studio_usable(plain):
    plan = plan_drawing(small_drawing(sampling__steps=2))

    def stop(step: int, *seen: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw.draw_batch(plan, plan.batches()[0], studio(), stop)
    assert np.array_equal(drawn(), plain)


def test_the_refiner_is_recognised():
    facts = identify(micro_refiner())
    assert facts.kind == "refiner"
    assert facts.config.unet["cross_attention_dim"] == 40


def problems(**changes) -> dict[str, str]:
    with pytest.raises(PresetError) as caught:
        plan_drawing(small_drawing(**changes))
    return {problem.where: problem.message for problem in caught.value.problems}


def test_faults_of_files_are_told_at_once(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (32, 64)).save(tmp_path / "mask.png")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    found = problems(
        model__base=str(micro_refiner()), refiner__model=str(tmp_path / "none.safetensors"),
        image__init=str(tmp_path / "a.png"), image__mask=str(tmp_path / "mask.png"),
        loras__files=f"{tmp_path / 'empty.safetensors'}", picture__prompt="<lora:nothing>",
        preview__decoder=str(tmp_path / "none.safetensors"), sampling__sampler="lcm", sampling__steps=60,
    )  # fmt: skip
    assert found.keys() == {
        "model.base", "refiner.model", "image.mask", "loras.files", "<lora:nothing>", "preview.decoder",
        "sampling.steps",
    }  # fmt: skip
    assert "Choose it as the refiner" in found["model.base"]
    assert "32×64" in found["image.mask"]


def test_a_mask_that_leaves_nothing_to_draw_is_told(tmp_path):
    for name, shade in (("a", 90), ("black", 0), ("white", 255)):
        Image.new("L", (64, 64), shade).save(tmp_path / f"{name}.png")
    files = {"image__init": str(tmp_path / "a.png")}
    assert "nothing white" in problems(**files, image__mask=str(tmp_path / "black.png"))["image.mask"]
    inverted = problems(**files, image__mask=str(tmp_path / "white.png"), image__mask_inverted=True)
    assert "nothing black" in inverted["image.mask"]


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_file_that_is_no_picture_is_told(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert problems(image__init=str(tmp_path / "a.png")).keys() == {"image.init"}
    assert problems(image__init=str(tmp_path / "none.png")).keys() == {"image.init"}


def test_a_lora_of_another_model_is_told(tmp_path):
    from safetensors.torch import save_file

    down, up = torch.zeros(2, 999), torch.zeros(64, 2)
    layer = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    tensors = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="another"):
        drawn(loras__files=str(tmp_path / "other.safetensors"))
    assert identify(micro_model()).kind == "base"


def test_clip_skip_beyond_the_encoder_is_told():
    from engine.errors import UserError

    with pytest.raises(UserError, match="clip skip"):
        drawn(picture__clip_skip=9)
