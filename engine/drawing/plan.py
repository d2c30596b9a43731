"""What a drawing preset comes to: its files looked at, the prompt of each picture drawn. Torch-free.

Everything that can be told before a model is loaded is told here, all at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from engine.adapter_header import known_adapter
from engine.data.images import open_upright
from engine.drawing.lora_lines import WHERE as LORA_LINES
from engine.drawing.lora_lines import LoraChoice, read_lora_lines
from engine.drawing.lora_names import find_lora
from engine.drawing.prompt_language import StepText, schedule_of, take_loras
from engine.drawing.settings import DrawingPreset
from engine.drawing.wildcard_files import drawn_wildcards
from engine.errors import DatasetError, ModelError, PresetError, Problem, UserError
from engine.home import home
from engine.preset import resolve
from engine.sdxl.detect import ModelFacts, identify

SEEDS = 2**32
LCM_STEPS = 50  # on so many steps such models were distilled


@dataclass(frozen=True)
class PlannedPicture:
    """One picture: its seed, its prompts (wildcards drawn, as written; and without LoRAs), and its LoRAs."""

    index: int
    seed: int
    written: str
    positive: str
    negative: str
    loras: tuple[LoraChoice, ...]

    def texts(self, steps: int, first_pass_steps: int | None = None) -> tuple[tuple[StepText, ...], ...]:
        """Positive and negative over the steps; with `first_pass_steps` those of the second pass of hires fix."""
        return tuple(schedule_of(text, steps, first_pass_steps) for text in (self.positive, self.negative))


@dataclass(frozen=True)
class DrawingPlan:
    """All that is needed to draw. `vae` is another VAE than the base model's."""

    preset: DrawingPreset
    base: ModelFacts
    refiner: ModelFacts | None
    vae: Path | None
    pictures: tuple[PlannedPicture, ...]

    def batches(self) -> list[tuple[PlannedPicture, ...]]:
        """The pictures in the order of drawing; those that are drawn at once have the same LoRAs."""
        found: list[list[PlannedPicture]] = []
        for picture in self.pictures:
            last = found[-1] if found else []
            if last and len(last) < self.preset.picture.batch_size and last[0].loras == picture.loras:
                last.append(picture)
            else:
                found.append([picture])
        return [tuple(batch) for batch in found]


def plan_drawing(preset: DrawingPreset) -> DrawingPlan:
    """Look at everything. Raises PresetError with all problems at once."""
    problems: list[Problem] = []
    vae = resolve(preset.model.vae) if preset.model.vae else None
    base = _model(preset.model.base, vae, "model.base", ("base",), problems)
    refiner = None
    if preset.refiner.model:
        refiner = _model(preset.refiner.model, None, "refiner.model", ("base", "refiner"), problems)
    problems += _picture_problems(preset)
    if preset.sampling.sampler == "lcm" and max(preset.sampling.steps, preset.hires.steps) > LCM_STEPS:
        problems.append(Problem("sampling.steps", f"lcm takes {LCM_STEPS} steps at most. Lower it; 4 to 8 are usual."))
    pictures = _pictures(preset, problems)
    if problems or base is None:
        raise PresetError(problems)
    return DrawingPlan(preset, base, refiner, vae, pictures)


def count_looks(preset: DrawingPreset) -> int:
    """How many network evaluations each batch takes: Heun makes two a step, but one in the last."""
    sampling, passes = preset.sampling, list[int]()
    passes.append(int(sampling.steps * preset.image.denoising_strength) if preset.image.init else sampling.steps)
    if preset.hires.on:
        passes.append(int((preset.hires.steps or sampling.steps) * preset.hires.denoising_strength))
    return sum(2 * count - 1 if sampling.sampler == "heun" else count for count in passes)


def _model(path: str, vae: Path | None, where: str, kinds: Sequence[str], problems: list[Problem]) -> ModelFacts | None:
    try:
        if not path:
            raise ModelError("no base model is chosen. Choose an SDXL checkpoint or a diffusers folder.")
        facts = identify(resolve(path), vae)
    except ModelError as error:
        is_vae = vae is not None and any(problem.where.startswith(str(vae)) for problem in error.problems)
        problems += [Problem("model.vae" if is_vae else where, str(problem)) for problem in error.problems]
        return None
    if facts.kind not in kinds:
        remedy = "Choose it as the refiner, and a base model here." if facts.kind == "refiner" else "Choose another."
        problems.append(Problem(where, f"this is an SDXL {facts.kind} model, which cannot draw here. {remedy}"))
    return facts


def _picture_problems(preset: DrawingPreset) -> list[Problem]:
    image, found = preset.image, list[Problem]()
    sizes = {
        path: _size(where, resolve(path), found)
        for where, path in (("image.init", image.init), ("image.mask", image.mask))
        if path
    }
    first, mask = sizes.get(image.init), sizes.get(image.mask)
    if first and mask and first != mask and image.init != image.mask:
        what = f"has {mask[0]}×{mask[1]} pixels, the picture that it is for {first[0]}×{first[1]}."
        found.append(Problem("image.mask", f"{what} Make it of the same size."))
    elif mask and not _has_something_to_draw(resolve(image.mask), image.mask_inverted, found):
        white = "has nothing white in it, so nothing would be drawn anew. Paint the part that is to change white."
        black = "has nothing black in it, so nothing would be drawn anew. Paint the part that is to change black."
        found.append(Problem("image.mask", black if image.mask_inverted else white))
    for where, path in (("preview.decoder", preset.preview.decoder),):
        if path and not resolve(path).is_file():
            found.append(Problem(where, f"there is no file {resolve(path)}. Choose another, or leave it empty."))
    return found


def _has_something_to_draw(mask: Path, inverted: bool, problems: list[Problem]) -> bool:
    """Whether any of the mask counts as white (of one to be inverted: as black)."""
    try:
        levels = open_upright(mask, "#000000").convert("L").histogram()
    except DatasetError as error:
        problems += [Problem("image.mask", str(problem)) for problem in error.problems]
        return True
    return any(levels[:128] if inverted else levels[128:])


def _size(where: str, path: Path, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) >= 5
            return (height, width) if turned else (width, height)
    except FileNotFoundError:
        problems.append(Problem(where, f"there is no file {path}. Choose another."))
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        problems.append(Problem(where, f"{path} cannot be read as a picture ({error}). Choose another."))
    return None


def _pictures(preset: DrawingPreset, problems: list[Problem]) -> tuple[PlannedPicture, ...]:
    picture = preset.picture
    seed = picture.seed if picture.seed >= 0 else secrets.randbelow(SEEDS)
    chosen, _ = read_lora_lines(preset.loras.files)
    known = {lora.path: _lora_problem(lora.path) for lora in chosen}
    problems += [Problem(LORA_LINES, what) for what in known.values() if what]
    found: list[PlannedPicture] = []
    told: set[str] = {str(problem) for problem in problems}
    for index in range(picture.count):
        try:
            one = _planned(preset, index, (seed + index) % SEEDS, chosen)
        except UserError as error:
            news = [problem for problem in error.problems if str(problem) not in told]
            problems += news
            told |= {str(problem) for problem in news}
            continue
        for lora in one.loras:
            if lora.path not in known:
                known[lora.path] = _lora_problem(lora.path)
                problems += [Problem("picture.prompt", known[lora.path])] if known[lora.path] else []
        found.append(one)
    return tuple(found)


def _planned(preset: DrawingPreset, index: int, seed: int, chosen: Sequence[LoraChoice]) -> PlannedPicture:
    """Raises UserError for prompts that mean nothing: wildcards without file, LoRAs that are not found."""
    folder = resolve(preset.picture.wildcards_folder) if preset.picture.wildcards_folder else home() / "wildcards"
    written = drawn_wildcards(preset.picture.prompt, seed, folder)
    negative = take_loras(drawn_wildcards(preset.picture.negative, seed, folder))[0]
    positive, mentions = take_loras(written)
    folders = [resolve(preset.loras.folder)] if preset.loras.folder else [home() / "runs", home() / "loras"]
    named = [LoraChoice(find_lora(mention.name, folders), mention.unet, mention.text_encoders) for mention in mentions]
    one = PlannedPicture(index, seed, written, positive.strip(), negative.strip(), (*chosen, *named))
    one.texts(preset.sampling.steps)
    return one


def _lora_problem(path: Path) -> str:
    """What is wrong with a LoRA file as far as its header tells; ""."""
    if not path.is_file():
        return f"there is no file {path}. Write one `file: strength` a line."
    try:
        parts = known_adapter(path).parts
    except ModelError as error:
        return " ".join(str(problem) for problem in error.problems)
    return "" if parts else f"{path} is no LoRA for SDXL. Choose another file."
