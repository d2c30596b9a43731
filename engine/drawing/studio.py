"""The weights that stay between pictures: loaded once, changed only where a preset asks for others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.adapters.targets import TEXT_1, TEXT_2, UNET
from engine.drawing.conditioning import PromptEncoder
from engine.drawing.lora_lines import LoraChoice
from engine.drawing.lora_stack import LoraStack
from engine.memory import computation_in, device_of
from engine.sdxl import checkpoint
from engine.sdxl.detect import ModelFacts

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from engine.drawing.groups import Model
    from engine.drawing.plan import DrawingPlan

SMALL_GPU_BYTES = 14 * 2**30
"""On a GPU with less memory the text encoders lie in the computer's memory while the UNet works."""
Say = Callable[[str], None]


@dataclass
class Expert:
    """A UNet with its text encoders (both, or the refiner's one), on the device."""

    facts: ModelFacts
    unet: UNet2DConditionModel
    encoders: tuple[Any, ...]
    stack: LoraStack

    @property
    def is_refiner(self) -> bool:
        return self.facts.kind == "refiner"


class Studio:
    """What is loaded now. `open` brings it to what a plan asks for; `close` lets everything go."""

    def __init__(self) -> None:
        self.experts: dict[tuple[object, ...], Expert] = {}
        self.vaes: dict[tuple[object, ...], AutoencoderKL] = {}
        self._encoders: dict[tuple[object, ...], PromptEncoder] = {}

    def open(self, plan: DrawingPlan, say: Say) -> tuple[Expert, Expert | None, AutoencoderKL]:
        """Base, refiner and VAE of a plan. What no plan's model needs any more is let go first. Raises UserError."""
        settings = plan.preset.model
        device = device_of(settings.device, settings.precision, settings.threads, "model")
        wanted = [facts for facts in (plan.base, plan.refiner) if facts is not None]
        keys = [_expert_key(facts, settings, device) for facts in wanted]
        vae_key = (*_stamp(plan.vae or plan.base.path), settings.precision, settings.vae_precision, str(device))
        self._let_go(set(keys), vae_key)
        for facts, key in zip(wanted, keys, strict=True):
            if key not in self.experts:
                say("Loading the refiner" if facts is plan.refiner else "Loading the base model")
                self.experts[key] = _load_expert(facts, settings, device)
        if vae_key not in self.vaes:
            dtype = computation_in(settings.precision, plan.base, device).dtype
            dtype = torch.float32 if settings.vae_precision == "fp32" else dtype
            self.vaes[vae_key] = checkpoint.load_vae(plan.base, dtype, device, plan.vae)
        experts = [self.experts[key] for key in keys]
        return experts[0], experts[1] if len(experts) > 1 else None, self.vaes[vae_key]

    def prompts(self, expert: Expert, loras: Sequence[LoraChoice], clip_skip: int) -> PromptEncoder:
        """What encodes prompts with this expert as it is with these LoRAs; it keeps the texts that it knows."""
        key = (id(expert), clip_skip, *expert.stack.texts_mark(loras))
        if key not in self._encoders:
            self._encoders = {old: encoder for old, encoder in self._encoders.items() if old[0] != id(expert)}
            self._encoders[key] = PromptEncoder(expert.encoders, clip_skip)
        return self._encoders[key]

    def wake(self, expert: Expert) -> None:
        """Bring the expert's text encoders to where its UNet is."""
        for encoder in expert.encoders:
            encoder.to(expert.unet.device)

    def rest(self, expert: Expert) -> None:
        """Let the text encoders leave a small GPU until they are woken; what is on them stays where it is."""
        if _is_small(expert.unet.device):
            for encoder in expert.encoders:
                encoder.to("cpu")
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Let all weights go, and give the GPU's memory back."""
        self.experts.clear()
        self.vaes.clear()
        self._encoders.clear()
        _give_back()

    def _let_go(self, keys: set[tuple[object, ...]], vae_key: tuple[object, ...]) -> None:
        unwanted = [key for key in self.experts if key not in keys]
        for key in unwanted:
            expert = self.experts.pop(key)
            self._encoders = {old: one for old, one in self._encoders.items() if old[0] != id(expert)}
        for key in [key for key in self.vaes if key != vae_key]:
            del self.vaes[key]
        if unwanted:
            _give_back()


def _is_small(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < SMALL_GPU_BYTES


def _give_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load_expert(facts: ModelFacts, settings: Model, device: torch.device) -> Expert:
    computation = computation_in(settings.precision, facts, device)
    dtype, narrow = computation.dtype, computation.keep_narrow
    unet = checkpoint.load_unet(facts, dtype, device, narrow, settings.unet_storage)
    if facts.kind == "refiner":
        encoders: tuple[Any, ...] = (checkpoint.load_refiner_text(facts, dtype, device, narrow),)
        return Expert(facts, unet, encoders, LoraStack({UNET: unet}, dtype))
    both = checkpoint.load_text_encoders(facts, dtype, device, narrow)
    models = {UNET: unet, TEXT_1: both.one, TEXT_2: both.two}
    return Expert(facts, unet, (both.one, both.two), LoraStack(models, dtype))


def _expert_key(facts: ModelFacts, settings: Model, device: torch.device) -> tuple[object, ...]:
    return (*_stamp(facts.path), settings.precision, settings.unet_storage, str(device))


def _stamp(path: Path) -> tuple[str, int, int]:
    """Tells a changed file. Of a folder the UNet's folder counts, where new weights would lie."""
    inner = path / "unet" if path.is_dir() else path
    status = inner.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns
