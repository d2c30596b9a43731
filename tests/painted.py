"""Painted pictures for tests of comparisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


class Painted:
    """Pictures of 32 × 32 pixels with some noise: blue squares by the base model, yellow discs in training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def drawn(self, place: int, prompt: int, seed: int) -> Path:
        has_learnt = place >= 2 if prompt == 0 else place == 3
        paint = self.disc if has_learnt else self.square
        return paint(seed, f"{place}-{prompt}-{seed}")

    def disc(self, number: int, name: str) -> Path:
        across, down = np.mgrid[:32, :32]
        inside = (across - 14 - number) ** 2 + (down - 16) ** 2 < 90
        return self._save(inside, (230, 210, 40), number, name)

    def square(self, number: int, name: str) -> Path:
        inside = np.zeros((32, 32), bool)
        inside[4 + 8 * number : 16 + 8 * number, 6:26] = True
        return self._save(inside, (40, 60, 220), number, name)

    def _save(self, inside: np.ndarray, colour: tuple[int, int, int], number: int, name: str) -> Path:
        pixels = np.where(inside[..., None], colour, (235, 235, 235)) + np.random.default_rng(number).integers(
            -9, 9, (32, 32, 3)
        )
        path = self.folder / f"{name}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        return path
