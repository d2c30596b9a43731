"""What is written into pictures, and settings read from pictures: ours, A1111's and its relatives', ComfyUI's.

Written are A1111's `parameters` and, as `atelier`, our own preset, which says what that text cannot. Torch-free.

Nothing that a picture says is trusted: each value is checked as the preset checks it, files must be here, and what
tells where to write or compute is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.drawing import a1111_settings, parameters_text
from engine.drawing.comfy_graph import from_graph
from engine.drawing.lora_lines import read_lora_lines
from engine.drawing.picture_metadata import texts_of
from engine.drawing.picture_notes import Found
from engine.drawing.settings import BY_PATH, DRAWING_SETTINGS, KIND, VERSION, DrawingPreset
from engine.preset import resolve
from engine.settings import Setting

CHUNK = "atelier"
PROGRAM = "Atelier"
# Not taken from pictures: where to write and look, and what belongs to this machine
_OWN = ("picture.folder", "picture.wildcards_folder", "loras.folder", "model.device", "model.threads",
        "model.vae_tiling", "preview.every_steps", "preview.decoder")  # fmt: skip
_MOST_CHARACTERS = 1_000_000
_ENDINGS = (".safetensors", ".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Drawn:
    """What came of a preset in one picture.

    prompt, negative: after wildcards were drawn; hashes: A1111's short hashes of LoRAs by name; model_hash: the base
    model's.
    """

    seed: int
    prompt: str
    negative: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    model_hash: str = ""


def texts_for(preset: DrawingPreset, drawn: Drawn) -> dict[str, str]:
    """The PNG texts of one picture by name: `parameters`, and `atelier`, with which it can be drawn again."""
    return {"parameters": parameters(preset, drawn), CHUNK: _own_text(preset, drawn.seed)}


def parameters(preset: DrawingPreset, drawn: Drawn) -> str:
    """A1111's text. The listed LoRAs stand in the prompt, as that text has no other place for them."""
    loras, _ = read_lora_lines(preset.loras.files)
    mentions: list[str] = []
    for lora in loras:
        strength, text = lora.strength, lora.text_strength
        shown = f"{strength:g}" if text == strength else f"{text:g}:{strength:g}"
        mentions.append(f"<lora:{lora.path.name.removesuffix('.safetensors')}:{shown}>")
    prompt = " ".join([drawn.prompt, *mentions]) if drawn.prompt else " ".join(mentions)
    return parameters_text.write(prompt, drawn.negative, _pairs(preset, drawn))


def _pairs(preset: DrawingPreset, drawn: Drawn) -> Iterator[tuple[str, object]]:
    picture, sampling, model = preset.picture, preset.sampling, preset.model
    yield "Steps", sampling.steps
    yield "Sampler", a1111_settings.SAMPLERS[sampling.sampler]
    yield "Schedule type", a1111_settings.SIGMAS[sampling.sigmas]
    yield "CFG scale", sampling.cfg_scale
    yield "Seed", drawn.seed
    yield "Size", f"{picture.width_px}x{picture.height_px}"
    if drawn.model_hash:
        yield "Model hash", drawn.model_hash
    yield "Model", Path(model.base).name.removesuffix(".safetensors")
    if model.vae:
        yield "VAE", Path(model.vae).name
    if preset.hires.on:
        yield "Denoising strength", preset.hires.denoising_strength
    elif preset.image.init:
        yield "Denoising strength", preset.image.denoising_strength
    if preset.image.init and preset.image.mask:
        yield "Mask blur", preset.image.mask_blur_px
        if preset.image.mask_inverted:
            yield "Mask mode", "Inpaint not masked"
        if preset.image.area == "masked":
            yield "Inpaint area", "Only masked"
            yield "Masked area padding", preset.image.padding_px
    yield "Clip skip", picture.clip_skip
    if sampling.cfg_rescale:
        yield "CFG Rescale", sampling.cfg_rescale
    if preset.tiling.horizontal or preset.tiling.vertical:
        both = preset.tiling.horizontal and preset.tiling.vertical
        yield "Tiling", True if both else "horizontal" if preset.tiling.horizontal else "vertical"
    yield "RNG", "CPU"
    if preset.hires.on:
        yield "Hires upscale", preset.hires.scale
        if preset.hires.steps:
            yield "Hires steps", preset.hires.steps
        yield "Hires upscaler", a1111_settings.UPSCALERS[preset.hires.upscaler]
    if drawn.hashes:
        yield "Lora hashes", ", ".join(f"{name}: {short}" for name, short in drawn.hashes.items())
    if preset.refiner.model:
        yield "Refiner", Path(preset.refiner.model).name.removesuffix(".safetensors")
        yield "Refiner switch at", preset.refiner.switch_at
    yield "Version", PROGRAM


def _own_text(preset: DrawingPreset, seed: int) -> str:
    """The preset of this one picture as JSON; files in the user's folder are told from there (~), not by its name."""
    one = preset.changed({"picture.seed": seed, "picture.count": 1, "picture.batch_size": 1})
    content: dict[str, Any] = {"kind": KIND, "version": VERSION}
    for item in DRAWING_SETTINGS:
        value = one.get(item.path)
        if item.path in _OWN or value == item.default:
            continue
        is_place = item.kind in ("file", "folder") or item.path == "loras.files"
        content.setdefault(item.section, {})[item.name] = _from_home(value) if is_place else value
    return json.dumps(content)


def _from_home(text: str) -> str:
    try:
        home = str(Path.home())
    except RuntimeError:  # this user may have none
        return text
    lines = text.split("\n")
    return "\n".join("~" + line[len(home) :] if line.startswith((f"{home}/", f"{home}\\")) else line for line in lines)


def read_settings(path: Path, models: Sequence[Path] = ()) -> Found:
    """The settings that a picture carries, and notes on what was not understood. UserError where it is no picture.

    models: model files that are here, of which one may be that which the picture names.
    """
    return settings_in(texts_of(path)[0], models)


def settings_in(texts: Mapping[str, str], models: Sequence[Path] = ()) -> Found:
    """The settings in a picture's texts: our own where they are, else A1111's, else ComfyUI's."""
    found = _from_own(texts[CHUNK]) if CHUNK in texts else None
    if found is None and "parameters" in texts:
        found = a1111_settings.from_parameters(parameters_text.read(texts["parameters"]))
    if found is None and texts.get("prompt", "").lstrip().startswith("{"):
        found = from_graph(texts["prompt"])
    if found is None:
        found = Found()
        found.note("nothing")
    if found.model:
        known = next((path for path in models if found.model in (path.name, path.stem)), None)
        if known is not None:
            found.put("model.base", str(known))
        else:
            found.note("model", name=found.model)
    return found


def _from_own(text: str) -> Found | None:
    """Our own settings; None for text that is not ours. What the text leaves out has its default."""
    try:
        content = json.loads(text[:_MOST_CHARACTERS])
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        return None
    found = Found(PROGRAM)
    for item in DRAWING_SETTINGS:
        if item.path in _OWN:
            continue
        group = content.get(item.section)
        value = group.get(item.name, item.default) if isinstance(group, dict) else item.default
        if item.kind == "file" or item.path == "loras.files":
            _put_files(found, item, value)
        else:
            found.put(item.path, value)
    if not found.values.get("image.mask"):
        found.put("image.area", "whole")
    known = {item.section for item in DRAWING_SETTINGS} | {"kind", "version"}
    strange = [key for key in content if key not in known]
    strange += [
        f"{section}.{name}"
        for section, group in content.items()
        if isinstance(group, dict) and section in known
        for name in group
        if f"{section}.{name}" not in BY_PATH
    ]
    if strange:
        found.note("unknown", names=", ".join(map(str, strange)))
    return found


def _put_files(found: Found, item: Setting, value: Any) -> None:
    """Keep files that are here; lines of LoRAs each on its own."""
    if not isinstance(value, str):
        found.note("value", name=item.label, value=value)
        return
    if item.path != "loras.files":
        if not value or _is_here(value):
            found.put(item.path, value)
        elif item.path == "model.base":
            found.model = Path(value).name.removesuffix(".safetensors")
        else:
            found.note("file", name=item.label, file=value)
        return
    lines: list[str] = []
    for line in value.replace("\0", "").splitlines()[:200]:
        is_elsewhere = line.lstrip().startswith(("\\\\", "//"))
        choices, problems = ([], ["elsewhere"]) if is_elsewhere else read_lora_lines(line)
        if problems or not all(_is_here(str(choice.path)) for choice in choices):
            found.note("file", name=item.label, file=line)
            lines.append(f"# {line}")
        else:
            lines.append(line)
    found.put(item.path, "\n".join(lines))


def _is_here(name: str) -> bool:
    """Whether a file or model folder is on this machine; names on other machines are not even looked at."""
    if name.startswith(("\\\\", "//")) or "\0" in name or len(name) > 4096:
        return False
    try:
        path = resolve(name)
        return path.is_dir() or (path.suffix.lower() in _ENDINGS and path.is_file())
    except (OSError, RuntimeError, ValueError):
        return False
