"""Tools that make one new LoRA file of each file: the dry run from the headers, then layer by layer. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import Problem, UserError
from engine.lora_tools.choices import Result, lines_of
from engine.lora_tools.lora_file import LoraFile, LoraLayer, read_lora
from engine.lora_tools.place import note_made, room_problem, target_in
from engine.lora_tools.spelling import spelling_of
from engine.preset import resolve
from engine.tools.tool import Proposal, Report, Row, counted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Outlook:
    """What a tool would make of a file, told from its header. `layers`: those that are in the result."""

    note: str
    layers: tuple[LoraLayer, ...]
    size_bytes: int
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Task:
    file: LoraFile
    target: Path
    outlook: Outlook


class Work(Protocol):
    """A tool at work on one file."""

    def layer(self, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{key in the new file: tensor} of a layer. UserError where it cannot be made."""
        ...

    def metadata(self) -> dict[str, str]:
        """Those of the new file; asked for after all layers."""
        ...

    def told(self) -> str:
        """What came out, for the row."""
        ...


def read_files(text: str) -> list[LoraFile]:
    """The files of the setting `files`. UserError where there is none, ModelError where one is no LoRA."""
    lines = lines_of(text)
    if not lines:
        raise UserError("is empty. Choose a LoRA file.", "files")
    return [read_lora(resolve(line)) for line in lines]


def propose_each(files: str, settings: Result, action: str, mark: str, look: Callable[[LoraFile], Outlook]) -> Proposal:
    """The dry run: one row for each file. Faults of single files are told all at once."""
    tasks: list[Task] = []
    problems: list[Problem] = []
    taken: list[Path] = []
    paths = lines_of(files)
    if len(paths) > 1 and settings.output.lower().endswith(".safetensors"):
        raise UserError(f"names one file for {len(paths)} files (got {settings.output!r}). Choose a folder.", "output")
    for path in paths or [""]:
        try:
            file = read_files(path)[0]
            outlook = look(file)
            target = target_in(file.naming, settings.output, file.path, mark, taken)
        except UserError as error:
            problems += error.problems
            continue
        taken.append(target)
        tasks.append(Task(file, target, outlook))
        problems += outlook.problems
    if tasks:
        problems += room_problem(tasks[0].target, sum(task.outlook.size_bytes for task in tasks))
    rows = tuple(Row(str(task.file.path), action, str(task.target), task.outlook.note) for task in tasks)
    warnings = tuple(warning for task in tasks for warning in task.outlook.warnings)
    summary = f"{counted(len(tasks), 'file')} to {action}." if tasks else "Nothing can be done."
    return Proposal(rows, summary, tuple(problems), warnings, tuple(tasks))


def carry_out_each(proposal: Proposal, report: Report, begin: Callable[[LoraFile], Work]) -> None:
    """Make the files one after the other. A stop leaves no part of a file."""
    tasks: Sequence[Task] = proposal.content
    total, before = sum(len(task.outlook.layers) for task in tasks), 0
    for row, task in zip(proposal.rows, tasks, strict=True):
        try:
            note = _make(task, begin(task.file), report, before, total)
        except UserError as error:
            report.done(row, "failed", error.problems[0].message)
        else:
            if note is None:
                return
            note_made(task.target, report.journal)
            report.done(row, "done", note)
        before += len(task.outlook.layers)


def _make(task: Task, work: Work, report: Report, before: int, total: int) -> str | None:
    """What came out; None where a stop was asked for."""
    from engine.lora_tools.writing import LayerReader, write_lora

    made: dict[str, Any] = {}
    with LayerReader(task.file) as reader:
        for place, layer in enumerate(task.outlook.layers):
            if report.is_stop_asked():
                return None
            made |= work.layer(layer, reader.tensors(layer))
            report.progress(before + place, total)
    write_lora(task.target, made, work.metadata(), spelling_of([task.file], task.target))
    return work.told()
