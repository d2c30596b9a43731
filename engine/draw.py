"""`python -m engine sample`: pictures of a base model with LoRAs, outside a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.adapters.loading import apply_file
from engine.adapters.merging import merge_into
from engine.errors import PresetError, Problem, UserError
from engine.memory import choose_computation, choose_device
from engine.merges import read_merges
from engine.plan_model import model_kind
from engine.preset import Preset, resolve
from engine.prompts import parse_prompts
from engine.sample import Artist, save_picture
from engine.sdxl import checkpoint
from engine.sdxl.detect import identify
from engine.text_source import TextSource, text_reading


def draw_pictures(preset: Preset, loras: Sequence[tuple[Path, float]], folder: Path) -> Iterator[Path]:
    """Draw the preset's prompts into `folder`, one PNG each; yields each path when it is written."""
    prompts, problems = parse_prompts(preset.sample)
    if not prompts:
        problems = (*problems, Problem("sample.prompts", "there is no prompt. Give one with --prompt."))
    problems = [*problems]
    merges = read_merges(preset, problems)
    if problems:
        raise PresetError(problems)
    vae_path = resolve(preset.model.vae) if preset.model.vae else None
    facts = identify(resolve(preset.model.base), vae_path)
    if facts.kind != "base":
        raise UserError(f"this is an SDXL {facts.kind} model. Choose an SDXL base model.", "model.base")
    device = choose_device(preset)
    computation = choose_computation(preset, facts, device)
    dtype, keep_narrow = computation.dtype, computation.keep_narrow
    vae = checkpoint.load_vae(facts, dtype, device, vae_path)
    encoders = checkpoint.load_text_encoders(facts, dtype, device, keep_narrow)
    unet = checkpoint.load_unet(facts, dtype, device, keep_narrow)
    models = {"unet": unet, "text_encoder_1": encoders.one, "text_encoder_2": encoders.two}
    merge_into(models, merges)
    names = [facts.path.stem, *(f"{merge.path.stem} {merge.strength:g}" for merge in merges)]
    for path, strength in loras:
        apply_file(models, path, strength)
        names.append(f"{path.stem} {strength:g}")
    text = TextSource(encoders, "", None, text_reading(preset))
    artist = Artist(unet, vae, text, *model_kind(preset, facts))
    for index, prompt in enumerate(prompts):
        path = _free_name(folder, index)
        save_picture(artist.picture(prompt), path, prompt, " + ".join(names))
        yield path


def _free_name(folder: Path, index: int) -> Path:
    """A name that no picture has yet: nothing of the user's is overwritten."""
    number = index
    while (path := folder / f"{number:04d}.png").exists():
        number += 1
    return path
