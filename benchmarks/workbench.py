"""How long the caption workbench takes on a large folder: `python -m benchmarks.workbench [IMAGES]` (default 2,000).

Wall time and the processor time of this process, for what the page asks of its program; no browser.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

_TAGS = ["1girl", "long hair", "Long_Hair", "smile", "blue eyes", "outdoors", "white background", "sitting", "photo"]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ATELIER_HOME"] = f"{folder}/home"
        root = _make(Path(folder) / "images", count)
        _measure({"folder": str(root), "extension": ".txt", "separator": ","}, count)


def _make(root: Path, count: int) -> Path:
    root.mkdir()
    draw = random.Random(0)
    Image.new("RGB", (640, 480), "teal").save(root / "0.png")
    for number in range(count):
        if number:
            os.link(root / "0.png", root / f"{number}.png")
        tags = [*draw.sample(_TAGS, 4), *(f"tag {draw.randrange(400)}" for _ in range(6))]
        (root / f"{number}.txt").write_text(", ".join(tags) + "\n")
    return root


def _measure(place: dict[str, Any], count: int) -> None:
    from ui import captions_answers as answers

    def ask(what: str, **more: Any) -> Any:
        found = answers.answer({"ask": what, **place, **more})
        assert "error" not in found, found
        return found

    print(f"{count:,} pictures                  wall       processor")
    _time("open, first page", lambda: ask("view"))
    _time("the same again", lambda: ask("view"))
    _time("tokenizer and first counts", lambda: ask("view", filter="tokens > 20"))
    _time("next page", lambda: ask("view", first=60))
    _time("a page after that", lambda: ask("view", first=120))
    _time("filter: a tag", lambda: ask("view", filter='tag:"long hair" NOT outdoors'))
    _time("filter: a word", lambda: ask("view", filter="smile"))
    _time("filter: tokens", lambda: ask("view", filter="tokens > 40"))
    _time("sort: most tags", lambda: ask("view", sort="most tags"))
    _time("one caption saved", lambda: ask("edit", **_edit(ask("view"))))
    preview = _time("look: prefix for all", lambda: _preview(ask, "prefix", {"text": "mine, "}))
    _time("apply it", lambda: ask("apply", preview=preview["key"]))
    _time("undo it", lambda: ask("undo"))
    _time(
        "look: regular expression",
        lambda: _preview(ask, "find_replace", {"find": "a(.)", "new": "\\1", "regular": True}),
    )


def _edit(view: dict[str, Any]) -> dict[str, Any]:
    item = view["items"][5]
    return {"item": item["id"], "text": item["text"] + ", new", "digest": item["digest"], "base": item["text"]}


def _preview(ask: Callable[..., Any], operation: str, values: dict[str, Any]) -> Any:
    return ask("preview", operation=operation, values=values, scope="all")


def _time(name: str, act: Callable[[], Any]) -> Any:
    wall, processor = time.perf_counter(), time.process_time()
    found = act()
    spent = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name:28} {spent[0] * 1000:8.0f} ms  {spent[1] * 1000:8.0f} ms")
    return found


if __name__ == "__main__":
    main()
