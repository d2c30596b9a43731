"""Sizes read from headers are those that decoding gives, whatever the format and orientation."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from engine.data import headers
from engine.data.headers import ImageHeader, jpeg_reduction, read_image_header, refusal_of_size
from engine.data.images import open_upright
from engine.errors import DatasetError

SAVED_WITH_EXIF = ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"]


def saved(path: Path, kind: str, size_px: tuple[int, int] = (40, 24), orientation: int = 1, **options) -> Path:
    """An image whose upper left quarter is red, saved as `kind`; `orientation` goes into its EXIF data."""
    image = Image.new("RGB", size_px, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, size_px[0] // 2, size_px[1] // 2))
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", SAVED_WITH_EXIF)
def test_the_size_is_the_one_that_decoding_gives(tmp_path: Path, kind: str, orientation: int):
    path = saved(tmp_path / "x", kind, orientation=orientation)
    size_px = (24, 40) if orientation >= 5 else (40, 24)
    assert read_image_header(path).size_px == size_px
    assert open_upright(path).size == size_px


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", SAVED_WITH_EXIF)
def test_the_red_corner_stands_where_exif_says(tmp_path: Path, kind: str, orientation: int):
    image = open_upright(saved(tmp_path / "x", kind, orientation=orientation))
    right = orientation in (2, 3, 6, 7)
    bottom = orientation in (3, 4, 7, 8)
    corner = (image.width - 4 if right else 3, image.height - 4 if bottom else 3)
    red, _, blue = image.getpixel(corner)  # pyright: ignore[reportGeneralTypeIssues]
    assert red > 200
    assert blue < 60


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"lossless": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0"}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"x" * 60_000}),
        ("PNG", {"compress_level": 0}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
@pytest.mark.parametrize("size_px", [(1, 1), (700, 3), (123, 457)])
def test_every_format_is_read_at_odd_sizes(tmp_path: Path, kind: str, options: dict, size_px: tuple[int, int]):
    path = saved(tmp_path / "wrong suffix.png", kind, size_px, **options)
    assert read_image_header(path) == ImageHeader(size_px, 1, kind)


def test_a_jpeg_with_a_large_thumbnail_and_profile_is_read(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 50_000
    path = saved(tmp_path / "x.jpg", "JPEG", exif=exif, icc_profile=bytes(150_000))
    assert read_image_header(path) == ImageHeader((24, 40), 6, "JPEG")


def test_an_old_bmp_header_is_read(tmp_path: Path):
    path = tmp_path / "x.bmp"
    path.write_bytes(b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 70, 50, 1, 24))
    assert read_image_header(path).size_px == (70, 50)


def test_a_top_down_bmp_has_a_positive_height(tmp_path: Path):
    path = tmp_path / "x.bmp"
    path.write_bytes(b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 70, -50, 1, 24) + bytes(24))
    assert read_image_header(path).size_px == (70, 50)


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff\0\x01", b"II*\0\x08\0\0\0\xff\xff", b"nonsense"]
)
def test_damaged_exif_leaves_the_image_upright(tmp_path: Path, block: bytes):
    path = saved(tmp_path / "x.jpg", "JPEG", exif=b"Exif\0\0" + block)
    assert read_image_header(path) == ImageHeader((40, 24), 1, "JPEG")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just some text", "is not an image"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (bytes(500), "nothing but zeros"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "cut off"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "cut off"),
        (b"\xff\xd8\xff\xe0\0\x04ab" + bytes(20), "damaged header"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "cut off"),
        (b"RIFF\0\0\0\0WEBPnone" + bytes(40), "damaged header"),
        (b"BM\0\0", "cut off"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(8) + b"\x08\x02\0\0\0" + bytes(4) + b"\0\0\0\0IDAT", "no pixels"),
    ],
)
def test_files_that_are_no_image_are_named_with_the_reason(tmp_path: Path, content: bytes, sentence: str):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=sentence) as caught:
        read_image_header(path)
    assert caught.value.problems[0].where == str(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF", "GIF"])
def test_no_truncation_brings_anything_but_a_header_or_a_sentence(tmp_path: Path, kind: str):
    whole = saved(tmp_path / "whole", kind, orientation=6 if kind in SAVED_WITH_EXIF else 1).read_bytes()
    path = tmp_path / "cut"
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:length])
        try:
            assert read_image_header(path).size_px in ((40, 24), (24, 40))
        except DatasetError as error:
            assert str(path) in str(error)


def huge_png(path: Path, size_px: tuple[int, int]) -> Path:
    """The start of a PNG of `size_px`; enough for its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", *size_px, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))))
    return path


def test_a_png_beyond_the_limit_is_refused_with_size_limit_and_remedy(tmp_path: Path):
    path = huge_png(tmp_path / "x.png", (30_000, 30_000))
    assert refusal_of_size(read_image_header(path)) is not None
    with pytest.raises(DatasetError, match=r"x\.png: is too large.*got 30000 × 30000 px; the limit is 250 million"):
        open_upright(path)


def test_a_long_thin_image_of_30000_pixels_is_fine(tmp_path: Path):
    path = saved(tmp_path / "x.png", "PNG", (30_000, 20))
    assert open_upright(path).size == (30_000, 20)


def test_a_jpeg_beyond_the_limit_is_decoded_at_a_reduced_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path / "x.jpg", "JPEG", (640, 400), quality=95)
    monkeypatch.setattr(headers, "DECODE_LIMIT_PX", 640 * 400 // 5)
    assert jpeg_reduction((640, 400)) == 4
    image = open_upright(path)
    assert image.size == (160, 100)
    assert image.getpixel((10, 10)) == pytest.approx((255, 0, 0), abs=8)


def test_reduced_scales_keep_within_the_limit():
    assert jpeg_reduction((10_000, 10_000)) == 1
    assert jpeg_reduction((30_000, 30_000)) == 2
    assert jpeg_reduction((60_000, 60_000)) == 4
    assert refusal_of_size(ImageHeader((65_535, 65_535), 1, "JPEG")) is None


def test_pillows_own_limit_does_not_stop_a_large_image(tmp_path: Path):
    with Image.open(huge_png(tmp_path / "x.png", (20_000, 12_000))) as image:
        assert image.size == (20_000, 12_000)
