"""Failures of the computation itself: numbers that are not finite, pictures that turn black, learning that diverges."""

from __future__ import annotations

from engine.failures.kinds import Facts, Kind, Values, always, has_diverged, is_spilling, less_memory, lower_rates


def _is_fp16(facts: Facts) -> bool:
    return facts.preset.memory.precision == "fp16"


def _smaller_samples(facts: Facts) -> list[Values]:
    sample = facts.preset.sample
    width, height = (max(512, size // 3 * 2 // 64 * 64) for size in (sample.width_px, sample.height_px))
    smaller = width < sample.width_px or height < sample.height_px
    return [
        {"sample.width_px": min(width, sample.width_px), "sample.height_px": min(height, sample.height_px)}
    ] * smaller


def _next_precision(facts: Facts) -> list[Values]:
    return [{"run.save_precision": "bf16"}, *lower_rates(facts)]


_VAE_32 = always({"memory.vae_precision": "fp32"})

LEARNING: dict[str, Kind] = {
    "overflow_fp16": Kind(
        cause="Numbers grew too large for fp16, so the loss has not been finite for many steps.",
        remedy="Use bf16, which has the same size and a far larger range; on cards without bf16 lower the learning rates or use fp32.",
        seen="25 steps without a finite loss, in fp16",
        signs=(r"loss has not been finite for \d+ steps",),
        when=_is_fp16,
        fixes=always({"memory.precision": "bf16"}, {"memory.precision": "fp32"}),
    ),
    "not_finite": Kind(
        cause="The loss has not been finite for many steps, so nothing was learned any more.",
        remedy="Lower the learning rates. The warnings name the images of these steps: if they are always the same ones, look at them.",
        seen="25 steps without a finite loss",
        signs=(r"loss has not been finite for \d+ steps",),
        fixes=lower_rates,
    ),
    "vae_not_finite": Kind(
        cause="The VAE gives numbers that are not finite even in fp32: its file is damaged.",
        remedy="Choose another VAE (the one in the base model, or SDXL's fp16-fix), then start again.",
        seen="refused by Atelier while it encodes images",
        signs=(r"VAE gives values that are not finite",),
        fixes=always({"model.vae": ""}),
    ),
    "save_overflow": Kind(
        cause="The trained weights hold numbers too large for the format in which they are saved.",
        remedy="Save in bf16 or fp32, or train with a lower learning rate.",
        seen="refused by Atelier before a checkpoint is written",
        signs=(r"hold numbers too large for",),
        fixes=_next_precision,
    ),
    "weights_not_finite": Kind(
        cause="The trained weights themselves are no longer finite.",
        remedy="Earlier checkpoints are whole. Lower the learning rates, and use bf16 or fp32 instead of fp16.",
        seen="refused by Atelier before a checkpoint is written",
        signs=(r"numbers? that (is|are) not finite", r"not finite numbers", r"the weights are damaged"),
        fixes=lower_rates,
    ),
    "nothing_learned": Kind(
        cause="The LoRA is still as it started, so it would change nothing.",
        remedy="Give the part that is named a learning rate above 0, large enough for the precision of the adapter.",
        seen="refused by Atelier before a checkpoint is written",
        signs=(r"is still as it started",),
        fixes=lambda facts: [{"memory.adapter_precision": "fp32"}],
    ),
    "spilling": Kind(
        cause="The graphics card is full, and its driver moves memory to the computer's own, which makes each step many times slower.",
        remedy="Stop, use less memory, and start again; NVIDIA's “CUDA sysmem fallback policy” can be set to prefer an error instead.",
        seen="steps that became four times slower while the card's memory is full",
        when=is_spilling,
        fixes=less_memory,
        ends_run=False,
    ),
    "diverged": Kind(
        cause="The loss has risen to three times what it was: learning has diverged.",
        remedy="Stop, and start again with lower learning rates or a longer warm-up; an earlier checkpoint may be good.",
        seen="the loss of the last steps against that of the first",
        when=has_diverged,
        fixes=lower_rates,
        ends_run=False,
    ),
    "step_not_finite": Kind(
        cause="Single steps gave a loss that is not finite and were left out; the weights are as before.",
        remedy="Rare ones do no harm. If the warnings always name the same images, look at them; else lower the learning rates.",
        seen="a warning with the step and its images",
        signs=(r"gave a loss that is not finite",),
        fixes=lambda facts: [{"memory.precision": "bf16"}] if _is_fp16(facts) else lower_rates(facts),
        ends_run=False,
    ),
    "vae_overflow": Kind(
        cause="The VAE overflows in half precision, which elsewhere gives black pictures; these were done again in fp32.",
        remedy="Set the VAE to fp32: it costs little and spares the second try.",
        seen="a warning while encoding or drawing",
        signs=(r"VAE overflows in half precision",),
        fixes=_VAE_32,
        ends_run=False,
    ),
    "samples_memory": Kind(
        cause="The graphics card's memory did not suffice to draw the samples; training itself goes on.",
        remedy="Draw smaller samples, or fewer.",
        seen="a warning: a sample could not be drawn, out of memory",
        signs=(r"could not be drawn \(.*out of memory",),
        fixes=_smaller_samples,
        ends_run=False,
    ),
    "samples_black": Kind(
        cause="A sample could not be drawn because its numbers are not finite; other programs show a black picture.",
        remedy="Set the VAE to fp32. If it stays so the LoRA has diverged: use an earlier checkpoint and lower learning rates.",
        seen="a warning: a sample could not be drawn, not finite",
        signs=(r"could not be drawn \(.*not finite",),
        fixes=_VAE_32,
        ends_run=False,
    ),
    "samples_failed": Kind(
        cause="A sample could not be drawn; training itself goes on.",
        remedy="The warning says why: most often the prompt's options, the disk, or memory.",
        seen="a warning: a sample could not be drawn",
        signs=(r"could not be drawn",),
        ends_run=False,
    ),
}
