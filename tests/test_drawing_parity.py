"""Pictures equal those of diffusers' SDXL pipelines: same seed, same settings, to 1e-3 of a pixel's range, in fp32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawing_models import lora_file, micro_refiner, small_drawing, studio
from PIL import Image

from engine.drawing.draw import draw_batch
from engine.drawing.plan import plan_drawing
from engine.drawing.settings import DrawingPreset
from engine.sdxl.tokenizer import Tokenizers
from tests.test_sdxl_samplers import PUBLISHED

# (sampler, noise levels) → class of diffusers and what diffusers' users set
SHARED: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("euler", "normal"): ("EulerDiscreteScheduler", {}),
    ("euler", "karras"): ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("euler_a", "normal"): ("EulerAncestralDiscreteScheduler", {}),
    ("heun", "normal"): ("HeunDiscreteScheduler", {}),
    ("dpmpp_2m", "normal"): ("DPMSolverMultistepScheduler", {}),
    ("dpmpp_2m", "karras"): ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("dpmpp_2m", "exponential"): ("DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}),
    ("dpmpp_2m_sde", "karras"): (
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    ("ddim", "normal"): ("DDIMScheduler", {}),
    ("dpmpp_2m_sde", "exponential"): (
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": True},
    ),
    ("unipc", "normal"): ("UniPCMultistepScheduler", {}),
    ("unipc", "karras"): ("UniPCMultistepScheduler", {"use_karras_sigmas": True}),
    ("lcm", "normal"): ("LCMScheduler", {}),
}  # fmt: skip

# What diffusers' users set for such models (Lin et al. 2023; diffusers' own guide)
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def ours(preset: DrawingPreset) -> np.ndarray:
    """Our pictures as numbers in 0…1, before they are rounded to bytes they were [N, H, W, 3]."""
    plan = plan_drawing(preset)
    pictures = [picture for batch in plan.batches() for picture in draw_batch(plan, batch, studio(), ignore)]
    return np.stack([np.asarray(picture, dtype=np.float32) / 255 for picture in pictures])


def ignore(step: int, latents: torch.Tensor, tends_to: torch.Tensor) -> None:
    """Look at nothing."""


def embeds(encoders: tuple[Any, ...], text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What diffusers' `encode_prompt` makes of a text, from transformers' own forward."""
    ids = Tokenizers.load().ids([text], 75)[-len(encoders) :]
    with torch.no_grad():
        outputs = [one(each[:, 0], output_hidden_states=True) for one, each in zip(encoders, ids, strict=True)]
    return torch.cat([out.hidden_states[-2] for out in outputs], dim=-1), outputs[-1][0]


def pipeline(kind: str, preset: DrawingPreset, refiner: bool = False) -> tuple[Any, dict[str, Any]]:
    """One of diffusers' pipelines with the studio's modules, and its arguments."""
    import diffusers

    base, second, vae = studio().open(plan_drawing(preset), print)
    expert: Any = second if refiner else base
    name, options = SHARED[preset.sampling.sampler, preset.sampling.sigmas]
    if preset.model.zero_terminal_snr == "yes":
        options = {**options, **ZERO_SNR}
    made = getattr(diffusers, name).from_config(PUBLISHED, **options)
    absent: Any = None
    more = {"requires_aesthetics_score": expert.is_refiner} if kind != "" else {}
    which = getattr(diffusers, f"StableDiffusionXL{kind}Pipeline")
    pipe = which(vae, absent, absent, absent, absent, expert.unet, made, add_watermarker=False, **more)
    pipe.set_progress_bar_config(disable=True)
    rows, pooled = embeds(expert.encoders, preset.picture.prompt)
    negative_rows, negative_pooled = embeds(expert.encoders, preset.picture.negative)
    arguments: dict[str, Any] = {
        "prompt_embeds": rows,
        "pooled_prompt_embeds": pooled,
        "negative_prompt_embeds": negative_rows,
        "negative_pooled_prompt_embeds": negative_pooled,
        "num_inference_steps": preset.sampling.steps,
        "guidance_scale": preset.sampling.cfg_scale,
        "guidance_rescale": preset.sampling.cfg_rescale,
        "generator": torch.Generator().manual_seed(preset.picture.seed),
        "output_type": "np",
    }
    if kind == "":
        arguments |= {"width": preset.picture.width_px, "height": preset.picture.height_px}
    return pipe, arguments


def assert_same(found: np.ndarray, wanted: np.ndarray) -> None:
    """Ours were rounded to bytes; so are theirs, and what lay at a rounding edge may fall to either side."""
    rounded = np.round(np.clip(wanted, 0, 1) * 255) / 255
    assert np.isfinite(wanted).all()
    assert wanted.std() > 0.01
    assert np.abs(found - wanted).max() <= 0.5 / 255 + 1e-3
    assert (np.abs(found - rounded) > 1e-6).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "sigmas"), SHARED)
def test_text_to_image(sampler: str, sigmas: str):
    preset = small_drawing(sampling__sampler=sampler, sampling__sigmas=sigmas)
    found = ours(preset)
    pipe, arguments = pipeline("", preset)
    assert_same(found, pipe(**arguments).images)


def test_cfg_rescale():
    preset = small_drawing(sampling__cfg_rescale=0.7, sampling__cfg_scale=9.0)
    found = ours(preset)
    pipe, arguments = pipeline("", preset)
    assert_same(found, pipe(**arguments).images)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> dict[str, str]:
    """A picture and a mask of 64×64, smooth enough that the VAE tells something of them."""
    folder = tmp_path_factory.mktemp("pictures")
    numbers = np.random.default_rng(2)
    small = Image.fromarray(numbers.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / "init.png")
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:48, 8:40] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return {"init": str(folder / "init.png"), "mask": str(folder / "mask.png")}


@pytest.mark.parametrize("sampler", ["euler_a", "heun", "dpmpp_2m"])
def test_image_to_image(picture, sampler: str):
    changes = {"image__init": picture["init"], "image__denoising_strength": 0.6, "sampling__sampler": sampler}
    preset = small_drawing(**changes)
    found = ours(preset)
    pipe, arguments = pipeline("Img2Img", preset)
    assert_same(found, pipe(image=Image.open(picture["init"]), strength=0.6, **arguments).images)


def test_only_the_part_around_the_mask_is_drawn(picture):
    """As diffusers does with its `padding_mask_crop`, but for the seam: that is the mask's here."""
    size = {"picture__width_px": 96, "picture__height_px": 96, "sampling__sampler": "dpmpp_2m"}
    files = {"image__init": picture["init"], "image__mask": picture["mask"], "image__mask_blur_px": 0}
    preset = small_drawing(
        **size, **files, image__area="masked", image__padding_px=4, image__keep_outside=False,
        image__denoising_strength=0.6,
    )  # fmt: skip
    found = ours(preset)[0]
    box = (4, 12, 44, 52)
    old, mask = Image.open(picture["init"]), Image.open(picture["mask"])
    part, part_mask = (one.crop(box).resize((96, 96), Image.Resampling.LANCZOS) for one in (old, mask))
    pipe, arguments = pipeline("Inpaint", preset)
    images = {"image": part, "mask_image": part_mask}
    drawn = pipe(**images, width=96, height=96, strength=0.6, **arguments | {"output_type": "pil"}).images[0]
    wanted = old.copy()
    wanted.paste(drawn.resize((40, 40), Image.Resampling.LANCZOS), box[:2])
    assert np.abs(found - np.asarray(wanted, dtype=np.float32) / 255).max() <= 1.1 / 255


@pytest.mark.parametrize(("sampler", "strength"), [("euler", 1.0), ("dpmpp_2m", 0.6)])
def test_inpainting(picture, sampler: str, strength: float):
    preset = small_drawing(
        image__init=picture["init"], image__mask=picture["mask"], image__mask_blur_px=0, image__keep_outside=False,
        image__denoising_strength=strength, sampling__sampler=sampler,
    )  # fmt: skip
    found = ours(preset)
    pipe, arguments = pipeline("Inpaint", preset)
    images = {"image": Image.open(picture["init"]), "mask_image": Image.open(picture["mask"])}
    assert_same(found, pipe(**images, width=64, height=64, strength=strength, **arguments).images)


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m"])
def test_zero_terminal_snr(sampler: str):
    kind = {"model__prediction": "v_prediction", "model__zero_terminal_snr": "yes", "sampling__cfg_rescale": 0.7}
    preset = small_drawing(sampling__sampler=sampler, **kind)
    found = ours(preset)
    pipe, arguments = pipeline("", preset)
    assert_same(found, pipe(**arguments).images)


def two_loras() -> str:
    return f"{lora_file()}: 0.8: 0.5\n{lora_file('loha', 1)}"


def after_whole_steps(pipe: Any, index: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
    """For Heun at the end of the base. Its timesteps are t₀ t₁ t₁ t₂ t₂ …, two for each step. `denoising_end` keeps
    both of the last one, so the first half of a step that `denoising_start` then begins again: here that is left out.
    """
    pipe._interrupt = index + 1 == len(pipe.scheduler.timesteps[pipe.scheduler.timesteps >= 400]) - 1
    return given


FEW = (("euler_a", "normal"), ("heun", "normal"), ("dpmpp_2m", "karras"))
MOST_SLOW = [pytest.param(*pair, marks=() if pair in FEW else pytest.mark.slow) for pair in SHARED]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "sigmas"), MOST_SLOW)
def test_base_with_loras_and_refiner(sampler: str, sigmas: str):
    """diffusers' pipelines with the weights that the LoRAs were merged into, handed over as its manual has it."""
    preset = small_drawing(
        refiner__model=str(micro_refiner()), sampling__steps=5, sampling__sampler=sampler, sampling__sigmas=sigmas,
        loras__files=two_loras(),
    )  # fmt: skip
    found = ours(preset)
    with merged(preset):
        pipe, arguments = pipeline("", preset)
        end = {"callback_on_step_end": after_whole_steps} if sampler == "heun" else {}
        latents = pipe(**arguments | {"output_type": "latent"}, denoising_end=0.6, **end).images
        refine, more = pipeline("Img2Img", preset, refiner=True)
        more["generator"] = arguments["generator"]  # the noise on the way goes on where it was
        wanted = refine(image=latents, denoising_start=0.6, **more).images
    assert_same(found, wanted)


@pytest.mark.slow
def test_heun_with_loras():
    preset = small_drawing(sampling__sampler="heun", loras__files=two_loras())
    found = ours(preset)
    with merged(preset):
        pipe, arguments = pipeline("", preset)
        assert_same(found, pipe(**arguments).images)


@pytest.mark.slow
def test_heun_is_handed_over_between_two_steps():
    """The same model on both sides is one model."""
    alone = small_drawing(sampling__sampler="heun", sampling__steps=5)
    split = alone.changed({"refiner.model": alone.model.base})
    assert np.array_equal(ours(split), ours(alone))


@pytest.mark.slow
def test_loras_come_off_again():
    plain, found = ours(small_drawing()), ours(small_drawing(loras__files=f"{lora_file()}: 0.8"))
    assert np.abs(found - plain).max() > 0.01
    assert np.array_equal(ours(small_drawing()), plain)


class merged:  # noqa: N801 - reads as a word
    """Inside, the studio's base model has the LoRAs of a preset in its weights instead of beside them."""

    def __init__(self, preset: DrawingPreset) -> None:
        self.plan = plan_drawing(preset)

    def __enter__(self) -> None:
        from engine.adapter_header import Merge
        from engine.adapters.merging import merge_into

        base = studio().open(self.plan, print)[0]
        base.stack.use(())
        self.models = base.stack.models
        self.before = {name: {k: v.clone() for k, v in one.state_dict().items()} for name, one in self.models.items()}
        for lora in self.plan.pictures[0].loras:
            merge_into({"unet": self.models["unet"]}, [Merge(lora.path, lora.strength)])
            texts = {name: model for name, model in self.models.items() if name != "unet"}
            merge_into(texts, [Merge(lora.path, lora.text_strength)])

    def __exit__(self, *error: object) -> None:
        for name, model in self.models.items():
            model.load_state_dict(self.before[name])


@pytest.mark.slow
def test_a_batch_draws_what_its_pictures_are_alone():
    together = ours(small_drawing(picture__count=2, picture__batch_size=2, sampling__sampler="euler_a"))
    alone = [ours(small_drawing(picture__seed=seed, sampling__sampler="euler_a"))[0] for seed in (7, 8)]
    assert np.abs(together - np.stack(alone)).max() <= 1.1 / 255
