"""The hub of models: which files a repository has, and fetching one of them. Nothing here runs unless it is asked for.

`huggingface_hub` does the talking. It does not go on with a file that another process began, so the part that is there
is kept here, beside the target, under a name that holds its checksum; the file gets its own name only when its checksum
is right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from engine.atomic import PART_SUFFIX, storage_refusal
from engine.errors import UserError

DEFAULT_OFFLINE = "ATELIER_DEFAULT_OFFLINE"  # set beside HF_HUB_OFFLINE where Atelier set that itself
_TAGGER = ("model.onnx", "selected_tags.csv")
_WORDS = (".json", ".txt", ".model", ".jinja", ".csv", ".safetensors", ".bin")
_CHUNK_BYTES = 1 << 20


class Stopped(Exception):  # noqa: N818 - no error: the user asked for it
    """A stop was asked for while a file came in; what is there of it stays."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at one commit. `sha256` is "" for small files, which git's own checksum stands for."""

    repository: str
    commit: str
    name: str
    size_bytes: int
    sha256: str
    git_sha1: str

    @property
    def checksum(self) -> str:
        return self.sha256 or self.git_sha1

    def part(self, target: Path) -> Path:
        """Where the file is while it comes in."""
        return target.with_name(f"{target.name}.{self.checksum[:12]}{PART_SUFFIX}")

    def is_whole(self, path: Path) -> bool:
        """Whether a file has this size and checksum."""
        return path.is_file() and path.stat().st_size == self.size_bytes and self._checksum(path) == self.checksum

    def _checksum(self, path: Path) -> str:
        found = hashlib.sha256() if self.sha256 else hashlib.sha1(f"blob {self.size_bytes}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
        return found.hexdigest()


def user_is_offline() -> bool:
    """Whether the user's own environment forbids the network (Atelier's default of it does not count)."""
    wanted = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return wanted.upper() in ("1", "ON", "YES", "TRUE") and DEFAULT_OFFLINE not in os.environ


@contextmanager
def online(repository: str) -> Iterator[None]:
    """Let `huggingface_hub` use the network within the block, and turn its errors into sentences."""
    import httpx2
    from huggingface_hub import constants, errors

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    except errors.GatedRepoError as error:
        what = "its makers ask for an agreement first. Agree on its page on the hub, and set HF_TOKEN to your token."
        raise UserError(what, repository) from error
    except errors.RevisionNotFoundError as error:
        raise UserError("has no such revision. Check the revision.", repository) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError("there is no such model on the hub. Check its name.", repository) from error
    except (errors.HfHubHTTPError, httpx2.HTTPError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = f"the hub could not be reached ({reason}). What came in is kept: start it again."
        raise UserError(what, repository) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def list_files(repository: str, revision: str) -> list[HubFile]:
    """The files of a model that a captioner needs, at the commit that `revision` names now. Raises UserError."""
    with online(repository):
        from huggingface_hub import HfApi

        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {sibling.rfilename: sibling for sibling in info.siblings or []}
    found = [_file(repository, str(info.sha), sizes[name]) for name in needed(list(sizes))]
    if not found:
        raise UserError("has none of the files that a captioner needs. Choose another one.", repository)
    return found


def needed(names: Sequence[str]) -> list[str]:
    """A tagger's pair of files, or the weights in one form and the texts beside them."""
    if {*_TAGGER} <= set(names):
        return list(_TAGGER)
    top = [name for name in names if "/" not in name and name.endswith(_WORDS) and not name.startswith(".")]
    if any(name.endswith(".safetensors") for name in top):
        top = [name for name in top if not name.removesuffix(".index.json").endswith(".bin")]
    return [name for name in top if name != "training_args.bin"]


def fetch(file: HubFile, target: Path, tell: Callable[[int], None]) -> None:
    """Bring a file to `target`, going on from the part that is there; `tell` gets the bytes that are there.

    Raises UserError where the hub or the disk refuses or the checksum is wrong (the part then goes), and whatever
    `tell` raises, after which the part stays.
    """
    part = file.part(target)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as stream:
            there = stream.tell()
            if there > file.size_bytes:
                stream.truncate(there := 0)
            tell(there)
            with online(file.repository):
                _get(file, stream, there, tell)
            stream.flush()
            os.fsync(stream.fileno())
        if not file.is_whole(part):
            part.unlink()
            raise UserError("came in with a wrong checksum and was thrown away. Download it again.", file.name)
        os.link(part, target)  # unlike a rename, never over a file that came there meanwhile
        part.unlink()
    except OSError as error:
        raise storage_refusal(error, target) or UserError(f"cannot be written ({error}).", str(target)) from error


def _get(file: HubFile, stream: Any, there: int, tell: Callable[[int], None]) -> None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url, headers = hf_hub_url(file.repository, file.name, revision=file.commit), build_hf_headers()
    location = get_hf_file_metadata(url, retry_on_errors=True).location
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # a signed address elsewhere: the token is not for it

    class Counter:
        """Stands in for huggingface_hub's progress bar."""

        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.bytes = initial

        def update(self, count: int) -> None:
            self.bytes += count
            tell(self.bytes)

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None: ...

    bar: Any = Counter
    http_get(location, stream, resume_size=there, headers=headers, expected_size=file.size_bytes, tqdm_class=bar)


def _file(repository: str, commit: str, sibling: Any) -> HubFile:
    name = PurePosixPath(sibling.rfilename)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(
            f"holds a file with a name that leaves its folder (got {name}). Choose another one.", repository
        )
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    return HubFile(repository, commit, str(name), sibling.size or 0, sha256, sibling.blob_id or "")
