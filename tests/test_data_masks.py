"""Masks of the loss lie on the picture as it is trained: same resizing, cut, flip and bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from engine.data.buckets import BucketRules, place
from engine.data.cache import Store
from engine.data.digests import FileDigests
from engine.data.images import load_pixels
from engine.data.masks import MaskIndex, has_alpha, load_mask, to_latent_size
from engine.errors import DatasetError
from engine.latent_source import Cut
from engine.mask_source import MaskSource, black_masks_warning
from engine.plan_images import ImagePlan

RULES = BucketRules(width_px=64, height_px=64, min_px=32, max_px=128, step_px=16)
BLACK = "#000000"


def grey_picture(path: Path, size: tuple[int, int], seed: int = 1) -> Path:
    """A picture in grey, which is its own mask."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def image_plan(path: Path, size: tuple[int, int], mask: Path | None) -> ImagePlan:
    placement = place(size, RULES)
    sizes = (size, placement.bucket_px, placement.resized_px, placement.crop_left_top_px)
    return ImagePlan(path, "1_x", "", *sizes, 1, False, mask=mask)


def source(folder: Path, store: Store | None = None, from_alpha: bool = False, outside: float = 0.0) -> MaskSource:
    return MaskSource(FileDigests(folder), store, from_alpha, outside)


@settings(max_examples=40)
@given(st.tuples(st.integers(24, 200), st.integers(24, 200)), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_mask_is_cut_as_its_image(tmp_path_factory, size, left_share, top_share, flip):
    folder = tmp_path_factory.mktemp("mask")
    path = grey_picture(folder / "a.png", size)
    plan = image_plan(path, size, mask=path)
    room = [whole - part for whole, part in zip(plan.resized_px, plan.bucket_px, strict=True)]
    cut = Cut((round(room[0] * left_share), round(room[1] * top_share)), flip)
    pixels = load_pixels(path, plan.placement, crop_left_top=cut.left_top_px, flip=flip)
    (mask,) = source(folder).masks([plan], [cut])
    wanted = functional.interpolate(torch.from_numpy(pixels[None, None, :, :, 0] / 255.0), mask.shape[-2:], mode="area")
    assert torch.allclose(mask.double(), wanted[0], atol=1e-6)


def test_cells_are_the_mean_of_eight_by_eight_pixels():
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:8, 8:12] = 255
    assert to_latent_size(pixels).tolist() == [[0, 0.5, 0], [0, 0, 0]]


@pytest.mark.parametrize("size", [(32, 48), (200, 300), (64, 96), (100, 100)])
def test_a_mask_of_another_size_is_resized_to_the_image(tmp_path, size):
    halves = np.zeros((size[1], size[0]), np.uint8)
    halves[: size[1] // 2] = 255
    Image.fromarray(halves).save(tmp_path / "mask.png")
    placement = place((64, 96), BucketRules(enabled=False, width_px=64, height_px=96))
    mask = load_mask(tmp_path / "mask.png", placement, (0, 0), from_alpha=False)
    assert mask.shape == (12, 8)
    assert (mask[:5] > 0.95).all() and (mask[-5:] < 0.05).all()


def test_transparency_is_the_mask_and_partly_counts(tmp_path):
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, :32], alpha[:, 32:48] = 255, 51
    pixels = np.dstack([np.full((64, 64, 3), 90, np.uint8), alpha])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = load_mask(tmp_path / "a.png", place((64, 64), RULES), (0, 0), from_alpha=True)
    assert mask[0].tolist() == pytest.approx([1] * 4 + [0.2] * 2 + [0] * 2)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_an_image_without_transparency_counts_whole(tmp_path, mode):
    Image.new(mode, (64, 64), 255 if mode in ("L", "P") else (9, 9, 9, 255)[: len(mode)]).save(tmp_path / "a.png")
    assert has_alpha(tmp_path / "a.png") == (mode == "RGBA")
    assert (load_mask(tmp_path / "a.png", place((64, 64), RULES), (0, 0), from_alpha=True) == 1).all()


def test_the_transparent_colour_of_a_palette_is_outside(tmp_path):
    picture = Image.new("P", (64, 64), 0)
    picture.paste(1, (0, 0, 32, 64))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    mask = load_mask(tmp_path / "a.png", place((64, 64), RULES), (0, 0), from_alpha=True)
    assert mask[0].tolist() == [1] * 4 + [0] * 4


@pytest.mark.parametrize("from_alpha", [False, True])
def test_a_mask_is_turned_upright_as_its_image(tmp_path, from_alpha):
    values = np.zeros((96, 64), np.uint8)
    values[:48] = 255
    layers = [np.full_like(values, 255)] * 3 + [values] if from_alpha else [values] * 3
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(np.dstack(layers)).save(tmp_path / "a.png", exif=exif)
    placement = place((96, 64), BucketRules(enabled=False, width_px=96, height_px=64))
    mask = load_mask(tmp_path / "a.png", placement, (0, 0), from_alpha=from_alpha)
    assert (mask[:, 6:] == 1).all() and (mask[:, :6] == 0).all()


def test_images_without_a_mask_count_whole_beside_those_with_one(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (64, 64)).save(path)
    masks = source(tmp_path).masks(
        [image_plan(path, (64, 64), path), image_plan(path, (64, 64), None)], [Cut((0, 0), False)] * 2
    )
    assert masks.shape == (2, 1, 8, 8)
    assert (masks[0] == 0).all() and (masks[1] == 1).all()


def test_the_outside_counts_as_much_as_is_asked_and_the_inside_whole(tmp_path):
    values = np.zeros((64, 64), np.uint8)
    values[:, 32:] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    plan = image_plan(tmp_path / "a.png", (64, 64), tmp_path / "a.png")
    (mask,) = source(tmp_path, outside=0.25).masks([plan], [Cut((0, 0), True)])
    assert (mask[..., :4] == 1).all() and (mask[..., 4:] == 0.25).all()


def test_a_kept_mask_is_the_one_that_was_read_and_an_edited_one_is_read_anew(tmp_path):
    path, cuts = grey_picture(tmp_path / "a.png", (90, 70)), [Cut((0, 0), False)]
    plan = image_plan(path, (90, 70), path)
    plain = source(tmp_path).masks([plan], cuts)
    with Store.open(tmp_path / "cache", "latents") as store:
        kept = source(tmp_path, store)
        assert kept.prepare([plan], lambda done, total: None) == ([], [])
        assert torch.equal(kept.masks([plan], cuts), plain)
        grey_picture(path, (90, 70), seed=2)
        fresh = MaskSource(FileDigests(tmp_path / "other"), store, False, 0.0)
        assert not torch.equal(fresh.masks([plan], cuts), plain)


def test_unreadable_and_black_masks_are_told_all_at_once(tmp_path):
    paths = [grey_picture(tmp_path / f"{number}.png", (64, 64)) for number in range(3)]
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:300])
    Image.new("L", (64, 64)).save(paths[2])
    faults, black = source(tmp_path).prepare(
        [image_plan(path, (64, 64), path) for path in paths], lambda done, total: None
    )
    assert [problem.where for problem in faults] == [str(path) for path in paths[:2]]
    assert all("cut off" in problem.message for problem in faults)
    assert black == ["2.png"]
    assert "1 mask is black all over" in black_masks_warning(black) and "2.png" in black_masks_warning(black)


def test_a_mask_has_its_images_stem_and_lies_in_its_sub_folder_or_above(tmp_path):
    (tmp_path / "10_cat").mkdir()
    for name in ("10_cat/a.JPG", "a.png", "b.webp", "c.png.txt"):
        (tmp_path / name).touch()
    index = MaskIndex(tmp_path)
    assert index.find("10_cat", Path("a.png")) == tmp_path / "10_cat" / "a.JPG"
    assert index.find("5_dog", Path("a.jpeg")) == tmp_path / "a.png"
    assert index.find("10_cat", Path("b.png")) == tmp_path / "b.webp"
    assert index.find("10_cat", Path("c.png")) is None


def test_two_masks_of_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.png"):
        MaskIndex(tmp_path).find("10_cat", Path("a.webp"))
