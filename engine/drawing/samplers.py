"""The samplers of finished pictures: diffusers' schedulers with SDXL's settings, and the steps made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.sdxl.noise import TRAIN_TIMESTEPS, Prediction, sdxl_schedule
from engine.sdxl.samplers import scheduler_config
from engine.sdxl.third_order import third_order_step

if TYPE_CHECKING:
    from engine.drawing.groups import Sampling

SMALLEST_ALPHA = 2.0**-24  # what stands for ᾱ = 0 where a division by it follows; as diffusers does


@dataclass(frozen=True)
class Steps:
    """The steps that one expert makes: its scheduler, at which of the scheduler's timesteps it begins, and these.

    `order`: how many timesteps make one step (2 for Heun).
    """

    scheduler: Any
    begin: int
    timesteps: torch.Tensor

    @property
    def order(self) -> int:
        return int(self.scheduler.order)

    def number(self, index: int) -> int:
        """The step, counted from 1 over the whole way, that the index-th of these timesteps belongs to."""
        return (self.begin + index) // self.order + 1


def all_steps(
    sampling: Sampling, prediction: Prediction, zero_terminal_snr: bool, steps: int, strength: float = 1.0
) -> Steps:
    """The steps from pure noise, or with a `strength` below 1 the last ⌊steps · strength⌋ of them (diffusers' way)."""
    scheduler = make_scheduler(sampling, prediction, zero_terminal_snr)
    scheduler.set_timesteps(steps)
    skipped = max(steps - min(int(steps * strength), steps), 0) * int(scheduler.order)
    return _steps(scheduler, skipped, len(scheduler.timesteps))


def split_at(steps: Steps, later: Steps, switch_at: float) -> tuple[Steps, Steps]:
    """The steps of the first expert and those of the second, who takes over after the share `switch_at` of the way.

    As diffusers' `denoising_end` and `denoising_start`: the first makes the timesteps from round(1000 · (1 − share))
    up. `later` are all steps with the second expert's scheduler. Steps of several timesteps are not cut in two.
    """
    cutoff = round(TRAIN_TIMESTEPS * (1 - switch_at))
    count = int((steps.timesteps >= cutoff).sum())
    if steps.order > 1:  # the timesteps are t₀ t₁ t₁ t₂ t₂ …: the first step has (t₀ t₁), the second (t₁ t₂)
        count -= (steps.begin + count) % steps.order
    count = max(count, 0)
    first = _steps(steps.scheduler, steps.begin, steps.begin + count)
    return first, _steps(later.scheduler, steps.begin + count, len(later.scheduler.timesteps))


def _steps(scheduler: Any, begin: int, end: int) -> Steps:
    if hasattr(scheduler, "set_begin_index"):  # DDIM has none: it finds its place by the timestep
        scheduler.set_begin_index(begin)
    return Steps(scheduler, begin, scheduler.timesteps[begin:end])


def make_scheduler(sampling: Sampling, prediction: Prediction, zero_terminal_snr: bool) -> Any:
    """A scheduler with SDXL's noise schedule and the settings' noise levels and spacing."""
    config = scheduler_config(prediction, zero_terminal_snr)
    if sampling.spacing != "auto":
        config["timestep_spacing"] = sampling.spacing
    if sampling.sigmas != "normal":
        config[f"use_{sampling.sigmas}_sigmas"] = True
    return DRAWING_SAMPLERS[sampling.sampler](config)


def _euler(config: dict[str, Any]) -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**config)


def _euler_a(config: dict[str, Any]) -> Any:
    from diffusers import EulerAncestralDiscreteScheduler

    return EulerAncestralDiscreteScheduler(**config)


def _heun(config: dict[str, Any]) -> Any:
    """diffusers' has no zero terminal SNR of its own: it is given the β of the rescaled schedule."""
    from diffusers import HeunDiscreteScheduler

    rescaled = config.pop("rescale_betas_zero_snr")
    if rescaled:
        kept = sdxl_schedule(zero_terminal_snr=True).alphas_cumprod.double()
        kept[-1] = SMALLEST_ALPHA
        before = torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
        config["trained_betas"] = (1 - kept / before).tolist()
    return HeunDiscreteScheduler(**config)


def _dpm(**options: Any) -> Callable[[dict[str, Any]], Any]:
    def make(config: dict[str, Any]) -> Any:
        from diffusers import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(**config, **options)

    return make


def _dpm_3m_sde(config: dict[str, Any]) -> Any:
    """Steps of third order are ours (see third_order.py), all else is diffusers' solver."""
    from diffusers import DPMSolverMultistepScheduler

    class ThirdOrder(DPMSolverMultistepScheduler):
        def multistep_dpm_solver_third_order_update(
            self, model_output_list: list[torch.Tensor], *args: Any, sample: Any = None, noise: Any = None, **rest: Any
        ) -> torch.Tensor:
            at: Any = self.step_index
            levels = [self._sigma_to_alpha_sigma_t(self.sigmas[at + offset]) for offset in (1, 0, -1, -2)]
            logs = torch.stack([torch.log(alpha) - torch.log(sigma) for alpha, sigma in levels])
            (alpha, sigma), (_, sigma_now) = levels[:2]
            denoised = (model_output_list[-1], model_output_list[-2], model_output_list[-3])
            return third_order_step(sample, denoised, (alpha, sigma / sigma_now), logs[:3] - logs[1:], sigma * noise)

    options: dict[str, Any] = {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "solver_type": "heun"}
    return ThirdOrder(**config, **options, lower_order_final=False)


def _ddim(config: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False)


def _unipc(config: dict[str, Any]) -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(**config)


def _lcm(config: dict[str, Any]) -> Any:
    """Its timesteps are those it was distilled on (Luo et al. 2023, arXiv 2310.04378), whatever the spacing."""
    from diffusers import LCMScheduler

    return LCMScheduler(**config, clip_sample=False, set_alpha_to_one=False)


DRAWING_SAMPLERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "euler": _euler,
    "euler_a": _euler_a,
    "heun": _heun,
    "dpmpp_2m": _dpm(),
    "dpmpp_2m_sde": _dpm(algorithm_type="sde-dpmsolver++"),
    "dpmpp_3m_sde": _dpm_3m_sde,
    "ddim": _ddim,
    "unipc": _unipc,
    "lcm": _lcm,
}
