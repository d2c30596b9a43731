"""What a step draws: a function of seed, step and place; each kind of noise from a generator of its own."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from engine.batches import Batch, BatchMaker
from engine.data.digests import FileDigests
from engine.data.images import load_pixels
from engine.data.masks import to_latent_size
from engine.draws import draw_below
from engine.latent_source import LatentSource
from engine.mask_source import MaskSource
from engine.noise_draws import shaped_noise
from engine.plan import make_plan
from engine.preset import Preset
from engine.sections.noise import Noise
from engine.text_source import TextSource
from tests.training import make_images, small_preset

CPU = torch.device("cpu")
SUBSET = "2_sks thing"


class PixelLatents:
    """Moments whose mean is the image's own pixels at latent size, cut and mirrored as asked; standard deviation 0."""

    def moments(self, images, cuts) -> torch.Tensor:
        cells = [
            to_latent_size(load_pixels(i.path, i.placement, crop_left_top=c.left_top_px, flip=c.flip)[..., 0])
            for i, c in zip(images, cuts, strict=True)
        ]
        mean = torch.from_numpy(np.stack(cells)).unsqueeze(1).expand(-1, 4, -1, -1)
        return torch.cat((mean, torch.zeros_like(mean)), dim=1)


class NoWords:
    """Captions as they are."""

    def words(self, captions):
        return captions


def maker(preset: Preset, masks: MaskSource | None = None) -> BatchMaker:
    sources = cast(LatentSource, PixelLatents()), masks, cast(TextSource, NoWords())
    return BatchMaker(preset, make_plan(preset), sources, CPU)


def first_batch(preset: Preset, step: int = 0) -> Batch:
    return maker(preset).batches(step)[0]


def preset_of(folder, **changes: Any) -> Preset:
    if not (folder / "images").exists():
        make_images(folder / "images", ((64, 64),) * 6)
    return small_preset(folder, **{"run__batch_size": 4, **changes})


def plain_draws(preset: Preset, shape, step: int = 0, place: int = 0) -> SimpleNamespace:
    """The draws of a batch without any noise setting, in their order."""
    generator = torch.Generator().manual_seed(draw_below(2**63, "step", preset.run.seed, step, place))
    torch.randn(shape, generator=generator)
    noise = torch.randn(shape, generator=generator)
    offset = torch.randn((shape[0], 4, 1, 1), generator=generator)
    return SimpleNamespace(noise=noise, offset=offset, times=torch.randint(0, 1000, shape[:1], generator=generator))


def test_plain_settings_draw_noise_and_timesteps_as_they_always_did(tmp_path):
    preset = preset_of(tmp_path)
    for step in (0, 2):
        batch = first_batch(preset, step)
        draws = plain_draws(preset, batch.noise.shape, step)
        assert torch.equal(batch.noise, draws.noise) and torch.equal(batch.input_noise, batch.noise)
        assert torch.equal(batch.timesteps, draws.times)


CHANGES = {
    "noise.offset": {"noise.offset": 0.1},
    "noise.offset_random": {"noise.offset": 0.1, "noise.offset_random": True},
    "noise.offset_adaptive": {"noise.offset_adaptive": 0.5},
    "noise.pyramid_levels": {"noise.pyramid_levels": 4},
    "noise.pyramid_discount": {"noise.pyramid_levels": 4, "noise.pyramid_discount": 0.8},
    "noise.perturbation": {"noise.perturbation": 0.1},
    "noise.perturbation_random": {"noise.perturbation": 0.1, "noise.perturbation_random": True},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_noise_setting_changes_the_noise_and_no_other_draw(tmp_path, name):
    preset = preset_of(tmp_path)
    changes = dict(CHANGES[name])
    last = {name: changes.pop(name)}
    before, after = first_batch(preset.changed(changes)), first_batch(preset.changed({**changes, **last}))
    assert not torch.equal(before.input_noise, after.input_noise)
    assert torch.equal(before.noise, after.noise) == ("perturbation" in name)
    assert torch.equal(before.latents, after.latents) and torch.equal(before.timesteps, after.timesteps)
    assert before.images == after.images and torch.equal(before.weights, after.weights)


@pytest.mark.parametrize("name", [*CHANGES, "noise.timesteps", "noise.timestep_spread"])
def test_a_step_draws_the_same_whatever_came_before(tmp_path, name):
    own = {"noise.timesteps": {name: "beta"}, "noise.timestep_spread": {name: "stratified"}}
    preset = preset_of(tmp_path, run__accumulation=2).changed(CHANGES.get(name) or own[name])
    going, fresh = maker(preset), maker(preset)
    going.batches(0)
    for one, two in zip(going.batches(1), fresh.batches(1), strict=True):
        assert torch.equal(one.input_noise, two.input_noise) and torch.equal(one.timesteps, two.timesteps)


def test_a_random_offset_has_a_strength_for_each_image_between_nothing_and_the_setting(tmp_path):
    preset = preset_of(tmp_path, noise__offset=0.1, noise__offset_random=True)
    strengths = []
    for step in range(20):
        batch = first_batch(preset, step % 3)
        draws = plain_draws(preset, batch.noise.shape, step % 3)
        ratio = ((batch.noise - draws.noise) / draws.offset).flatten(1)
        assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-3)
        strengths += ratio[:, 0].tolist()
    assert all(-1e-3 <= value <= 0.1 + 1e-3 for value in strengths)
    assert len({round(value, 4) for value in strengths}) > 6


@pytest.mark.parametrize(("offset", "scale"), [(0.05, 0.2), (0.0, 0.2), (0.01, -1.0)])
def test_the_adaptive_offset_follows_the_mean_of_each_channel_and_is_never_negative(tmp_path, offset, scale):
    batch = first_batch(preset_of(tmp_path, noise__offset=offset, noise__offset_adaptive=scale))
    draws = plain_draws(preset_of(tmp_path), batch.noise.shape)
    strength = (offset + scale * batch.latents.mean(dim=(2, 3), keepdim=True).abs()).clamp(min=0)
    assert torch.allclose(batch.noise, draws.noise + strength * draws.offset, atol=1e-6)


def test_pyramid_noise_keeps_a_deviation_of_one_and_correlates_neighbours(tmp_path):
    preset = preset_of(tmp_path, noise__pyramid_levels=6, noise__pyramid_discount=0.9)
    noise = first_batch(preset).noise
    assert noise.std().item() == pytest.approx(1, rel=1e-5)
    assert (noise[..., 1:] * noise[..., :-1]).mean().item() > 0.2


def test_perturbation_adds_to_the_input_and_leaves_the_target(tmp_path):
    preset = preset_of(tmp_path, noise__perturbation=0.5)
    extra = torch.cat([(b.input_noise - b.noise).flatten() for step in range(3) for b in maker(preset).batches(step)])
    assert extra.std().item() == pytest.approx(0.5, rel=0.05)
    random = preset.changed({"noise.perturbation_random": True})
    spreads = torch.stack([(image - noise).std() for s in range(3) for b in maker(random).batches(s)
                           for image, noise in zip(b.input_noise, b.noise, strict=True)])  # fmt: skip
    assert (spreads < 0.6).all() and spreads.max() - spreads.min() > 0.1


def test_stratified_timesteps_hit_each_stratum_once_over_the_accumulated_batches(tmp_path):
    preset = preset_of(tmp_path, run__accumulation=3, noise__timestep_spread="stratified")
    for step in range(preset.run.steps):
        timesteps = torch.cat([batch.timesteps for batch in maker(preset).batches(step)])
        count = len(timesteps)
        assert Counter((timesteps * count // 1000).tolist()) == Counter(range(count))


def test_a_distribution_of_timesteps_reaches_the_batches(tmp_path):
    preset = preset_of(tmp_path, noise__timesteps="curve", noise__timestep_curve="0:0, 700:0, 701:1, 1000:1")
    batches = [batch for step in range(3) for batch in maker(preset).batches(step)]
    assert all((batch.timesteps >= 700).all() for batch in batches)
    assert len({value for batch in batches for value in batch.timesteps.tolist()}) > 5


def test_equal_limits_train_one_timestep(tmp_path):
    preset = preset_of(tmp_path, noise__min_timestep=500, noise__max_timestep=500)
    assert first_batch(preset).timesteps.tolist() == [500] * 4


def test_image_weights_and_the_prior_weight_multiply_and_share_out_the_step(tmp_path):
    preset = preset_of(tmp_path, loss__image_weights=f"{SUBSET}: 0.5", loss__prior_weight=0.1, run__accumulation=2)
    make_images(tmp_path / "general", ((64, 64),) * 6)
    preset = preset.changed({"data.regularization_folder": str(tmp_path / "general")})
    batches = maker(preset).batches(0)
    total = sum(len(batch.images) for batch in batches)
    for batch in batches:
        wanted = [(0.1 if image.is_regularization else 0.5) / total for image in batch.images]
        assert batch.weights.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("cached", [True, False])
def test_masks_are_cut_and_mirrored_as_the_latents_beside_them(tmp_path, cached):
    """Each image is grey, and its mask is that picture: both must come out alike, in all buckets, cuts and flips."""
    folder = tmp_path / "images" / SUBSET
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(3)
    for index, (width, height) in enumerate([(64, 64), (150, 90), (70, 120), (200, 64)]):
        grey = Image.fromarray(numbers.integers(0, 256, (height, width), dtype=np.uint8))
        grey.convert("RGB").save(folder / f"{index}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        grey.save(tmp_path / "masks" / f"{index}.png")
    preset = small_preset(
        tmp_path,
        data__flip=True,
        data__cache_latents=cached,
        data__random_crop=not cached,
        run__batch_size=2,
        loss__mask="folder",
        loss__mask_folder=str(tmp_path / "masks"),
    )
    batch_maker = maker(preset, MaskSource(FileDigests(tmp_path), None, False, 0.0))
    for step in range(6):
        for batch in batch_maker.batches(step):
            assert batch.mask is not None and batch.mask.shape == (len(batch.images), 1, *batch.latents.shape[2:])
            assert torch.allclose(batch.latents[:, :1] / 0.13025, batch.mask, atol=1e-5)


def test_the_crop_condition_is_the_place_of_the_cut_in_the_picture_as_it_is_shown(tmp_path):
    """The left edge of a mirrored picture was its right edge."""
    make_images(tmp_path / "images", ((200, 64), (64, 150), (150, 64)))
    preset = preset_of(tmp_path, data__flip=True, data__cache_latents=False, data__random_crop=True)
    preset = preset.changed({"data.bucketing": False})
    told, cuts = maker(preset), list[Any]()
    cast(Any, told.latents).moments = lambda images, asked: cuts.extend(asked) or PixelLatents().moments(images, asked)
    flips = set()
    for batch in (batch for step in range(4) for batch in told.batches(step)):
        for image, cut, ids in zip(batch.images, cuts, batch.size_ids.tolist(), strict=True):
            left, top = cut.left_top_px
            right = image.resized_px[0] - 64 - left
            assert ids[2:4] == [top, right if cut.flip else left]
            flips.add((cut.flip, left != right))
        cuts.clear()
    assert {(True, True), (False, True)} <= flips


def test_noise_is_shaped_on_its_own_device_without_reading_a_value():
    """Tensors on the device `meta` have no values: reading one, or mixing in one of the CPU, raises."""
    settings = Noise(
        offset=0.1,
        offset_random=True,
        offset_adaptive=0.1,
        pyramid_levels=4,
        perturbation=0.1,
        perturbation_random=True,
    )
    shape = (2, 4, 8, 8)
    noise, offset, latents = (torch.empty(size, device="meta") for size in (shape, (2, 4, 1, 1), shape))
    for found in shaped_noise(settings, noise, offset, latents, lambda name: torch.Generator().manual_seed(1)):
        assert found.shape == shape and found.device.type == "meta"
