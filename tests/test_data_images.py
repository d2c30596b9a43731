"""Pixels equal the reference to the last bit; every colour mode ends as opaque eight-bit sRGB."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REFERENCE
from PIL import Image, ImageCms
from safetensors.numpy import load_file

from engine.data.buckets import BucketRules, Placement, Size, place
from engine.data.images import Resampling, load_pixels, open_upright
from engine.errors import DatasetError

CASES = json.loads((REFERENCE / "image.json").read_text(encoding="utf-8"))["cases"]
EXPECTED = load_file(REFERENCE / "image.safetensors")
WHOLE = Placement((8, 8), (8, 8), (0, 0))


def pattern(width_px: int, height_px: int) -> np.ndarray:
    """The reference's input: a fine-grained part and three ramps."""
    flat = np.arange(width_px * height_px * 3).reshape(height_px, width_px, 3)
    y, x = np.mgrid[:height_px, :width_px]
    across, down = x * 255 // (width_px - 1), y * 255 // (height_px - 1)
    ramp = np.stack([across, down, (x + y) * 255 // (width_px + height_px - 2)], axis=-1)
    return (flat * 7919 % 256 // 4 + ramp * 3 // 4).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def color_of(path: Path, background: str = "#ffffff") -> tuple[int, ...]:
    """The middle pixel."""
    pixels = load_pixels(path, WHOLE, background=background)
    return tuple(int(value) for value in pixels[4, 4])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_resize_and_cut_equal_the_reference_to_the_last_bit(tmp_path: Path, case: dict):
    width_px, height_px = case["size_wh"]
    path = saved(tmp_path / "x.png", Image.fromarray(pattern(width_px, height_px)))
    rules = BucketRules(64, 64, min_px=32, max_px=128, step_px=8, upscale=case["name"].endswith("_up"))
    pixels = load_pixels(path, place((width_px, height_px), rules))
    np.testing.assert_array_equal(pixels, EXPECTED[f"{case['name']}.uint8"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256"]


@pytest.mark.parametrize(
    ("resampling", "expected"),
    [
        ("nearest", cv2.INTER_NEAREST),
        ("bilinear", cv2.INTER_LINEAR),
        ("bicubic", cv2.INTER_CUBIC),
        ("area", cv2.INTER_AREA),
    ],
)
@pytest.mark.parametrize("resized_px", [(64, 64), (200, 160)])
def test_a_chosen_method_resizes_everything(tmp_path: Path, resampling: Resampling, expected: int, resized_px: Size):
    path = saved(tmp_path / "x.png", Image.fromarray(pattern(100, 80)))
    placement = Placement((64, 64), resized_px, (0, 0))
    if resized_px == (64, 64):
        path = saved(tmp_path / "x.png", Image.fromarray(pattern(100, 100)))
    whole = np.asarray(Image.open(path))
    pixels = load_pixels(path, placement, resampling=resampling)
    np.testing.assert_array_equal(pixels, cv2.resize(whole, resized_px, interpolation=expected)[:64, :64])


def test_a_flip_mirrors_the_cut_and_a_given_place_is_cut_there(tmp_path: Path):
    path = saved(tmp_path / "x.png", Image.fromarray(pattern(100, 80)))
    placement = Placement((64, 64), (100, 80), (18, 8))
    plain = load_pixels(path, placement, crop_left_top=(3, 5))
    np.testing.assert_array_equal(plain, pattern(100, 80)[5:69, 3:67])
    np.testing.assert_array_equal(load_pixels(path, placement, crop_left_top=(3, 5), flip=True), plain[:, ::-1])


def test_a_cut_at_the_corner_is_not_taken_for_no_cut(tmp_path: Path):
    path = saved(tmp_path / "x.png", Image.fromarray(pattern(100, 80)))
    pixels = load_pixels(path, Placement((64, 64), (100, 80), (18, 8)), crop_left_top=(0, 0))
    np.testing.assert_array_equal(pixels, pattern(100, 80)[:64, :64])


@pytest.mark.parametrize("background", ["#ffffff", "#204060"])
def test_transparent_parts_show_the_background_and_hide_what_was_under_them(tmp_path: Path, background: str):
    path = saved(tmp_path / "x.png", Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert color_of(path, background) == tuple(bytes.fromhex(background[1:]))


def test_half_transparent_colours_mix_with_the_background(tmp_path: Path):
    path = saved(tmp_path / "x.png", Image.new("RGBA", (8, 8), (255, 0, 0, 128)))
    assert color_of(path, "#000000") == (128, 0, 0)


def test_palettes_and_colour_keys_with_transparency_show_the_background(tmp_path: Path):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert color_of(saved(tmp_path / "a.png", palette)) == (0, 255, 0)
    assert color_of(saved(tmp_path / "b.png", palette, transparency=1), "#0000ff") == (0, 0, 255)
    keyed = saved(tmp_path / "c.png", Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))
    assert color_of(keyed, "#0000ff") == (0, 0, 255)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 90, (90, 90, 90)), ("LA", (90, 255), (90, 90, 90)), ("1", 1, (255, 255, 255))],
)
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str, value, expected):
    assert color_of(saved(tmp_path / "x.png", Image.new(mode, (8, 8), value))) == expected


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path: Path, suffix: str):
    values = np.full((8, 8), 32768, dtype=np.uint16)
    assert color_of(saved(tmp_path / f"x{suffix}", Image.fromarray(values))) == (128, 128, 128)


def test_pixels_of_32_bits_are_refused(tmp_path: Path):
    path = saved(tmp_path / "x.tif", Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)))
    with pytest.raises(DatasetError, match=r"x\.tif: has pixels of 32 bits.*8 or 16 bits"):
        open_upright(path)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted(tmp_path: Path, suffix: str):
    path = saved(tmp_path / f"x{suffix}", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    assert color_of(path) == pytest.approx((255, 0, 0), abs=3)


def test_an_embedded_profile_is_followed(tmp_path: Path):
    """A profile with red and blue swapped says best what is done with it: XYZ columns of sRGB, exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    at = profile.index(b"s\0R\0G\0B")
    profile[at : at + 8] = b"t\0e\0s\0t\0"[:8]
    image = Image.new("RGB", (8, 8), (255, 0, 0))
    assert color_of(saved(tmp_path / "x.png", image, icc_profile=bytes(profile))) == pytest.approx((0, 0, 255), abs=6)


def test_an_srgb_or_damaged_profile_changes_nothing(tmp_path: Path):
    image = Image.fromarray(pattern(8, 8))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"nonsense", srgb[:16] + b"RGB " + bytes(200)):
        path = saved(tmp_path / "x.png", image, icc_profile=profile)
        np.testing.assert_array_equal(load_pixels(path, WHOLE), pattern(8, 8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_a_truncated_body_is_named_when_it_is_decoded(tmp_path: Path, kind: str):
    path = saved(tmp_path / "cut.png", Image.fromarray(pattern(200, 200)), format=kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"cut\.png: .*(Replace it|take it out)"):
        load_pixels(path, Placement((64, 64), (64, 64), (0, 0)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_damaged_bytes_bring_pixels_or_a_sentence(tmp_path: Path, kind: str):
    whole = saved(tmp_path / "whole", Image.fromarray(pattern(40, 40)), format=kind).read_bytes()
    path = tmp_path / "damaged"
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert open_upright(path).mode == "RGB"
        except DatasetError as error:
            assert str(path) in str(error)


def test_an_image_that_was_replaced_after_the_scan_is_refused(tmp_path: Path):
    path = saved(tmp_path / "x.png", Image.fromarray(pattern(100, 50)))
    with pytest.raises(DatasetError, match=r"has changed since the folder was scanned \(it is 100 × 50 px now\)"):
        load_pixels(path, place((50, 100), BucketRules(64, 64, 32, 128, 8)))
