"""How long cropping takes: `python benchmarks/cropping.py [IMAGES]`.

Makes that many JPEGs of 12 megapixels with detail and grain in a temporary folder, cuts each to its bucket by each kind
of focus in this process, and prints processor seconds per image (which other programs do not lengthen), and what a set
of 1,000 images takes on one core and on eight; then the whole tool in as many processes as there are cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from captioning.crop import Settings
from captioning.cutting import Cut, Focus, Look, make_cut
from captioning.faces import face_detector
from captioning.working import work
from engine.data.buckets import BucketRules, place
from engine.tools import jobs

SIZE_PX = (4000, 3000)


def fill(folder: Path, images: int) -> None:
    folder.mkdir()
    for number in range(images):
        draw = np.random.default_rng(number)
        coarse = draw.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, SIZE_PX, interpolation=cv2.INTER_CUBIC).astype(np.int16)
        grain = draw.integers(-6, 7, (SIZE_PX[1], SIZE_PX[0], 1), dtype=np.int16)
        picture = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def seconds_per_image(folder: Path, target: Path, focus: Focus) -> float:
    target.mkdir()
    if focus == "face":
        face_detector("")
    # Not the bucket of the picture's own shape, so that there is something to cut.
    placement = place(SIZE_PX, BucketRules(enabled=False))
    paths = sorted(folder.iterdir())
    start = time.process_time()
    for path in paths:
        made = make_cut(Cut(path, target / f"{path.stem}.png", placement), Look(focus=focus))
        if made.failed:
            raise RuntimeError(made.note)
    return (time.process_time() - start) / len(paths)


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        fill(folder, images)
        for focus in ("centre", "saliency", "face"):
            seconds = seconds_per_image(folder, Path(name) / focus, focus)
            minutes = 1000 * seconds / 60
            print(
                f"{focus}: {seconds:.3f} s an image; 1,000 images: {minutes:.1f} min, on 8 cores {minutes / 8:.1f} min"
            )
        job = jobs.create("crop", Settings(folder=str(folder)), Path(name) / "job")
        start = time.perf_counter()
        work(job)
        print(f"the tool in {os.cpu_count()} processes: {(time.perf_counter() - start) / images:.2f} s an image")


if __name__ == "__main__":
    main()
