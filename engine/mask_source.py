"""Masks of images at latent size, from the cache or computed now; they are cut, and mirrored, as the image is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from engine.data.cache import Store, content_key
from engine.data.digests import FileDigests
from engine.data.masks import MASKS_VERSION, load_mask
from engine.errors import DatasetError, Problem
from engine.latent_source import READERS, Cut, Tell
from engine.plan_images import ImagePlan

_BLACK_NAMED = 5


class MaskSource:
    """What each latent cell of an image counts. `outside`: what a black part counts; images without mask count whole.

    With `store` each mask is computed once for each cut and kept; without, each time it is asked for.
    """

    def __init__(self, files: FileDigests, store: Store | None, from_alpha: bool, outside: float) -> None:
        self.files = files
        self.store = store
        self.from_alpha = from_alpha
        self.outside = outside

    def prepare(self, images: Sequence[ImagePlan], tell: Tell) -> tuple[list[Problem], list[str]]:
        """Read all masks once: those that cannot be decoded, and the names of images whose mask is black all over."""
        masked = [image for image in images if image.mask is not None]
        faults: list[Problem] = []
        black: list[str] = []
        with ThreadPoolExecutor(READERS) as pool:
            futures = [pool.submit(self._cells, image, image.crop_left_top_px) for image in masked]
            for done, (image, future) in enumerate(zip(masked, futures, strict=True), 1):
                try:
                    if not future.result().any():
                        black.append(image.path.name)
                except DatasetError as error:
                    faults += error.problems
                tell(done, len(masked))
        if self.store:
            self.store.flush()
            self.files.save()
        return faults, black

    def masks(self, images: Sequence[ImagePlan], cuts: Sequence[Cut]) -> torch.Tensor:
        """[B, 1, h, w] fp32 on the CPU, of images of one bucket; 1 where an image has no mask."""
        return torch.stack([self._mask(image, cut) for image, cut in zip(images, cuts, strict=True)]).unsqueeze(1)

    def _mask(self, image: ImagePlan, cut: Cut) -> torch.Tensor:
        if image.mask is None:
            width_px, height_px = image.bucket_px
            return torch.ones(height_px // 8, width_px // 8)
        cells = self._cells(image, cut.left_top_px)
        cells = cells.flip(-1) if cut.flip else cells
        return self.outside + (1.0 - self.outside) * cells

    def _cells(self, image: ImagePlan, left_top_px: tuple[int, int]) -> torch.Tensor:
        """The mask [h, w] of an image that has one, not mirrored."""
        assert image.mask is not None
        if self.store is None:
            return self._loaded(image, left_top_px)
        parts = [*image.bucket_px, *image.resized_px, *left_top_px, int(self.from_alpha), MASKS_VERSION]
        key = content_key(b"mask", self.files.of(image.mask), ",".join(str(part) for part in parts).encode())
        found = self.store.get(key)
        if found is None:
            cells = self._loaded(image, left_top_px)
            self.store.put(key, {"mask": cells})
            return cells
        return found["mask"]

    def _loaded(self, image: ImagePlan, left_top_px: tuple[int, int]) -> torch.Tensor:
        assert image.mask is not None
        return torch.from_numpy(load_mask(image.mask, image.placement, left_top_px, from_alpha=self.from_alpha))


def black_masks_warning(names: Sequence[str]) -> str:
    """The sentence for images that teach nothing because their mask is black."""
    shown = ", ".join(names[:_BLACK_NAMED])
    more = f" and {len(names) - _BLACK_NAMED} more" if len(names) > _BLACK_NAMED else ""
    count = "1 mask is" if len(names) == 1 else f"{len(names)} masks are"
    return f"{count} black all over, so only loss.mask_outside counts there: {shown}{more}. White is what is trained."
