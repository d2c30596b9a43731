"""Which installed packages are whole, and as pinned. Standard library only: it must run while half of them is missing.

`python engine/installed.py --mend` is what setup.sh runs: it forgets the packages whose files are incomplete (an
interrupted set-up, a full disk), so that the next `pip install` puts them back.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

_PINNED = re.compile(r"^\s*([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;#]+)\s*(?:;\s*([^#]*))?")
_MARKER = re.compile(r'python_version\s*(<|>=)\s*"(\d+)\.(\d+)"')


def pinned(requirements: Path, python: tuple[int, int] = sys.version_info[:2]) -> dict[str, str]:
    """The packages that a requirements file pins for this Python: name → version."""
    found: dict[str, str] = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        match = _PINNED.match(line)
        if match and _applies(match[3] or "", python):
            found[match[1]] = match[2]
    return found


def differing(wanted: dict[str, str]) -> list[str]:
    """Sentence parts for packages that are missing or of another version; a build suffix (`+cpu`) does not count."""
    parts = []
    for name, version in wanted.items():
        try:
            have = metadata.version(name)
        except metadata.PackageNotFoundError:
            parts.append(f"{name} is missing")
            continue
        if have.partition("+")[0] != version:
            parts.append(f"{name} is {have}, not {version}")
    return parts


def incomplete(site_packages: Path) -> list[Path]:
    """The `.dist-info` folders of packages with files that are missing or cut short."""
    return [info for info in sorted(site_packages.glob("*.dist-info")) if not _is_whole(info)]


def mend(site_packages: Path) -> list[str]:
    """Forget incomplete packages and what an interrupted pip left behind; returns the names of their folders."""
    forgotten = [*incomplete(site_packages), *site_packages.glob("~*")]
    for folder in forgotten:
        if folder.is_dir():
            shutil.rmtree(folder)
        else:
            folder.unlink()
    return [folder.name for folder in forgotten]


def _applies(marker: str, python: tuple[int, int]) -> bool:
    match = _MARKER.search(marker)
    if match is None:
        return True
    bound = (int(match[2]), int(match[3]))
    return python < bound if match[1] == "<" else python >= bound


def _is_whole(info: Path) -> bool:
    record = info / "RECORD"
    if not record.is_file() or not (info / "METADATA").is_file():
        return False
    with record.open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) < 3 or row[0].endswith(".pyc"):
                continue
            try:
                size_bytes = (info.parent / row[0]).stat().st_size
            except OSError:
                return False
            if row[2] and int(row[2]) != size_bytes:
                return False
    return True


if __name__ == "__main__":
    here = Path(sysconfig.get_paths()["purelib"])
    names = mend(here) if "--mend" in sys.argv else [info.name for info in incomplete(here)]
    if names:
        print(" ".join(names))
