"""`python -m engine.upload RUN`: works off the wishes for uploads that a run left in its folder. See `uploads.py`.

Logs in by what huggingface_hub itself knows (`hf auth login`, HF_TOKEN). Faults go into a file beside the wish; what is
done is told in the run's log. Torch-free.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from engine.atomic import write_text_whole
from engine.run import RunFolder
from engine.secrets import redacted
from engine.uploads import uploads_folder

WAITS_SECONDS = (2.0, 10.0, 60.0)  # before the second, third and fourth attempt
ANOTHER_SECONDS = 6 * 3600.0  # how long the process before this one may take

Send = Callable[[dict[str, Any], Path], str]  # wish, file → address of what was uploaded


def work_off(run: RunFolder, send: Send, waits_seconds: tuple[float, ...] = WAITS_SECONDS) -> None:
    """Upload what is wished for, the oldest first, until nothing is left or one does not succeed."""
    folder = uploads_folder(run)
    if not folder.is_dir():
        return
    try:
        with FileLock(folder / "lock", timeout=ANOTHER_SECONDS):
            while (wish := _oldest(folder)) is not None and _fulfil(run, wish, send, waits_seconds):
                pass
    except Timeout:
        return  # it has the same wishes to work off


def _oldest(folder: Path) -> Path | None:
    return min(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, default=None)


def _fulfil(run: RunFolder, place: Path, send: Send, waits_seconds: tuple[float, ...]) -> bool:
    """Whether this wish is done with."""
    before = place.read_bytes()
    wish = json.loads(before)
    file = run.path / wish["file"]
    address = ""
    for wait_seconds in (*waits_seconds, None):
        if not file.is_file():
            break  # thinned out meanwhile
        try:
            address = send(wish, file)
            break
        except Exception as error:  # whatever the library or the network says is told, not raised
            if wait_seconds is None or is_refused(error):
                what = redacted(f"{type(error).__name__}: {str(error).strip() or 'no reason given'}")
                write_text_whole(place.with_suffix(".fault"), " ".join(what.split())[:500] + "\n")
                return False
            time.sleep(wait_seconds)
    if place.read_bytes() == before:  # else the file was saved anew meanwhile
        place.unlink()
    place.with_suffix(".fault").unlink(missing_ok=True)
    if address:
        with run.log.open("a", encoding="utf-8") as log:
            log.write(f"Uploaded {wish['file']} to {address}\n")
    return True


def is_refused(error: Exception) -> bool:
    """Whether the hub has answered no (not logged in, no right, no such place), so that trying again is no use."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, (ValueError, TypeError))


def send_to_hub(wish: dict[str, Any], file: Path) -> str:
    """Make the repository where it is missing, and upload one file."""
    from huggingface_hub import HfApi

    api = HfApi()
    repo = api.create_repo(wish["repo"], private=wish["private"], repo_type="model", exist_ok=True)
    done = api.upload_file(
        path_or_fileobj=str(file),
        path_in_repo=wish["path_in_repo"],
        repo_id=repo.repo_id,
        repo_type="model",
        commit_message=wish["message"],
    )
    return str(done)


if __name__ == "__main__":
    work_off(RunFolder(Path(sys.argv[1]).resolve()), send_to_hub)
