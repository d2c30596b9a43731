"""What the Captions tab asks the page's program, and the answers: plain dicts that become JSON.

All that matters lies in the folder and its history on the disk; a window sends its filter, page and selection along.
The page puts every text in as text; none of it is ever HTML.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioning.bench import tokens
from captioning.bench.folder import Item
from captioning.bench.history import Transaction
from captioning.bench.operations import OPERATIONS, Field
from captioning.bench.session import Edit, Outcome, Session
from captioning.bench.spellings import variants
from engine.errors import UserError
from engine.home import home
from engine.plan_sizes import size_text
from engine.preset import resolve
from ui import thumbnails
from ui.language import say, word
from ui.told import fault, named, retold

PAGE_ITEMS = 60
_MOST_TAGS = 250
_EXAMPLES = 5
_SESSIONS = 6
_MOST_SENTENCES = 20
_MOST_CHANGES = 200

Request = Mapping[str, Any]
Answer = dict[str, Any]

_sessions: OrderedDict[tuple[str, str, str], Session] = OrderedDict()
_lock = threading.Lock()

SORTS: dict[str, Callable[[Item], Any] | None] = {
    word("name"): None,
    word("fewest tags"): lambda item: item.count("tags"),
    word("most tags"): lambda item: -item.count("tags"),
    word("longest"): lambda item: -item.count("chars"),
    word("shortest"): lambda item: item.count("chars"),
}


def journals() -> Path:
    return home() / "cache" / "captions-journal"


def answer(request: Request) -> Answer:
    """The answer to one request; a UserError is `{"error": sentence}`."""
    try:
        return ANSWERS[str(request["ask"])](request)
    except UserError as error:
        return {"error": fault(error)}


def session_of(request: Request) -> Session:
    """The folder that a request is about, opened once and seen anew. Raises UserError."""
    folder, extension = str(request.get("folder") or "").strip(), str(request.get("extension") or ".txt").strip()
    if not folder:
        raise UserError("is empty. Choose the folder that the images, or folders of images, are in.", "Folder")
    try:
        root = resolve(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"is no path ({error}). Correct it.", folder) from None
    key = (str(root), extension, str(request.get("separator") or ","))
    with _lock:
        opened = _sessions.get(key)
        if opened is None:
            opened = _sessions[key] = Session(root, extension, journals(), key[2])
        _sessions.move_to_end(key)
        while len(_sessions) > _SESSIONS:
            _sessions.popitem(last=False)
    opened.refresh()
    return opened


def _hello(request: Request) -> Answer:
    """What the tab is made of: the operations and their forms."""
    operations = [
        {
            "name": name,
            "title": say(kind.title),
            "about": say(kind.about),
            "fields": [_told(field) for field in kind.fields],
        }
        for name, kind in OPERATIONS.items()
    ]
    titles = {name: say("by {order}", order=say(name)) for name in SORTS}
    return {"operations": operations, "sorts": list(SORTS), "sort_titles": titles, "page_items": PAGE_ITEMS}


def _told(field: Field) -> Answer:
    """A field of an operation's form."""
    choices = [(value, say(shown)) for value, shown in field.choices.items()]
    return {**vars(field), "label": say(field.label), "about": say(field.about), "choices": choices}


def _view(request: Request) -> Answer:
    """A page of items that a filter lets through, the tags of all of them, and what can be undone."""
    opened = session_of(request)
    with opened.lock:
        found = _sorted(opened.filtered(str(request.get("filter") or "")), str(request.get("sort") or "name"))
        first = _first(request, found)
        shown = found[first : first + PAGE_ITEMS]
        counts = Counter(tag for item in found for tag in item.tags)
        wanted = str(request.get("tag_search") or "").casefold()
        tags = Counter({tag: count for tag, count in counts.items() if wanted in tag.casefold()})
        return {
            "version": opened.version,
            "root": str(opened.root),
            "total": len(opened.by_id),
            "matching": len(found),
            "captioned": sum(1 for item in opened.items if item.text.strip()),
            "first": first,
            "items": _all_shown(shown),
            "tags": tags.most_common(_MOST_TAGS),
            "tag_count": len(tags),
            "problems": [named(problem) for problem in opened.problems[:_MOST_SENTENCES]],
            **_history(opened),
        }


def _first(request: Request, found: Sequence[Item]) -> int:
    """Where the page begins: as asked, or so that the item `at` is on it."""
    first, at = int(request.get("first") or 0), request.get("at")
    if at is not None:
        place = next((number for number, item in enumerate(found) if item.id == at), None)
        first = first if place is None else place
    first = min(max(first, 0), max(len(found) - 1, 0))
    return first // PAGE_ITEMS * PAGE_ITEMS


def _sorted(items: list[Item], sort: str) -> list[Item]:
    key = SORTS.get(sort)
    return items if key is None else sorted(items, key=key)


def _all_shown(items: Sequence[Item]) -> list[Answer]:
    _count_soon([item.text for item in items])
    return [_shown(item, small) for item, small in zip(items, _small(items), strict=True)]


def _shown(item: Item, small: str | None) -> Answer:
    content = item.content
    note = content.fault and retold(f"This caption {content.fault}")
    if content.guessed:
        note = say("Read as {encoding}; it is saved as UTF-8.", encoding=content.guessed)
    return {
        "id": item.id,
        "name": item.name,
        "folder": item.folder,
        "text": item.text,
        "digest": content.digest,
        "tags": item.tags,
        "tokens": _token_count(item.text),
        "note": note,
        "locked": bool(content.fault),
        "small": small,
    }


def _small(items: Iterable[Item]) -> list[str | None]:
    """The addresses of the thumbnails; None while one is being made, "" where there can be none."""
    made = thumbnails.asked_for(item.image for item in items)
    return [(thumbnails.url(small) if small else "") if is_done else None for is_done, small in made]


def _count_soon(texts: Sequence[str]) -> None:
    """Count the tokens of many captions together; where the tokenizer is not loaded, only begin to load it."""
    if tokens.are_known(texts):
        return
    if tokens.is_loaded():
        tokens.prepare_counts(texts)
    else:
        tokens.load_soon()


def _token_count(text: str) -> int | None:
    """Tokens of the longest line; None while the tokenizer is being loaded."""
    _count_soon([text])
    if not tokens.are_known([text]):
        return None
    return max((tokens.count_tokens(line) for line in text.splitlines()), default=0)


def _pictures(request: Request) -> Answer:
    """Thumbnails that were not ready."""
    opened = session_of(request)
    items = [opened.by_id[key] for key in request["items"] if key in opened.by_id]
    return {"small": dict(zip((item.id for item in items), _small(items), strict=True))}


def _ahead(request: Request) -> Answer:
    """The page after the one shown is made ready: asked when that one is drawn, so that it never waits for this."""
    opened = session_of(request)
    with opened.lock:
        found = _sorted(opened.filtered(str(request.get("filter") or "")), str(request.get("sort") or "name"))
        after = int(request.get("first") or 0) + PAGE_ITEMS
        items = found[after : after + PAGE_ITEMS]
        _count_soon([item.text for item in items])
        thumbnails.asked_for(item.image for item in items)
    return {"count": len(items)}


def _large(request: Request) -> Answer:
    item = _item(session_of(request), request)
    path = thumbnails.large(item.image)
    return {"url": thumbnails.url(path) if path else ""}


def _count(request: Request) -> Answer:
    """Tokens of a text that is being typed."""
    return {"tokens": _token_count(str(request.get("text") or "")[:20_000])}


def _ids(request: Request) -> Answer:
    """The ids of all items that the filter lets through, in the order shown."""
    opened = session_of(request)
    with opened.lock:
        found = _sorted(opened.filtered(str(request.get("filter") or "")), str(request.get("sort") or "name"))
        return {"ids": [item.id for item in found]}


def _selection(request: Request) -> Answer:
    """What several items have in common: their tags with counts."""
    opened = session_of(request)
    with opened.lock:
        items = opened.chosen("selected", "", request["selected"])
        counts = Counter(tag for item in items for tag in item.tags)
        return {"count": len(items), "tags": counts.most_common(_MOST_TAGS), "version": opened.version}


def _poll(request: Request) -> Answer:
    """The version: it grows when something changed, here or elsewhere."""
    return {"version": session_of(request).version}


def _edit(request: Request) -> Answer:
    opened = session_of(request)
    edit = Edit(*(str(request[name]) for name in ("item", "text", "digest", "base")))
    return _outcome(opened, opened.edit([edit], f"Edit {Path(edit.item).name}"))


def _preview(request: Request) -> Answer:
    """What an operation would do: how many captions change, and the first few before and after."""
    opened = session_of(request)
    with opened.lock:
        scope, selected = str(request["scope"]), request.get("selected") or []
        items = opened.chosen(scope, str(request.get("filter") or ""), selected)
        found = opened.preview(str(request["operation"]), request.get("values") or {}, items)
        shown = found.edits[:_EXAMPLES]
        groups = []
        if request["operation"] == "spellings":
            preferred = (request.get("values") or {}).get("preferred") or "frequent"
            groups = [
                {"kept": group.kept, "spellings": group.spellings}
                for group in variants(opened.context().spelling_counts, preferred)[:100]
            ]
    examples = [{"item": edit.item, "before": edit.base, "after": edit.text} for edit in shown]
    return {
        "key": found.key,
        "title": say(found.title),
        "changed": len(found.edits),
        "considered": found.considered,
        "examples": examples,
        "groups": groups,
    }


def _apply(request: Request) -> Answer:
    opened = session_of(request)
    return _outcome(opened, opened.apply(str(request["preview"])))


def _undo(request: Request) -> Answer:
    opened = session_of(request)
    return _outcome(opened, opened.undo())


def _redo(request: Request) -> Answer:
    opened = session_of(request)
    return _outcome(opened, opened.redo())


def _past(request: Request) -> Answer:
    """What was done to these captions, the newest first; what was undone, the next to be done again first."""
    history = session_of(request).history

    def rows(transactions: Sequence[Transaction]) -> list[Answer]:
        return [{**vars(transaction), "title": say(transaction.title)} for transaction in reversed(transactions)]

    done, undone = history.done(), history.undone()
    return {
        "done": rows(done)[:_MOST_CHANGES],
        "done_count": len(done),
        "undone": rows(undone)[:_MOST_CHANGES],
        "size": size_text(history.size_bytes()),
    }


def _turn_to(request: Request) -> Answer:
    opened = session_of(request)
    return _outcome(opened, opened.turn_to(str(request["id"])))


def _forget(request: Request) -> Answer:
    return {"forgotten": session_of(request).forget(int(request["keep"]))}


def _outcome(opened: Session, outcome: Outcome) -> Answer:
    return {
        "version": opened.version,
        "title": outcome.transaction.title if outcome.transaction else "",
        "count": outcome.count,
        "conflicts": [vars(conflict) for conflict in outcome.conflicts],
        "failed": [named(problem) for problem in outcome.failed[:_MOST_SENTENCES]],
        "failed_count": len(outcome.failed),
        **_history(opened),
    }


def _history(opened: Session) -> Answer:
    done, undone = opened.history.done(), opened.history.undone()
    return {"undo": done[-1].title if done else None, "redo": undone[-1].title if undone else None}


def _item(opened: Session, request: Request) -> Item:
    found = opened.by_id.get(str(request["item"]))
    if found is None:
        raise UserError("this image is not there any more. Look at the folder again.")
    return found


ANSWERS: dict[str, Callable[[Request], Answer]] = {
    "hello": _hello, "view": _view, "pictures": _pictures, "ahead": _ahead, "large": _large, "count": _count,
    "ids": _ids, "selection": _selection, "poll": _poll, "edit": _edit, "preview": _preview, "apply": _apply,
    "undo": _undo, "redo": _redo, "history": _past, "turn_to": _turn_to, "forget": _forget,
}  # fmt: skip
