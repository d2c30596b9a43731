"""The grid of a comparison: legends, pictures of several sizes, failed cells, limits; strips and animations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.compare.fonts import font_for, lacks, spelled, wrapped
from engine.compare.grid import BACKGROUND, QUIET, Legends, Look, grid_picture, save_grid
from engine.compare.strip import save_animation, strip_picture
from engine.errors import UserError

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


def picture(folder: Path, number: int = 0, size: tuple[int, int] = (64, 64)) -> Path:
    path = folder / f"{number}-{size[0]}.png"
    Image.new("RGB", size, COLOURS[number]).save(path)
    return path


def count(grid: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(grid) == colour).all(axis=-1).sum())


def test_every_picture_stands_in_its_cell(tmp_path: Path):
    items = {(x, y): picture(tmp_path, 2 * y + x) for x in (0, 1) for y in (0, 1)}
    grid = grid_picture(items, Legends(("one", "two"), ("up", "down"), "z"), Look())
    assert [count(grid, colour) for colour in COLOURS] == [64 * 64] * 4
    pixels = np.asarray(grid)
    where = [np.argwhere((pixels == colour).all(axis=-1)).min(axis=0) for colour in COLOURS]
    assert where[0][0] == where[1][0] < where[2][0]
    assert where[0][1] == where[2][1] < where[1][1]


def test_a_smaller_picture_keeps_its_size_and_large_ones_are_scaled(tmp_path: Path):
    items = {(0, 0): picture(tmp_path, 0, (32, 64)), (1, 0): picture(tmp_path, 1, (64, 32))}
    grid = grid_picture(items, Legends(("a", "b"), ("",)), Look())
    assert [count(grid, colour) for colour in COLOURS[:2]] == [32 * 64] * 2
    small = grid_picture(items, Legends(("a", "b"), ("",)), Look(cell_px=32))
    assert count(small, COLOURS[0]) == 16 * 32


def test_a_failed_and_a_missing_cell_are_told_in_the_grid(tmp_path: Path):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    items = {(0, 0): picture(tmp_path, 0, (128, 128)), (1, 0): "memory did not suffice.", (2, 0): tmp_path / "torn.png"}
    grid = grid_picture(items, Legends(("a", "b", "c", "d"), ("",)), Look())
    assert count(grid, COLOURS[0]) == 128 * 128
    for cell in range(1, 4):
        part = grid.crop((6 + cell * 134, grid.height - 6 - 128, 6 + cell * 134 + 128, grid.height - 6))
        assert part.getpixel((1, 1)) == QUIET
        assert count(part, QUIET) < 128 * 128 - 100


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_no_grid_is_larger_than_its_limits(tmp_path: Path, kind: str):
    path = picture(tmp_path, 0, (512, 256))
    items = {(x, y): path for x in range(30) for y in range(3)}
    look = Look(most_px=2000, format=kind)
    grid = grid_picture(items, Legends(tuple(f"step {x}" for x in range(30)), ("a", "b", "c")), look)
    assert max(grid.size) <= 2000
    with pytest.raises(UserError, match="Put one axis on z"):
        grid_picture(items, Legends(("x",) * 400, ("y",) * 3), look)


@pytest.mark.slow
def test_long_labels_are_wrapped_to_the_width_and_lose_their_middle(tmp_path: Path):
    font = font_for(["a"], 16)
    for text in ("a short one", "one_very_long_name_without_any_space-000123.safetensors", "word " * 40, "x" * 300):
        lines = wrapped(text, font, 100, 4)
        assert len(lines) <= 4
        assert all(font.getlength(line) <= 100 for line in lines)
    assert wrapped("begin " + "middle " * 50 + "end", font, 100, 3)[-1].endswith("end")
    assert "".join(wrapped("folder/name-000123", font, 60, 9)) == "folder/name-000123"
    wide = grid_picture({(0, 0): picture(tmp_path)}, Legends(("label " * 30,), ("",)), Look())
    assert wide.width < 64 + 40


def test_letters_that_a_font_lacks_are_known():
    own = font_for(["latin"], 16)
    assert lacks(own, ["a", "Z", "7", "中"]) == ["中"]
    assert spelled("64×64 中", own) == "64x64 中"
    with pytest.raises(UserError, match="font"):
        font_for(["a"], 16, __file__)


def test_a_strip_breaks_into_rows_of_equal_cells(tmp_path: Path):
    frames = [(f"step {n}", picture(tmp_path, n)) for n in range(3)]
    strip = strip_picture(frames, 2, Look(cell_px=64))
    assert [count(strip, colour) for colour in COLOURS[:3]] == [64 * 64] * 3
    assert strip.getpixel((strip.width - 8, strip.height - 20)) == BACKGROUND


def test_an_animation_has_a_frame_for_each_step_and_rests_at_the_last(tmp_path: Path):
    frames = [(f"step {n}", picture(tmp_path, n)) for n in range(3)]
    save_animation(frames, 0.25, Look(cell_px=64), tmp_path / "way.webp")
    opened: Any = Image.open(tmp_path / "way.webp")
    with opened as moving:
        assert moving.n_frames == 3
        times = []
        for frame in range(3):
            moving.seek(frame)
            moving.load()
            times.append(moving.info["duration"])
    assert times == [250, 250, 1000]


@pytest.mark.parametrize("name", ["grid.png", "grid.jpg", "grid.webp"])
def test_grids_are_written_in_each_kind(tmp_path: Path, name: str):
    save_grid(Image.new("RGB", (20, 10)), tmp_path / name)
    with Image.open(tmp_path / name) as read:
        assert read.size == (20, 10)
