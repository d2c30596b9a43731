"""What a run does with images and captions before it trains: a plan without problems, and all that can be cached."""

from __future__ import annotations

from collections.abc import Sequence

from engine.atomic import write_text_whole
from engine.caption_source import CaptionSource
from engine.data.caption_draws import Caption
from engine.errors import PresetError, Problem
from engine.latent_source import LatentSource
from engine.mask_source import MaskSource, black_masks_warning
from engine.plan import Plan, make_plan
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.processes import Processes, in_turn, share_of
from engine.prompts import SamplePrompt
from engine.report import Reporter
from engine.stopping import Stopping
from engine.text_source import TextSource


def checked_plan(preset: Preset, report: Reporter, processes: Processes) -> Plan:
    """The plan, written to plan.json; raises with all its problems at once."""
    plan = make_plan(preset)
    for warning in plan.warnings:
        report.warn(warning.message, warning.where)
    return _usable(plan, report, processes)


def without_unreadable(
    preset: Preset, plan: Plan, latents: LatentSource, report: Reporter, those: tuple[Stopping, Processes]
) -> Plan:
    """Encode (or read) all images; leave out those that cannot be decoded, or stop, as the preset says.

    Every process leaves out the same ones.
    """
    used = [image for image in plan.images if image.repeats]
    faults: list[Problem] = []
    for flips, images in (*by_flips(preset, used), ((False,), list(plan.validation))):
        faults += _prepared_together(preset, latents, images, flips, report, those)
    used += plan.validation
    if not faults:
        return plan
    if preset.data.broken_images == "stop":
        raise PresetError(faults)
    for fault in faults:
        report.warn(f"{fault.message} It is left out.", fault.where)
    unreadable = frozenset(image.path for image in used if str(image.path) in {fault.where for fault in faults})
    plan = make_plan(preset, unreadable)
    return _usable(plan, report, those[1])


def _prepared_together(
    preset: Preset,
    latents: LatentSource,
    images: list[ImagePlan],
    flips: tuple[bool, ...],
    report: Reporter,
    those: tuple[Stopping, Processes],
) -> list[Problem]:
    """The unreadable ones of these images, each looked at by one of the processes."""
    stopping, processes = those

    def prepare(part: Sequence[ImagePlan]) -> list[Problem]:
        return latents.prepare(part, flips, preset.memory.vae_batch_size, stopping.tell(report))

    if preset.data.cache_latents:
        found = in_turn(images, processes, prepare)
    else:
        found = prepare(share_of(images, processes))
    return list({fault.where: fault for fault in processes.gather(found)}.values())


def prepared_masks(
    preset: Preset, plan: Plan, latents: LatentSource, report: Reporter, those: tuple[Stopping, Processes]
) -> MaskSource | None:
    """Read the masks of the loss, if there are any, each by one of the processes; raises with all unreadable ones."""
    stopping, processes = those
    loss = preset.loss
    if not any(image.mask for image in plan.images):
        return None
    masks = MaskSource(latents.files, latents.store, loss.mask == "alpha", loss.mask_outside)
    own = share_of([image for image in plan.images if image.repeats and image.mask], processes)
    faults, black = masks.prepare(own, stopping.tell(report))
    faults, black = processes.gather(faults), processes.gather(black)
    if faults:
        raise PresetError(faults)
    if black:
        report.warn(black_masks_warning(black), "loss.mask")
    return masks


def prepare_text(
    preset: Preset,
    plan: Plan,
    text: TextSource,
    report: Reporter,
    those: tuple[Stopping, Processes],
    later: Sequence[SamplePrompt] = (),
) -> None:
    """Encode every caption and sample prompt that the run will ask for, where they are cached, each by one process.

    `later`: prompts that the run was changed to.

    The text encoders then leave memory.
    """
    stopping, processes = those
    if text.store is not None:
        wanted = [*CaptionSource(preset, plan).all(), *captions_of((*plan.prompts, *later))]
        in_turn(wanted, processes, lambda texts: text.prepare(texts, stopping.tell(report)))
    text.release()


def captions_of(prompts: Sequence[SamplePrompt]) -> list[Caption]:
    """What is encoded to draw these prompts."""
    return [Caption.of(words) for prompt in prompts for words in (prompt.prompt, prompt.negative)]


def by_flips(preset: Preset, images: Sequence[ImagePlan]) -> list[tuple[tuple[bool, ...], list[ImagePlan]]]:
    """The images that are encoded as they are, and those that are encoded mirrored too."""
    mirrored = [image for image in images if preset.data.cache_latents and image.value(preset, "data.flip")]
    plain = [image for image in images if not (preset.data.cache_latents and image.value(preset, "data.flip"))]
    return [(flips, those) for flips, those in (((False,), plain), ((False, True), mirrored)) if those]


def _usable(plan: Plan, report: Reporter, processes: Processes) -> Plan:
    """The plan, written to plan.json. Raises PresetError with all its problems at once."""
    if plan.problems:
        raise PresetError(plan.problems)
    if processes.is_first:
        write_text_whole(report.run.plan, plan.to_json() + "\n")
    return plan
