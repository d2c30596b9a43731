"""The tool `convert`: LoRAs under another program's names, checkpoints as one file or as a diffusers folder, both in
another number format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.adapter_header import AdapterHeader, known_adapter
from engine.adapter_names import DOWN, MID, UP
from engine.errors import ModelError, UserError
from engine.lora_tools.folder_layout import folder_pieces
from engine.lora_tools.place import SUFFIX, folder_of, note_made, room_problem, target_of
from engine.lora_tools.precision import Precision, dtype_in, size_in
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import StopAsked, total_bytes
from engine.plan_sizes import size_text
from engine.preset import resolve
from engine.sdxl import keys
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.folder import PART_FOLDERS, part_tensors
from engine.sdxl.safefile import TensorInfo, read_header
from engine.settings import setting
from engine.tools.tool import Proposal, Report, Row, ToolSettings, counted

TITLE = "Converting"
ABOUT = (
    "A LoRA under the names of another program, or a checkpoint as one file or as a diffusers folder; both in another "
    "number format."
)
FILES = ("file",)
CONVERT = "convert"
TOKENIZERS_BYTES = 4_000_000
_SPEECH = {"peft": "a folder as peft saves it"}


class Settings(ToolSettings):
    file: str = setting(
        "", "A LoRA (file, or folder of peft), or a checkpoint (file, or diffusers folder).", "文件", kind="file"
    )
    naming: Literal["same", "kohya", "lycoris", "diffusers", "diffusers_old", "peft"] = setting(
        "kohya",
        "The names in the new LoRA: kohya's are read by every program; the way back gives the old file, bit by bit.",
        "命名方式",
    )
    layout: Literal["file", "folder"] = setting(
        "file",
        "What a checkpoint becomes: one .safetensors file, or a folder as diffusers loads it. Nothing gets lost.",
        "模型形式",
    )
    precision: Precision = setting("same", "The number format of the new file; same: as the old one's.", "精度")
    output: str = setting(
        "",
        "The file to make, or a folder for it; empty: beside the old one. An existing file is never written over.",
        "输出",
        kind="file",
    )


@dataclass(frozen=True)
class Conversion:
    """What is read, and where the result goes: an adapter or a checkpoint."""

    source: AdapterHeader | ModelFacts
    target: Path


def propose(settings: Settings) -> Proposal:
    """What would be made. Raises UserError for what is neither a LoRA nor a checkpoint, or would stay what it is."""
    if not settings.file:
        raise UserError("is empty. Choose a LoRA or a checkpoint.", "file")
    path = resolve(settings.file)
    return _of_checkpoint(path, settings) if is_checkpoint(path) else _of_adapter(path, settings)


def carry_out(proposal: Proposal, settings: Settings, report: Report) -> None:
    from engine.lora_tools.converting import convert_adapter, convert_checkpoint

    conversion: Conversion = proposal.content

    def tell(done: int, total: int) -> None:
        report.progress(done, total)
        if report.is_stop_asked():
            raise StopAsked

    try:
        if isinstance(conversion.source, AdapterHeader):
            convert_adapter(conversion.source, conversion.target, settings.naming, settings.precision, tell)
        else:
            convert_checkpoint(conversion.source, conversion.target, settings.layout, settings.precision, tell)
    except StopAsked:
        return
    note_made(conversion.target, report.journal)
    report.done(proposal.rows[0])


def is_checkpoint(path: Path) -> bool:
    """Whether a file or folder holds a whole model rather than an adapter."""
    if path.is_dir():
        return (path / "model_index.json").is_file()
    return any(name.startswith((keys.UNET_PREFIX, keys.VAE_PREFIX)) for name in read_header(path).tensors)


def _of_adapter(path: Path, settings: Settings) -> Proposal:
    if settings.layout == "folder":
        raise UserError("is for checkpoints. For a folder of a LoRA choose the naming peft.", "layout")
    header = known_adapter(path)
    refuse_half_pairs(header)
    naming = header.naming if settings.naming == "same" else settings.naming
    infos = [info for held in header.layers.values() for info in held.values()]
    if naming == header.naming and all(dtype_in(info, settings.precision) == info.dtype for info in infos):
        raise UserError(f"has the names of {naming} and this number format already. Choose others.", str(path))
    made = rename(header, naming)
    target = _adapter_target(settings.output, header, naming)
    size = min(sum(total_bytes(file.entries) for file in made.values()), size_in(infos, settings.precision) + 100_000)
    note = f"{header.naming} → {_SPEECH.get(naming, naming)}"
    row = Row(str(path), CONVERT, str(target), note)
    summary = f"{counted(len(header.layers), 'layer')} to convert, {size_text(size)}."
    return Proposal((row,), summary, tuple(room_problem(target, size)), content=Conversion(header, target))


def refuse_half_pairs(header: AdapterHeader) -> None:
    """ModelError where a layer has one of LoRA's two matrices, or two of different ranks."""
    for layer, held in header.layers.items():
        pair = [held[suffix] for suffix in (DOWN, UP) if suffix in held]
        if len(pair) == 1:
            shown = ", ".join(sorted(held))
            raise ModelError(f"lacks tensors of the layer {layer} (it has {shown}). Copy it again.", str(header.path))
        if pair and MID not in held and pair[0].shape[:1] != pair[1].shape[1:2]:
            what = f"holds matrices that do not fit each other, in {layer}. The file is damaged: choose another one."
            raise ModelError(what, str(header.path))


def _adapter_target(output: str, header: AdapterHeader, naming: str) -> Path:
    source = header.path if header.path.suffix == SUFFIX else header.path.with_name(header.path.name + SUFFIX)
    if naming != "peft":
        return target_of(output, source, naming)
    if output.strip().lower().endswith(SUFFIX):
        raise UserError("must be a folder: peft keeps each part of the model in a file of its own.", "output")
    return folder_of(output, source, "peft")


def _of_checkpoint(path: Path, settings: Settings) -> Proposal:
    facts = identify(path)
    infos = list(checkpoint_infos(facts))
    is_same = all(dtype_in(info, settings.precision) == info.dtype for info in infos)
    if is_same and (facts.layout == "folder") == (settings.layout == "folder"):
        what = "a diffusers folder" if settings.layout == "folder" else "one file"
        raise UserError(f"is {what} in this number format already. Choose another precision or layout.", str(path))
    source = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
    size = size_in(infos, settings.precision)
    if settings.layout == "folder":
        folder_pieces(facts)
        size += TOKENIZERS_BYTES
        target = folder_of(settings.output, source, "diffusers" if is_same else settings.precision)
    else:
        target = target_of(settings.output, source, "single" if settings.precision == "same" else settings.precision)
    row = Row(str(path), CONVERT, str(target), f"SDXL {facts.kind}, {facts.prediction}")
    summary = f"{counted(len(infos), 'tensor')} to write, {size_text(size)}."
    return Proposal((row,), summary, tuple(room_problem(target, size)), content=Conversion(facts, target))


def checkpoint_infos(facts: ModelFacts) -> list[TensorInfo]:
    """Every tensor of a model, of one file or of a folder's parts."""
    if facts.layout == "single_file":
        return list(read_header(facts.path).tensors.values())
    folders = [facts.path / folder for folder in PART_FOLDERS.values() if (facts.path / folder).is_dir()]
    return [info for folder in folders for info in part_tensors(folder).values()]
