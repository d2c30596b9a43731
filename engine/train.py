"""The run, told from top to bottom."""

from __future__ import annotations

import time

import torch

from engine import events
from engine.adapters.attach import attach
from engine.adapters.limits import NormLimit
from engine.average import Average, average_settings
from engine.base_model import load_unet, open_latents, open_text, trained_parts
from engine.batches import BatchMaker
from engine.changes import Changes
from engine.control import Control
from engine.draws import draw_fraction
from engine.errors import UserError
from engine.facts import Biography
from engine.forecast import forecast_here
from engine.inputs import keep, with_kept
from engine.listeners import add_listeners
from engine.memory import card_name, choose_computation, choose_device, device_name
from engine.objective import Objective
from engine.optimizers import check_device
from engine.plan import Plan, due_samples
from engine.plan_model import model_kind
from engine.preparing import checked_plan, prepare_text, prepared_masks, without_unreadable
from engine.preset import Preset
from engine.processes import ALONE, Processes
from engine.prompt_text import prompt_encoder
from engine.recipe import recipe_of
from engine.report import Reporter
from engine.run import RunFolder
from engine.sample import Artist, Sampler
from engine.saving import Saver
from engine.schedules import rate_curve
from engine.sdxl.parts import digest_ahead
from engine.sentence import sentence
from engine.state import State, load_last_state
from engine.steplog import StepLog
from engine.stopping import Stopping
from engine.text_training import freeze_text, text_stop_step
from engine.updater import make_updater
from engine.validation import Course, Gauge, Validator


def train(preset: Preset, report: Reporter, stopping: Stopping, processes: Processes = ALONE) -> None:
    """Train from the last state of the run folder, or from the start, to the plan's end or until stopped."""
    begun_seconds = time.monotonic()
    run = report.run

    # What will happen, before anything is loaded
    report.stage("Looking at the images")
    preset = with_kept(preset, run)
    plan = checked_plan(preset, report, processes)
    facts = plan.model
    assert facts is not None  # a plan without problems has a model
    device = choose_device(preset)
    processes.check_device(device)
    check_device(preset.optimizer.name, device)
    computation = choose_computation(preset, facts, device)
    state = _state_to_go_on_from(run, plan, report)
    first_step = state.step if state else 0
    changes = Changes.of(run, preset, plan.prompts, state and state.about.get("changes"))
    report.say(sentence(preset, plan, forecast_here(preset, plan)))
    report.emit(events.Started(
        name=preset.run.name, steps=plan.steps, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch,
        from_step=first_step, process_id=stopping.process_id, device=device_name(device),
    ))  # fmt: skip
    if processes.is_first:
        keep(preset, run)
        add_listeners(report, preset, first_step, card_name(device))
    report.say(f"On {device_name(device)}, in {preset.memory.precision}; run folder {run.path}")
    if computation.note:
        report.say(computation.note)

    # Latents: the VAE works, then leaves the device
    report.stage("Encoding images" if preset.data.cache_latents else "Reading images")
    digest_ahead(facts, "text")
    latents = open_latents(preset, facts, computation, device, report.warn)
    plan = without_unreadable(preset, plan, latents, report, (stopping, processes))
    masks = prepared_masks(preset, plan, latents, report, (stopping, processes))
    if preset.data.cache_latents:
        latents.vae.to("cpu")  # pyright: ignore[reportArgumentType]

    # Text: cached captions and sample prompts let the encoders leave as well
    report.stage("Encoding captions" if preset.captions.cache_text else "Loading the text encoders")
    text = open_text(preset, facts, computation, device)
    prepare_text(preset, plan, text, report, (stopping, processes), changes.later_prompts())

    # The UNet, the adapter on it, and what updates the adapter
    report.stage("Loading the base model")
    unet = load_unet(preset, facts, computation, device)
    adapter = attach(trained_parts(preset.adapter, unet, text), recipe_of(preset, state is not None), device)
    if adapter.started and state is None:
        report.say(adapter.started)
    updater = make_updater(preset, adapter, computation.dtype, device)
    average = Average(adapter, average_settings(preset.run))
    prediction, zero_snr = model_kind(preset, facts)
    objective = Objective.of(preset.loss, prediction, zero_snr, device)
    batches = BatchMaker(preset, plan, (latents, masks, text), device, processes)
    artist = Artist(unet, latents.vae, text, prediction, zero_snr)
    sampler = Sampler(artist, changes.prompts_at, report, facts.path.stem)
    validator = Validator(preset, plan, Gauge(preset, plan, objective, latents, text), report)
    about = Biography(preset, plan, prediction)
    about.changes = changes
    saver = Saver(preset, plan, (adapter, updater, average), about, report)
    if state is not None:
        saver.restore(state)
        validator.course = Course.of(state.about.get("validation"))
        report.say(f"Resuming at step {first_step} of {plan.steps}.")

    # The loop: rates, gradients, update; then whatever is due after this step
    if processes.is_first and first_step in plan.sample_steps and not sampler.has_drawn(first_step):
        with average.shown():
            sampler.draw(first_step, stopping)
    if validator.is_due(first_step):
        with average.shown():
            validator.measure(first_step, unet, (stopping, processes), saver.keep_best)
    report.stage("Training")
    rate_factor = rate_curve(preset.optimizer, plan.steps)
    log = StepLog(report, plan, preset.logging.every_steps, device)
    limit = log.limit = NormLimit(adapter, preset.adapter.norm_limit)
    text_stop = text_stop_step(preset, plan.steps)
    encode = prompt_encoder(preset, facts, computation, device, text)
    control = Control(changes, plan, log, report, (stopping, processes), encode)
    sample_steps = due_samples(preset, plan.steps, plan.steps_per_epoch)
    step, stop = first_step, False
    while step < plan.steps and not stop and not validator.is_exhausted:
        factor = rate_factor(step) * changes.rate_factor(step)
        updater.begin_step(factor, freeze_text(adapter.groups, step, text_stop))
        step_batches = batches.batches(step)
        loss = torch.zeros((), device=device)
        for batch in step_batches:
            adapter.begin_batch(draw_fraction("ranks", preset.run.seed, step), batch.timesteps)
            adapter.dropout.draw(step, batch)
            share = objective.loss(unet, batch, text)
            (share * updater.scale).backward()
            adapter.end_batch()
            loss += share.detach()
        loss = processes.sum_gradients(updater.parameters, loss)
        norm = updater.update(step)
        limit.apply()
        step += 1
        average.update(step)
        if step == first_step + 1 and processes.is_first:
            about.begin_hashing()
        log.note(step, loss, norm, updater.rates(), step_batches)

        stop, save, sample, timed = control.look(step, processes.is_first and saver.is_time)
        if validator.is_due(step) and not stop:
            log.read()
            with average.shown():
                validator.measure(step, unet, (stopping, processes), saver.keep_best)
            stop = validator.is_due(step)  # still: a stop was asked meanwhile
            log.restart_clock()
        last = step == plan.steps or validator.is_exhausted
        asked = save or stop or last
        save = asked or timed or step in plan.save_steps
        sample = bool(changes.prompts_at(step)) and (sample or step in sample_steps) and not stop
        if save or sample:
            log.read()
        if save and processes.is_first:
            saver.save(step, validator.course, last, asked)
        elif processes.is_first:
            saver.save_state_if_due(step, validator.course)
        if sample and processes.is_first:
            with average.shown():
                sampler.draw(step, stopping)
            log.restart_clock()
    log.read()

    # The end
    if step < plan.steps and not validator.is_exhausted:
        report.emit(events.Stopped(step))
        report.say(f"Stopped at step {step} of {plan.steps}. To go on: ./train.sh {run.path}")
        return
    path = saver.last_path
    if processes.is_first and not path.exists():
        saver.save(step, validator.course, last=True, asked=True)
    seconds = time.monotonic() - begun_seconds
    report.emit(events.Finished(step, str(path.relative_to(run.path)), seconds, validator.reason))
    report.say(f"Finished: {path}" + (f" ({validator.reason})" if validator.reason else ""))


def _state_to_go_on_from(run: RunFolder, plan: Plan, report: Reporter) -> State | None:
    """The last state that can be read, or None at the start. UserError where it lies beyond the plan's end."""
    state, faults = load_last_state(run.state)
    for fault in faults:
        report.warn(fault, str(run.state))
    if state is not None and state.step > plan.steps:
        what = f"the run is at step {state.step} already, beyond the {plan.steps} steps asked for. Raise the number."
        raise UserError(what, f"run.{plan.decided_by}")
    return state
