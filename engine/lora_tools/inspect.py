"""The tool `inspect`: all that a LoRA file tells of itself, what another differs in, and its card written anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.adapter_header import AdapterHeader, known_adapter
from engine.errors import Problem, UserError
from engine.lora_tools.facts import FAMILY_WORDS, Difference, Facts, compare, read_facts
from engine.lora_tools.place import room_problem, target_of
from engine.lora_tools.stream import HASHES, Entry, copied, kohya_hashes, write_stream
from engine.plan_sizes import size_text
from engine.preset import resolve
from engine.settings import setting
from engine.thumbnail import picture_url
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Looking into a LoRA"
ABOUT = "Kind, ranks, norms, training, tags and hashes of a LoRA; its card can be changed in a new file."
FILES = ("file", "other")
EDIT, CLEAR = "write with another card", "-"
_CARD = ("title", "author", "description", "trigger_phrase", "usage_hint", "tags", "license")
_NEW = "New text in the card of the new file; empty: as it is, a single - takes it away."


class Settings(ToolSettings):
    file: str = setting("", "The LoRA file, or a folder as peft saves one.", "LoRA 文件", kind="file")
    other: str = setting(
        "", "A second LoRA, to tell what differs; empty: none.", "对比文件", label="Compare with", kind="file"
    )
    title: str = setting("", f"The name that is shown. {_NEW}", "标题", level="advanced")
    author: str = setting("", f"Who made it. {_NEW}", "作者", level="advanced")
    description: str = setting("", f"What it is for. {_NEW}", "描述", level="advanced")
    trigger_phrase: str = setting("", f"The words that call it. {_NEW}", "触发词", level="advanced")
    usage_hint: str = setting("", f"How it is used best. {_NEW}", "使用提示", level="advanced")
    tags: str = setting("", f"Tags, with commas. {_NEW}", "标签", level="advanced")
    license: str = setting("", f"The licence. {_NEW}", "许可证", level="advanced")
    thumbnail: str = setting(
        "", "A picture for the new file's card; empty: as it is, a single - takes it away.", "缩略图", kind="file",
        level="advanced",
    )  # fmt: skip
    output: str = setting(
        "",
        "Where the file with the new card goes; empty: beside the old one. An existing file is never written over.",
        "输出",
        kind="file",
        level="advanced",
    )


@dataclass(frozen=True)
class Look:
    """What was read; `target` and `metadata` where a new file is to be written."""

    header: AdapterHeader
    facts: Facts
    difference: Difference | None
    target: Path | None = None
    metadata: dict[str, str] | None = None


def propose(settings: Settings) -> Proposal:
    """Read the file; a row where its card is to be changed. Raises UserError for what is no LoRA."""
    if not settings.file:
        raise UserError("is empty. Choose a LoRA file.", "file")
    header, facts = read_facts(resolve(settings.file))
    difference = compare(header, known_adapter(resolve(settings.other))) if settings.other else None
    kinds = ", ".join(facts.families)
    summary = f"{header.path.name}: {kinds}, {counted(len(header.layers), 'layer')}, {size_text(facts.size_bytes)}."
    changes, problems = _changes(settings)
    warnings = _warnings(facts)
    if not changes:
        return Proposal((), summary, tuple(problems), warnings, Look(header, facts, difference))
    if len(header.files) > 1:
        raise UserError(
            "is a folder of several files, whose card cannot be changed. Convert it to one file first.", "file"
        )
    kept = {key: text for key, text in header.metadata.items() if key not in changes and key not in HASHES}
    metadata = kept | {key: text for key, text in changes.items() if text}
    target = target_of(settings.output, next(iter(header.files)), "card")
    problems += room_problem(target, facts.size_bytes)
    note = ", ".join(key.removeprefix("modelspec.") for key in changes)
    row = Row(str(header.path), EDIT, str(target), note)
    return Proposal((row,), summary, tuple(problems), warnings, Look(header, facts, difference, target, metadata))


def _warnings(facts: Facts) -> tuple[Problem, ...]:
    odd = [block.name for block in facts.blocks if block.norm is not None and not math.isfinite(block.norm)]
    what = f"holds numbers that are not finite (NaN or infinite), in {', '.join(odd)}. Choose an earlier checkpoint."
    found = [Problem(facts.path, what)] if odd else []
    if strange := facts.families.get(FAMILY_WORDS[""]):
        lacking = f"{counted(strange, 'layer')} lack tensors, or are of a kind that is not known here. Check it first."
        found.append(Problem(facts.path, lacking))
    return tuple(found)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    look: Look = proposal.content
    for row in proposal.rows:
        if look.target is None or look.metadata is None or report.is_stop_asked():
            return
        entries = _entries(look.header)
        write_stream(look.target, entries, look.metadata | kohya_hashes(entries, look.metadata), report.progress)
        report.journal.note_made(look.target)
        report.done(row)


def told(proposal: Proposal) -> tuple[str, dict[str, Any]]:
    """The facts as text and as JSON takes them."""
    look: Look = proposal.content
    difference = look.difference
    found: dict[str, Any] = {"facts": look.facts.to_dict()}
    if difference is not None:
        found["difference"] = {"other": difference.other, "rows": [list(row) for row in difference.rows]}
    return _text(look.facts, difference), found


def _entries(header: AdapterHeader) -> dict[str, Entry]:
    return {name: copied(header.layers[key.layer][key.suffix]) for key, name in header.names.items()}


def _changes(settings: Settings) -> tuple[dict[str, str], list[Problem]]:
    """{metadata key: new text, "" to take it away}."""
    given = {name: getattr(settings, name).strip() for name in _CARD}
    found = {f"modelspec.{name}": "" if text == CLEAR else text for name, text in given.items() if text}
    picture = settings.thumbnail.strip()
    if not picture:
        return found, []
    if Path(picture).name == CLEAR:
        return found | {"modelspec.thumbnail": ""}, []
    try:
        return found | {"modelspec.thumbnail": picture_url(resolve(picture))}, []
    except (OSError, SyntaxError, ValueError) as error:
        what = f"is no picture that can be read (got {picture}: {error}). Choose another file."
        return found, [Problem("thumbnail", what)]


def _text(facts: Facts, difference: Difference | None) -> str:
    lines = [f"{facts.path}   {size_text(facts.size_bytes)}   names of {facts.naming}"]
    lines.append("kinds: " + ", ".join(f"{name} ({count} layers)" for name, count in facts.families.items()))
    lines.append("formats: " + ", ".join(f"{name} ({count})" for name, count in facts.formats.items()))
    for block in facts.blocks:
        norm = f"   change {'not told by the file alone' if block.norm is None else f'{block.norm:.4g}'}"
        row = f"  {block.name:<16}{block.layers:>4} layers   rank {block.ranks or '–'}   alpha {block.alphas or '–'}"
        lines.append(row + norm)
    for name, pairs in (("card", facts.card), ("training", facts.training), ("hashes", facts.hashes)):
        lines += [f"{name}:", *(f"  {key}: {text}" for key, text in pairs)] if pairs else []
    if facts.triggers:
        lines.append("trigger words: " + ", ".join(facts.triggers))
    if facts.tags:
        lines.append("tags: " + ", ".join(f"{tag} ({count})" for tag, count in facts.tags[:30]))
    if difference is not None:
        lines.append(f"differs from {difference.other}:" if difference.rows else f"the same as {difference.other}")
        lines += [f"  {what}: {before} | {after}" for what, before, after in difference.rows]
    return "\n".join(lines)
