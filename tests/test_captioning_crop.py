"""The tool `crop`: the pixels are those of training, the source is never touched, everything can be undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_models import green_is_a_face
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from tool_runs import carry_out, contents, files, make, propose, undo

from captioning.cutting import padded_size
from captioning.faces import face_detector
from captioning.focus import cut_around, cut_by_saliency, main_face, spectral_residual
from engine.data.buckets import BucketRules, Placement, place
from engine.data.images import load_pixels
from engine.errors import MissingPackage, ModelError, UserError

SMALL = {"width_px": 64, "height_px": 64, "bucket_min_px": 32, "bucket_max_px": 128, "bucket_step_px": 16}
ONE = {"processes": 1, **SMALL}
RULES = BucketRules(64, 64, 32, 128, 16)


def scene(seed: int, size_px: tuple[int, int] = (150, 100)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size_px, Image.Resampling.BICUBIC)


def put(path: Path, image: Image.Image, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)
    return path


def crop(folder: Path, job: str = "job", **values) -> dict[str, bytes]:
    """Run the tool on folder/set; the new files."""
    code, _ = carry_out(folder / job, "crop", folder=folder / "set", **{**ONE, **values})
    assert code == 0
    return files(folder / "set (cropped)")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("shape", ["buckets", "one_size"])
def test_the_pixels_are_those_that_training_would_cut(tmp_path: Path, shape: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = put(tmp_path / "set" / "10_x" / "a.jpg", scene(1, (170, 100)), exif=exif, quality=95)
    crop(tmp_path, shape=shape)
    shown = (100, 170) if orientation == 6 else (170, 100)
    placement = place(shown, RULES if shape == "buckets" else BucketRules(64, 64, enabled=False))
    made = tmp_path / "set (cropped)" / "10_x" / "a.png"
    np.testing.assert_array_equal(pixels(made), load_pixels(source, placement))
    with Image.open(made) as image:
        assert not image.getexif() and "icc_profile" not in image.info


def test_the_source_is_untouched_and_undo_takes_everything_away(tmp_path: Path):
    put(tmp_path / "set" / "10_x" / "a.png", scene(1))
    make(tmp_path / "set", {"10_x/a.txt": "red", "10_x/a.caption": "long", "10_x/other.txt": "no image's"})
    before = contents(tmp_path / "set")
    code, job = carry_out(tmp_path / "job", "crop", folder=tmp_path / "set", **ONE)
    made = files(tmp_path / "set (cropped)")
    assert code == 0 and {*made} == {"10_x/a.png", "10_x/a.txt", "10_x/a.caption"} and made["10_x/a.txt"] == b"red"
    assert contents(tmp_path / "set") == before
    assert undo(job).failed == []
    assert not (tmp_path / "set (cropped)").exists() and contents(tmp_path / "set") == before


def test_transparency_is_kept_or_put_on_the_background(tmp_path: Path):
    glass = scene(1).convert("RGBA")
    glass.putalpha(Image.linear_gradient("L").resize(glass.size))
    put(tmp_path / "set" / "a.png", glass)
    crop(tmp_path)
    kept = pixels(tmp_path / "set (cropped)" / "a.png")
    assert kept.shape[2] == 4 and kept[0, 0, 3] < 20 and kept[-1, 0, 3] > 235
    crop(tmp_path, "job2", alpha="flatten", background="#ff0000", target=tmp_path / "flat")
    flat = pixels(tmp_path / "flat" / "a.png")
    assert flat.shape[2] == 3 and flat[0, 0, 0] > 230 and flat[0, 0, 1] < 30
    crop(tmp_path, "job3", format="jpg", target=tmp_path / "jpg")
    assert pixels(tmp_path / "jpg" / "a.jpg").shape[2] == 3


def test_padding_shows_the_whole_image(tmp_path: Path):
    put(tmp_path / "set" / "a.png", Image.new("RGB", (300, 90), (0, 0, 255)))
    crop(tmp_path, padding=True, shape="one_size", background="#00ff00")
    shown = pixels(tmp_path / "set (cropped)" / "a.png")
    assert shown.shape == (64, 64, 3)
    blue = (shown == (0, 0, 255)).all(axis=2)
    assert blue.any(axis=1).sum() == 19 and blue.any(axis=0).all()
    assert ((shown == (0, 255, 0)).all(axis=2) | blue).all()


def test_masks_are_cut_with_their_images(tmp_path: Path):
    left = np.zeros((90, 300, 3), np.uint8)
    left[:, 200:280] = 255
    put(tmp_path / "set" / "10_x" / "a.png", Image.fromarray(left))
    put(tmp_path / "masks" / "10_x" / "a.png", Image.fromarray(left[::2, ::2]))
    crop(tmp_path, focus="saliency", shape="one_size", mask_folder=tmp_path / "masks")
    image = pixels(tmp_path / "set (cropped)" / "10_x" / "a.png")[:, :, 0]
    mask = pixels(tmp_path / "set (cropped) masks" / "10_x" / "a.png")
    assert mask.shape == image.shape == (64, 64) and image.mean() > 100
    assert np.abs(image.astype(int) - mask).mean() < 6


def test_small_images_are_flagged_and_may_be_left_out(tmp_path: Path):
    put(tmp_path / "set" / "small.png", scene(1, (32, 32)))
    put(tmp_path / "set" / "large.png", scene(2, (128, 128)))
    proposal = propose("crop", folder=tmp_path / "set", **ONE)
    notes = {Path(row.source).name: (row.action, row.note) for row in proposal.rows}
    assert notes["small.png"] == ("crop, enlarged", "32 × 32 → 64 × 64 px, enlarged 2.00 times")
    assert notes["large.png"][0] == "crop" and "1 image smaller" in proposal.warnings[0].message
    assert {*crop(tmp_path, small_images="leave_out")} == {"large.png"}


def test_names_that_differ_in_their_suffix_alone_stay_apart(tmp_path: Path):
    put(tmp_path / "set" / "a.png", scene(1))
    put(tmp_path / "set" / "A.jpg", scene(2))
    assert {*crop(tmp_path)} == {"a_png.png", "A_jpg.png"}


def test_a_second_time_what_is_there_is_kept(tmp_path: Path):
    put(tmp_path / "set" / "a.png", scene(1))
    first = crop(tmp_path)
    put(tmp_path / "set" / "b.png", scene(2))
    again = crop(tmp_path, "job2")
    assert again["a.png"] == first["a.png"] and "b.png" in again


def test_a_damaged_image_fails_alone(tmp_path: Path):
    whole = put(tmp_path / "set" / "a.png", scene(1))
    (tmp_path / "set" / "cut.png").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "set" / "empty.png").write_bytes(b"")
    code, job = carry_out(tmp_path / "job", "crop", folder=tmp_path / "set", **ONE)
    assert code == 2 and {*files(tmp_path / "set (cropped)")} == {"a.png"}
    outcomes = {Path(done.row.source).name: done for done in job.read_table()[0]}
    assert outcomes["cut.png"].outcome == "failed" and "cannot be decoded" in outcomes["cut.png"].row.note
    assert "empty.png" in str(propose("crop", folder=tmp_path / "set", **ONE).warnings[0])


def test_several_processes_make_the_same_files(tmp_path: Path):
    for seed in range(3):
        put(tmp_path / "set" / f"{seed}.png", scene(seed))
    one = crop(tmp_path)
    code, _ = carry_out(
        tmp_path / "job2", "crop", folder=tmp_path / "set", target=tmp_path / "two", **{**ONE, "processes": 2}
    )
    assert code == 0 and files(tmp_path / "two") == one


@pytest.mark.parametrize("target", ["set", "set/inner", "."])
def test_the_new_folder_is_never_the_source(tmp_path: Path, target: str):
    put(tmp_path / "set" / "a.png", scene(1))
    with pytest.raises(UserError, match="Choose one beside it"):
        propose("crop", folder=tmp_path / "set", target=tmp_path / target)


def test_settings_that_cannot_be_are_told(tmp_path: Path):
    put(tmp_path / "set" / "a.png", scene(1))
    for wrong, match in (
        ({"bucket_min_px": 50}, "multiple of the bucket step"),
        ({"background": "blau"}, "must be a colour"),
        ({"focus": "face", "face_model": tmp_path / "no.onnx"}, "there is no such file"),
        ({"focus": "face", "face_model": tmp_path / "set" / "a.png"}, "no YuNet model"),
    ):
        with pytest.raises(UserError, match=match):
            propose("crop", folder=tmp_path / "set", **{**ONE, **wrong})


PLACEMENTS = st.builds(
    lambda width, height, side: place((width, height), BucketRules(side, side, enabled=False)),
    st.integers(20, 3000),
    st.integers(20, 3000),
    st.sampled_from([64, 1024]),
)


@given(PLACEMENTS, st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_every_cut_lies_in_the_picture_and_around_its_centre(placement: Placement, x: float, y: float):
    left_top = cut_around(placement, (x, y))
    for start, resized, bucket, share in zip(left_top, placement.resized_px, placement.bucket_px, (x, y), strict=True):
        assert 0 <= start <= resized - bucket
        if bucket / 2 <= share * resized <= resized - bucket / 2:
            assert abs(start + bucket / 2 - share * resized) <= 0.5
    assert cut_by_saliency(placement, np.ones((9, 13))) == pytest.approx(placement.crop_left_top_px, abs=1)


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.tuples(st.integers(8, 99), st.integers(8, 99)))
def test_padded_images_fit_and_touch(size: tuple[int, int], bucket: tuple[int, int]):
    inner = padded_size(size, bucket)
    assert all(1 <= a <= b for a, b in zip(inner, bucket, strict=True))
    assert any(a == b for a, b in zip(inner, bucket, strict=True))


def test_saliency_finds_what_differs_and_nothing_in_an_even_picture():
    even = np.full((120, 360, 3), 128, np.uint8)
    assert not spectral_residual(even).any()
    spot = even.copy()
    spot[50:70, 300:320] = (250, 30, 30)
    placement = place((360, 120), BucketRules(120, 120, enabled=False))
    left, _ = cut_by_saliency(placement, spectral_residual(spot))
    assert left <= 300 and left + 120 >= 320


def test_the_largest_face_counts():
    assert main_face([]) is None
    assert main_face([(0.1, 0.1, 0.1, 0.1), (0.6, 0.2, 0.2, 0.4)]) == pytest.approx((0.7, 0.4))


def painted_face(side_px: int) -> Image.Image:
    """What OpenCV's cascade takes for a face: eyes and mouth darker than brow, nose and cheeks."""
    face = Image.new("L", (side_px, side_px), 90)
    draw = ImageDraw.Draw(face)

    def box(*shares: float) -> list[float]:
        return [share * side_px for share in shares]

    draw.ellipse(box(0.15, 0.02, 0.85, 0.98), fill=200)
    draw.pieslice(box(0.13, 0.0, 0.87, 0.6), 180, 360, fill=50)
    draw.rectangle(box(0.2, 0.24, 0.8, 0.34), fill=195)
    for x in (0.35, 0.65):
        draw.ellipse(box(x - 0.13, 0.36, x + 0.13, 0.5), fill=110)
        draw.ellipse(box(x - 0.06, 0.4, x + 0.06, 0.47), fill=30)
        draw.rectangle(box(x - 0.12, 0.335, x + 0.12, 0.365), fill=70)
    draw.rectangle(box(0.46, 0.36, 0.54, 0.64), fill=225)
    draw.ellipse(box(0.42, 0.62, 0.58, 0.69), fill=140)
    draw.ellipse(box(0.35, 0.75, 0.65, 0.83), fill=90)
    return face.filter(ImageFilter.GaussianBlur(side_px / 50)).convert("RGB")


def test_a_face_is_found_and_kept_in_the_cut(tmp_path: Path):
    wide = Image.new("RGB", (1000, 320), (90, 90, 90))
    wide.paste(painted_face(140), (800, 60))
    put(tmp_path / "set" / "a.png", wide)
    put(tmp_path / "set" / "b.png", Image.new("RGB", (200, 100), (3, 3, 3)))
    code, job = carry_out(tmp_path / "job", "crop", folder=tmp_path / "set", focus="face", shape="one_size", **ONE)
    assert code == 0
    notes = {Path(done.row.source).name: done.row.note for done in job.read_table()[0]}
    assert "no face found" in notes["b.png"] and "no face" not in notes["a.png"]
    x, y = main_face(face_detector("")(np.asarray(wide))) or (0.0, 0.0)
    assert 850 < x * 1000 < 890 and 110 < y * 320 < 150


@pytest.mark.parametrize("left", [20, 830])
def test_a_yunet_model_says_where_the_face_is(tmp_path: Path, left: int):
    model = green_is_a_face(tmp_path / "yunet.onnx")
    picture = np.full((301, 977, 3), 60, np.uint8)
    picture[100:200, left : left + 100] = (0, 255, 0)
    put(tmp_path / "set" / "a.png", Image.fromarray(picture))
    crop(tmp_path, focus="face", face_model=model, shape="one_size")
    shown = pixels(tmp_path / "set (cropped)" / "a.png")
    assert (shown[:, :, 1] > 200).mean() == pytest.approx(100 * 100 / 301**2, rel=0.1)


def test_without_a_detector_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    face_detector.cache_clear()
    monkeypatch.setattr("captioning.faces._CASCADE", "none.xml")
    with pytest.raises(MissingPackage, match=r"OpenCV's none\.xml is missing here"):
        face_detector("")
    with pytest.raises(ModelError, match="there is no such file"):
        face_detector("/nowhere/yunet.onnx")
