"""What the tab Sample asks the page's program, and the answers: plain dicts that become JSON.

Every text goes to the browser as text and is put in as text; none of it is ever HTML.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from engine.atomic import write_whole
from engine.drawing.desk import desk
from engine.drawing.groups import SIZES_PX
from engine.drawing.lora_names import lora_files
from engine.drawing.picture_metadata import FORMATS
from engine.drawing.picture_text import read_settings
from engine.drawing.settings import BY_PATH
from engine.errors import UserError
from engine.home import home
from engine.preset import resolve
from ui import picture_told, pictures, run_list, sample_form, sample_form_answers, served_functions, thumbnails
from ui.drawing_view import view_of
from ui.language import either, say, word
from ui.parts import changed, same
from ui.told import retold

MOST_BYTES = 11 * 1024 * 1024  # of what is sent from the browser
_MOST_PIXELS = 100_000_000
_MOST_LORAS = 600
STAGES = (word("Looking at the files"), word("Loading the base model"), word("Loading the refiner"), word("Drawing"))
_UPLOADED_FOR = ("image.init", "image.mask")

Answer = dict[str, Any]


def answer(asked: Mapping[str, Any]) -> Answer:
    """The answer to one question, {"ask": what, …}; a UserError is {"error": sentence}."""
    return served_functions.by_name(asked, ANSWERS)


def _hello(asked: Mapping[str, Any]) -> Answer:
    """What the tab is made of."""
    return {"sizes": [list(size) for size in SIZES_PX], "folder": str(_folder())}


def _look(asked: Mapping[str, Any]) -> Answer:
    """What is new: "live" and "pictures", each only where its digest is not the one in "seen"."""
    view = view_of(desk())
    fault = view.keep_alive()
    now, waiting = view.look(), view.desk.waiting()
    is_busy = bool(waiting)
    ended = now.ended if now.ended and not is_busy else None
    live = {
        "busy": is_busy,
        "waiting": max(0, len(waiting) - 1),
        "stage": say(now.stage) if now.stage else say("Starting") if is_busy else "",
        "done": now.done,
        "total": now.total,
        "preview": thumbnails.url(now.preview) if now.preview and is_busy else "",
        "drawn": [pictures.told(path) for path in now.drawn if path.is_file()],
        "outcome": ended.outcome if ended else "",
        "message": retold(fault or (ended.message if ended else "")),
        "problems": [_problem(item) for item in ended.problems] if ended else [],
        "request": now.request,
    }
    most = asked.get("most")
    shown = pictures.listed(_folder(), most if isinstance(most, int) and 0 < most <= 10_000 else pictures.PAGE_PICTURES)
    parts = {"live": live, "pictures": shown}
    raw = asked.get("seen")
    seen = raw if isinstance(raw, dict) else {}
    return {"busy": is_busy, "parts": changed({name: same(content) for name, content in parts.items()}, seen)}


def _problem(item: Mapping[str, str]) -> dict[str, str]:
    where = str(item.get("where", ""))
    setting = BY_PATH.get(where)
    label = either(setting.label, setting.zh) if setting else where
    field = f"{sample_form.KEY}.{where}" if setting else ""
    return {"field": field, "label": label, "message": retold(str(item.get("message", "")))}


def _stop(asked: Mapping[str, Any]) -> Answer:
    desk().cancel()
    return {}


def _about(asked: Mapping[str, Any]) -> Answer:
    """The settings that a picture of the history carries."""
    path = pictures.found(str(asked.get("path")), _folder())
    return picture_told.told(read_settings(path, list(sample_form.model_files(sample_form.recall()))))


def _read(asked: Mapping[str, Any]) -> Answer:
    """The settings of a picture that was sent; its head is enough."""
    content = _sent(asked)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        return picture_told.told(read_settings(path, list(sample_form.model_files(sample_form.recall()))))


def _upload(asked: Mapping[str, Any]) -> Answer:
    """A picture to begin with, or a mask: kept beside the pictures; the setting and the file's path."""
    where = str(asked.get("for"))
    if where not in _UPLOADED_FOR:
        raise UserError(say("this page is older than the program that it speaks with. Load it again."))
    content = _sent(asked)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            kind, pixels = str(image.format).lower(), image.width * image.height
            if pixels <= _MOST_PIXELS:
                image.verify()
    except Exception as error:  # Pillow raises many kinds on broken files
        what = f"this cannot be read as a PNG, JPEG or WebP picture ({type(error).__name__}). Give another one."
        raise UserError(what) from None
    if pixels > _MOST_PIXELS:
        raise UserError("this picture has more than 100 megapixels. Give a smaller one.")
    name = f"{hashlib.sha256(content).hexdigest()[:20]}.{kind}"
    path = desk().path / "uploads" / name
    if not path.is_file():
        write_whole(path, lambda part: part.write_bytes(content))
    return {"values": {where: str(path)}}


def _sent(asked: Mapping[str, Any]) -> bytes:
    text = asked.get("content")
    if not isinstance(text, str) or len(text) > MOST_BYTES * 4 // 3 + 4:
        raise UserError("this file is larger than 11 MB. Give a smaller one, or choose it by its path.")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise UserError("this file did not arrive whole. Try again.") from None


def _delete(asked: Mapping[str, Any]) -> Answer:
    return {"binned": pictures.throw_away(pictures.found(str(asked.get("path")), _folder()))}


def _restore(asked: Mapping[str, Any]) -> Answer:
    return {"path": str(pictures.bring_back(str(asked.get("binned")), _folder()))}


def loras(_: Mapping[str, Any]) -> Answer:
    """The LoRAs there are: the checkpoints of each run, and the files of the LoRA folder."""
    groups: list[Answer] = []
    for run in run_list.all_runs():
        files = sorted(run.checkpoints.glob("*.safetensors"), key=lambda path: (len(path.stem), path.stem))
        if files:
            groups.append({"title": run.name, "items": [{"title": path.stem, "path": str(path)} for path in files]})
    chosen = str(sample_form.recall().get("loras", {}).get("folder") or "")
    for folder in dict.fromkeys([resolve(chosen) if chosen else home() / "loras", home() / "loras"]):
        files = sorted(islice(lora_files(folder), _MOST_LORAS))
        items = [{"title": path.relative_to(folder).as_posix(), "path": str(path)} for path in files]
        if items:
            groups.append({"title": folder.name, "items": items})
    return {"groups": groups}


def _folder() -> Path:
    return pictures.folder_of(sample_form.recall())


ANSWERS: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
    "hello": _hello,
    "look": _look,
    "stop": _stop,
    "about": _about,
    "read": _read,
    "upload": _upload,
    "delete": _delete,
    "restore": _restore,
    "loras": loras,
    "arrive": sample_form_answers.arrive,
    "edited": sample_form_answers.edited,
    "draw": sample_form_answers.draw,
    "fill": sample_form_answers.fill,
}
