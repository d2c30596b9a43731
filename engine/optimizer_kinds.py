"""Every optimizer in one line or a few: where it is, what it is good for, and what to know about it. Torch-free.

Classes are imported when a run begins (engine/optimizers.py); rules, the page and docs/optimizers.md read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """An optimizer. `source` is "module:Class".

    memory_bytes: what it keeps per trained number, on LoRA matrices of rank 16. rate: to begin with, where AdamW takes
    1e-4. own: defaults of ours that differ from the package's; fixed: arguments that nobody else may set. shaped: looks
    at each matrix by itself. rate_free: finds the learning rate, and ours multiplies it. one_rate: all groups share a
    rate. schedule_free: averages weights in place of a falling rate. gpu_only: needs CUDA.
    """

    source: str
    memory_bytes: float
    rate: float
    good_for: str
    own: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    shaped: bool = False
    rate_free: bool = False
    one_rate: bool = False
    schedule_free: bool = False
    gpu_only: bool = False

    @property
    def waits(self) -> bool:
        """Whether each step waits for the device: its rate is read back, or its memory is moved."""
        return self.rate_free or self.gpu_only


_DADAPT: dict[str, Any] = {"rate": 1.0, "rate_free": True, "one_rate": True, "own": {"weight_decouple": True}}

OPTIMIZERS: dict[str, Kind] = {
    "adamw": Kind("torch.optim:AdamW", 8, 1e-4, "the standard; one fused kernel", fixed={"fused": True}),
    "adamw_8bit": Kind("bitsandbytes.optim:AdamW8bit", 2.1, 1e-4, "AdamW in a quarter of its memory"),
    "paged_adamw": Kind(
        "bitsandbytes.optim:PagedAdamW32bit", 8, 1e-4, "AdamW whose moments may move to main memory", gpu_only=True
    ),
    "paged_adamw_8bit": Kind(
        "bitsandbytes.optim:PagedAdamW8bit", 2.1, 1e-4, "8-bit AdamW whose moments may move to main memory",
        gpu_only=True,
    ),
    "lion": Kind("pytorch_optimizer:Lion", 4, 2e-5, "all steps of one size; takes a lower rate and more decay"),
    "lion_8bit": Kind("bitsandbytes.optim:Lion8bit", 1.1, 2e-5, "Lion in a quarter of its memory"),
    "paged_lion_8bit": Kind(
        "bitsandbytes.optim:PagedLion8bit", 1.1, 2e-5, "8-bit Lion whose memory may move to main memory", gpu_only=True
    ),
    "sgd_nesterov": Kind(
        "torch.optim:SGD", 4, 1e-1, "plain gradient steps; needs a far higher rate and patience",
        own={"momentum": 0.9}, fixed={"nesterov": True, "fused": True},
    ),
    "sgd_nesterov_8bit": Kind(
        "bitsandbytes.optim:SGD8bit", 1.1, 1e-1, "the same in less memory, without Nesterov's look-ahead",
        own={"momentum": 0.9}, fixed={"nesterov": True},
    ),
    "adafactor": Kind(
        "transformers.optimization:Adafactor", 0.3, 1e-4, "almost no memory; rates of its own with schedule adafactor",
        own={"scale_parameter": False}, fixed={"relative_step": False, "warmup_init": False}, shaped=True,
    ),
    "dadapt_adam": Kind("pytorch_optimizer:DAdaptAdam", 12, good_for="Adam that finds its rate", **_DADAPT),
    "dadapt_adagrad": Kind("pytorch_optimizer:DAdaptAdaGrad", 12, good_for="AdaGrad that finds its rate", **_DADAPT),
    "dadapt_lion": Kind("pytorch_optimizer:DAdaptLion", 8, good_for="Lion that finds its rate", **_DADAPT),
    "dadapt_sgd": Kind("pytorch_optimizer:DAdaptSGD", 12, good_for="SGD that finds its rate; slow to begin", **_DADAPT),
    "prodigy": Kind(
        "pytorch_optimizer:Prodigy", 16, 1.0, "finds its rate, faster than D-Adaptation; the usual choice of that kind",
        rate_free=True, one_rate=True,
    ),
    "prodigy_plus_schedule_free": Kind(
        "prodigyplus.prodigy_plus_schedulefree:ProdigyPlusScheduleFree", 4.7, 1.0,
        "finds its rate and needs no schedule; experimental, says its author",
        fixed={"stochastic_rounding": False, "fused_back_pass": False}, shaped=True, rate_free=True, schedule_free=True,
    ),
    "adamw_schedule_free": Kind(
        "pytorch_optimizer:ScheduleFreeAdamW", 8, 3e-4, "AdamW on averaged weights: runs may end at any step",
        schedule_free=True,
    ),
    "radam_schedule_free": Kind(
        "pytorch_optimizer:ScheduleFreeRAdam", 8, 3e-4, "the same, and needs no warm-up", schedule_free=True
    ),
    "sgd_schedule_free": Kind(
        "pytorch_optimizer:ScheduleFreeSGD", 4, 1e-1, "SGD on averaged weights", schedule_free=True
    ),
    "ademamix": Kind(
        "pytorch_optimizer:AdEMAMix", 12, 1e-4, "AdamW with a second, very long memory; for long runs",
        own={"weight_decouple": True},
    ),
    "ademamix_8bit": Kind("bitsandbytes.optim:AdEMAMix8bit", 3.1, 1e-4, "AdEMAMix in a quarter of its memory"),
    "paged_ademamix_8bit": Kind(
        "bitsandbytes.optim:PagedAdEMAMix8bit", 3.1, 1e-4, "8-bit AdEMAMix whose moments may move to main memory",
        gpu_only=True,
    ),
    "came": Kind("pytorch_optimizer:CAME", 4.6, 1e-4, "Adafactor with momentum and confidence; calm", shaped=True),
    "adan": Kind("pytorch_optimizer:Adan", 16, 1e-4, "looks ahead by the change of gradients; bears high rates"),
    "stable_adamw": Kind(
        "pytorch_optimizer:StableAdamW", 8, 1e-4, "AdamW that clips each matrix's update by itself", shaped=True
    ),
    "radam": Kind("pytorch_optimizer:RAdam", 8, 1e-4, "Adam with a warm-up of its own"),
    "adopt": Kind(
        "pytorch_optimizer:ADOPT", 8, 1e-4, "Adam that converges with any beta2", own={"weight_decouple": True}
    ),
    "lamb": Kind("pytorch_optimizer:Lamb", 8, 1e-3, "steps as large as each matrix; for large batches", shaped=True),
    "muon": Kind(
        "pytorch_optimizer:Muon", 4, 1e-3, "orthogonal steps: all directions of a matrix learn alike", shaped=True
    ),
    "soap": Kind(
        "pytorch_optimizer:SOAP", 9, 1e-4, "Adam in the turned space of Shampoo; fewest steps, dearest step",
        own={"max_precondition_dim": 256}, shaped=True,
    ),
}  # fmt: skip
