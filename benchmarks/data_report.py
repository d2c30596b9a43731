"""How long the report of a large training set takes: `python benchmarks/data_report.py [IMAGES]`.

Makes that many images with captions (see scan.py) in a temporary folder, then prints seconds, and processor seconds,
which other programs do not lengthen: for scan and buckets, for the report without the pixels, and for the whole report
the first time (every image is decoded) and again (what was seen is remembered by content).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scan import fill

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.data.buckets import BucketRules, place
from engine.data.digests import FileDigests
from engine.data.scan import scan
from engine.data_report import report
from engine.preset import Preset


def told(what: str, work: Callable[[], object]) -> None:
    start, processor_start = time.perf_counter(), time.process_time()
    work()
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    print(f"{what}: {seconds:.2f} s ({processor_seconds:.2f} s of processor)", flush=True)


def make_different(folder: Path) -> None:
    """Give each PNG a picture of its own, so that a quarter of the images has no twin."""
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(path) as image:
            size_px = image.size
        coarse = np.random.default_rng(number).integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size_px, Image.Resampling.BICUBIC).save(path, compress_level=1)


def scan_and_place(folder: Path) -> None:
    place.cache_clear()
    rules = BucketRules()
    for subset in scan(folder).subsets:
        for item in subset.items:
            place(item.size_px, rules)


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        folder.mkdir()
        fill(folder, images)
        make_different(folder)
        time.sleep(3)  # a file is remembered once it has been at rest for two seconds
        preset = Preset().changed({"data.folder": str(folder), "data.cache_folder": str(Path(name) / "cache")})
        print(f"{images:,} images")
        for attempt in ("first", "second", "third"):
            told(f"scan and buckets, {attempt} time", lambda: scan_and_place(folder))
        told("report without pixels", lambda: report(preset, look=False))
        told("whole report, first time", lambda: report(preset))
        told("whole report, second time", lambda: report(preset))
        remembered = FileDigests(Path(name) / "cache")
        told("  of which hashes of unchanged files", lambda: remembered.of_all([*folder.rglob("*.png")]))


if __name__ == "__main__":
    main()
