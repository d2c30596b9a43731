"""The tool `caches`: latents and text features of a preset made ahead, measured, or thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import Problem, UserError
from engine.inputs import with_kept
from engine.plan import Plan, make_plan
from engine.plan_sizes import size_text
from engine.preset import Preset, load, resolve
from engine.run import RunFolder, open_run
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Caches"
ABOUT = "Makes the latents and text features that a preset trains on ahead, tells their size, or throws them away."
FILES = ("preset",)
MAKE, CLEAR = "make", "throw away"
STORES = {"latents": "latents", "text": "text features"}


class Settings(ToolSettings):
    preset: str = setting("", "The preset (.json), or a run's folder.", "预设", kind="file")
    action: Literal["measure", "make", "clear"] = setting(
        "measure",
        "measure: tell how large they are; make: before training; clear: all of that folder, also of other presets.",
        "操作",
    )


@dataclass(frozen=True)
class Cache:
    """What lies in the cache folder of one kind, as its files tell."""

    kind: str
    folder: str
    records: int
    disk_bytes: int


@dataclass(frozen=True)
class Work:
    """The preset with what is planned, and the caches as they are."""

    preset: Preset
    plan: Plan | None
    caches: tuple[Cache, ...]


def propose(settings: Settings) -> Proposal:
    """Measure, and say what would be made or thrown away. Raises UserError for what is no preset."""
    preset = _preset(settings.preset)
    folder = resolve(preset.data.cache_folder)
    caches = tuple(measure(folder, kind) for kind in STORES)
    total = sum(cache.disk_bytes for cache in caches)
    told = ", ".join(f"{STORES[cache.kind]}: {cache.records:,} ({size_text(cache.disk_bytes)})" for cache in caches)
    summary = f"{folder}: {told}."
    if settings.action == "measure":
        return Proposal((), summary, content=Work(preset, None, caches))
    if settings.action == "clear":
        rows = tuple(
            Row(cache.folder, CLEAR, "", f"{STORES[cache.kind]}, {size_text(cache.disk_bytes)}")
            for cache in caches
            if cache.disk_bytes
        )
        warning = Problem(str(folder), "what is thrown away cannot be put back; the next run makes it anew.")
        words = f"{size_text(total)} to free in {folder}."
        return Proposal(rows, words, (), (warning,) if rows else (), Work(preset, None, caches))
    plan = make_plan(preset)
    wanted = {"latents": preset.data.cache_latents, "text": preset.captions.cache_text}
    rows = tuple(Row(str(folder), MAKE, "", STORES[kind]) for kind, is_wanted in wanted.items() if is_wanted)
    summary = f"{counted(len(plan.images), 'image')} to encode, where that was not done before. {summary}"
    return Proposal(rows, summary, plan.problems, plan.warnings, Work(preset, plan, caches))


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.making_caches import clear, make

    work: Work = proposal.content
    for row in proposal.rows:
        if report.is_stop_asked():
            return
        kind = next(kind for kind, words in STORES.items() if row.note.startswith(words))
        if row.action == CLEAR:
            clear(Path(row.source), kind)
        elif work.plan is not None and not make(work.preset, work.plan, kind, report):
            return
        report.done(row)


def measure(folder: Path, kind: str) -> Cache:
    """How many records the index of a cache names, and what its files take; no torch."""
    index = folder / f"{kind}.index"
    files = [path for path in (index, *folder.glob(f"{kind}-*.pack")) if path.is_file()]
    try:
        lines = index.read_bytes().count(b"\n") if index in files else 0
        return Cache(kind, str(folder), max(0, lines - 1), sum(path.stat().st_size for path in files))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}). Check its permissions.", str(folder)) from error


def _preset(text: str) -> Preset:
    if not text:
        raise UserError("is empty. Choose a preset, or a run's folder.", "preset")
    path = resolve(text)
    return with_kept(open_run(path)[1], RunFolder(path)) if path.is_dir() else load(path)
