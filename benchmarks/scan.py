"""How long the scan of a large training folder and its bucketing take: `python benchmarks/scan.py [IMAGES]`.

Makes that many small images (a quarter each PNG, JPEG with EXIF, WebP, BMP) with captions in a temporary folder, then
prints seconds (and processor seconds, which other programs do not lengthen) for listing, headers, captions and
buckets, first and repeated.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.data.buckets import BucketRules, place
from engine.data.scan import Scan, scan

SIZES_PX = [(96 + 8 * (n % 17), 96 + 8 * (n % 13)) for n in range(221)]


def encoded(size_px: tuple[int, int], kind: str) -> bytes:
    """A one-coloured image of `size_px` as a file of `kind`."""
    image, buffer = Image.new("RGB", size_px, (90, 120, 40)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, kind, **({"exif": exif} if kind == "JPEG" else {}))
    return buffer.getvalue()


def fill(folder: Path, images: int) -> None:
    """Write `images` images in ten subsets."""
    suffixes = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp"}
    files = {(size, kind): encoded(size, kind) for size in SIZES_PX for kind in suffixes}
    for n in range(images):
        kind = list(suffixes)[n % 4]
        subset = folder / f"{n % 10 + 1}_class {n % 10}"
        subset.mkdir(exist_ok=True)
        (subset / f"image_{n}{suffixes[kind]}").write_bytes(files[SIZES_PX[n % len(SIZES_PX)], kind])
        (subset / f"image_{n}.txt").write_text(f"a picture of class {n % 10}, number {n}", encoding="utf-8")


def timed_scan(folder: Path) -> tuple[Scan, str]:
    start, processor_start = time.perf_counter(), time.process_time()
    found = scan(folder)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    return found, f"{seconds:.2f} s ({processor_seconds:.2f} s of processor)"


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), images)
        for attempt in ("first", "second", "third"):
            found, scan_time = timed_scan(Path(name))
            place.cache_clear()
            start = time.perf_counter()
            sizes = [place(item.size_px, BucketRules()).bucket_px for s in found.subsets for item in s.items]
            bucket_seconds = time.perf_counter() - start
            print(f"{attempt}: {len(sizes):,} images, scan {scan_time}, buckets {bucket_seconds:.3f} s")


if __name__ == "__main__":
    main()
