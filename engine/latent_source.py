"""VAE moments of images, from the cache or computed now.

Keyed by content, so that an edited image, another VAE or another caption can never train on stale features. What was
computed is read back from the store before it is used: a run and its resume see the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.data.cache import Store, content_key, kept_dtype
from engine.data.color import UNSHIFTED, ColorShift, shift_color
from engine.data.digests import FileDigests
from engine.data.images import PIXELS_VERSION, Resampling, load_pixels
from engine.errors import DatasetError, Problem
from engine.plan_images import ImagePlan
from engine.sdxl.latents import encode_moments

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

FORMAT = b"1"
Tell = Callable[[int, int], None]  # done, total; may raise to stop
READERS = 4


@dataclass(frozen=True)
class Cut:
    """How one image is cut and coloured this time."""

    left_top_px: tuple[int, int]
    flip: bool
    color: ColorShift = UNSHIFTED


class LatentSource:
    """VAE moments [8, h, w] of images; from `store` where one is given, else encoded when asked."""

    def __init__(
        self,
        vae: AutoencoderKL,
        digest: str,
        files: FileDigests,
        store: Store | None,
        look: tuple[str, Resampling],
        warn: Callable[[str], None],
    ) -> None:
        self.vae = vae
        self.digest = digest
        self.files = files
        self._keys: dict[tuple[ImagePlan, Cut], bytes] = {}
        self.store = store
        self.background: str = look[0]
        self.resampling: Resampling = look[1]
        self.warn = warn
        self.kept = kept_dtype(vae.dtype)

    def prepare(self, images: Sequence[ImagePlan], flips: Sequence[bool], batch_size: int, tell: Tell) -> list[Problem]:
        """Encode what the store lacks, or, without a store, read every image once. Returns the unreadable images."""
        if self.store:
            self.files.of_all([image.path for image in images])
        wanted = [(image, Cut(image.crop_left_top_px, flip)) for image in images for flip in flips]
        faults: list[Problem] = []
        done = 0
        for rows in _batches(wanted, batch_size if self.store else 64, self._is_missing):
            pixels, broken = self._read(rows)
            faults += broken
            if self.store and pixels:
                kept_rows = [row for row, _ in pixels]
                moments = self._encode(np.stack([array for _, array in pixels]))
                for (image, cut), values in zip(kept_rows, moments, strict=True):
                    self.store.put(self._key(image, cut), {"moments": values})
            done += len(rows)
            tell(done, len(wanted))
        if self.store:
            self.store.flush()
            self.files.save()
        return list({problem.where: problem for problem in faults}.values())

    def moments(self, images: Sequence[ImagePlan], cuts: Sequence[Cut]) -> torch.Tensor:
        """[B, 8, h, w] fp32 on the CPU (from the store) or on the VAE's device."""
        rows = list(zip(images, cuts, strict=True))
        if self.store is None:
            pixels, broken = self._read(rows)
            if broken:
                raise DatasetError(broken[0].message, broken[0].where)
            return self._encode(np.stack([array for _, array in pixels])).float()
        found = [self.store.get(self._key(image, cut)) for image, cut in rows]
        return torch.stack([values["moments"] for values in found if values is not None]).float()

    def _is_missing(self, row: tuple[ImagePlan, Cut]) -> bool:
        return self.store is None or not self.store.has(self._key(*row))

    def _read(
        self, rows: Sequence[tuple[ImagePlan, Cut]]
    ) -> tuple[list[tuple[tuple[ImagePlan, Cut], np.ndarray]], list[Problem]]:
        """Decode images in threads; those that cannot be decoded become problems."""
        read: list[tuple[tuple[ImagePlan, Cut], np.ndarray]] = []
        faults: list[Problem] = []
        with ThreadPoolExecutor(READERS) as pool:
            futures = [pool.submit(self._pixels, *row) for row in rows]
            for row, future in zip(rows, futures, strict=True):
                try:
                    read.append((row, future.result()))
                except DatasetError as error:
                    faults += error.problems
        return read, faults

    def _pixels(self, image: ImagePlan, cut: Cut) -> np.ndarray:
        pixels = load_pixels(
            image.path,
            image.placement,
            background=self.background,
            crop_left_top=cut.left_top_px,
            flip=cut.flip,
            resampling=self.resampling,
        )
        return shift_color(pixels, cut.color)

    def _encode(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 [B, H, W, 3] → moments [B, 8, h, w] in the kept precision."""
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.no_grad():
            return encode_moments(self.vae, values, self.warn).to(self.kept)

    def _key(self, image: ImagePlan, cut: Cut) -> bytes:
        known = self._keys.get((image, cut))
        if known is not None:
            return known
        parts = [*image.bucket_px, *image.resized_px, *cut.left_top_px, int(cut.flip)]
        shape = ",".join(str(part) for part in parts).encode()
        seen = self.background if self.resampling == "auto" else f"{self.background},{self.resampling}"
        color = "" if cut.color == UNSHIFTED else f",{cut.color}"
        about = f"{PIXELS_VERSION},{seen},{self.kept},{self.vae.dtype}{color}".encode()
        key = content_key(FORMAT, self.files.of(image.path), self.digest.encode(), shape, about)
        self._keys[image, cut] = key
        return key


def _batches(
    rows: Sequence[tuple[ImagePlan, Cut]], size: int, wanted: Callable[[tuple[ImagePlan, Cut]], bool]
) -> Iterator[list[tuple[ImagePlan, Cut]]]:
    """Rows that are wanted, bucket by bucket, `size` at once."""
    by_bucket: dict[tuple[int, int], list[tuple[ImagePlan, Cut]]] = {}
    for row in rows:
        by_bucket.setdefault(row[0].bucket_px, []).append(row)
    for members in by_bucket.values():
        missing = [row for row in members if wanted(row)]
        for at in range(0, len(missing), size):
            yield missing[at : at + size]
