"""Settings of the section `optimizer`: how steps are made, and the learning rate over the run."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting

Name = Literal[
    "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion", "lion_8bit", "paged_lion_8bit", "sgd_nesterov",
    "sgd_nesterov_8bit", "adafactor", "dadapt_adam", "dadapt_adagrad", "dadapt_lion", "dadapt_sgd", "prodigy",
    "prodigy_plus_schedule_free", "adamw_schedule_free", "radam_schedule_free", "sgd_schedule_free", "ademamix",
    "ademamix_8bit", "paged_ademamix_8bit", "came", "adan", "stable_adamw", "radam", "adopt", "lamb", "muon", "soap",
]  # fmt: skip
Schedule = Literal[
    "constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt", "warmup_stable_decay", "rex",
    "piecewise_constant", "adafactor",
]  # fmt: skip


class Optimizer(Section):
    name: Name = setting("adamw", "How steps are computed from gradients; docs/optimizers.md tells what each is good for and which rate it takes.", "优化器", label="Optimizer", kohya="optimizer", sd_scripts="optimizer_type")
    unet_rate: float = setting(1e-4, "Learning rate of the UNet part.", "UNet 学习率", label="Learning rate, UNet", ge=0, le=10, kind="rate", kohya="unet_lr", sd_scripts="unet_lr")
    text_encoder_1_rate: float = setting(5e-5, "Learning rate of the first text encoder's part.", "文本编码器 1 学习率", label="Learning rate, text encoder 1", ge=0, le=10, kind="rate", when={"adapter.text_encoder_1": True}, kohya="text_encoder_lr", sd_scripts="text_encoder_lr")
    text_encoder_2_rate: float = setting(5e-5, "Learning rate of the second text encoder's part.", "文本编码器 2 学习率", label="Learning rate, text encoder 2", ge=0, le=10, kind="rate", when={"adapter.text_encoder_2": True}, kohya="text_encoder_lr", sd_scripts="text_encoder_lr")
    schedule: Schedule = setting("cosine", "How the learning rate moves over the run after the warm-up; the picture below shows it.", "学习率调度", kohya="lr_scheduler", sd_scripts="lr_scheduler")
    warmup_steps: int = setting(0, "Steps over which the learning rate rises from zero at the start; 0 leaves it to the share beside.", "预热步数", ge=0, le=1000000, unit="steps", kohya="lr_warmup_steps", sd_scripts="lr_warmup_steps")
    warmup_share: float = setting(0.0, "The same as a share of the run: 0.1 is its first tenth.", "预热比例", label="Warm-up, share of the run", ge=0, le=1, level="advanced", kohya="lr_warmup", sd_scripts="lr_warmup_steps")
    min_ratio: float = setting(0.0, "Where a falling schedule ends, as a share of the full rate; 0.1 ends at a tenth.", "最低学习率比例", label="Lowest rate, share", ge=0, le=1, level="advanced", sd_scripts="lr_scheduler_min_lr_ratio")
    cycles: int = setting(3, "How many times the rate falls and starts again.", "重启周期数", ge=1, le=1000, level="advanced", when={"optimizer.schedule": "cosine_with_restarts"}, kohya="lr_scheduler_num_cycles", sd_scripts="lr_scheduler_num_cycles")
    power: float = setting(2.0, "How the rate falls: 1 in a line, more falls early, less falls late.", "多项式指数", gt=0, le=20, level="advanced", when={"optimizer.schedule": "polynomial"}, kohya="lr_scheduler_power", sd_scripts="lr_scheduler_power")
    timescale_steps: int = setting(0, "Steps after the warm-up until the rate has fallen to 0.7 of the full one; 0 takes the warm-up's, or 10000.", "时间尺度", label="Timescale", ge=0, le=10000000, unit="steps", level="advanced", when={"optimizer.schedule": "inverse_sqrt"}, sd_scripts="lr_scheduler_timescale")
    decay_steps: int = setting(0, "Steps over which the rate falls at the end; 0 leaves it to the share beside.", "衰减步数", ge=0, le=10000000, unit="steps", level="advanced", when={"optimizer.schedule": "warmup_stable_decay"}, sd_scripts="lr_decay_steps")
    decay_share: float = setting(0.2, "The same as a share of the run: 0.2 is its last fifth.", "衰减比例", label="Decay, share of the run", ge=0, le=1, level="advanced", when={"optimizer.schedule": "warmup_stable_decay"}, sd_scripts="lr_decay_steps")
    decay_shape: Literal["cosine", "linear", "sqrt"] = setting("cosine", "How the rate falls at the end: in half a wave, in a line, or steep at first.", "衰减形状", level="advanced", when={"optimizer.schedule": "warmup_stable_decay"})
    points: str = setting("50%:0.5, 75%:0.25", "Where the rate changes, as step:factor pairs; a step may be a share of the run in percent.", "分段点", label="Points", level="advanced", when={"optimizer.schedule": "piecewise_constant"})
    weight_decay: float = setting(0.01, "How strongly weights are pulled towards zero.", "权重衰减", ge=0, le=1, level="advanced", sd_scripts="optimizer_args")
    beta1: float = setting(0.0, "How long the optimizer remembers the direction of steps; 0 takes its own number (AdamW: 0.9).", "Beta 1", ge=0, le=0.99999, level="expert", sd_scripts="optimizer_args")
    beta2: float = setting(0.0, "How long the optimizer remembers the size of steps; 0 takes its own number (AdamW: 0.999).", "Beta 2", ge=0, le=0.99999, level="expert", sd_scripts="optimizer_args")
    epsilon: float = setting(0.0, "Smallest divisor in a step, against division by zero; 0 takes the optimizer's own number (AdamW: 1e-8).", "Epsilon", ge=0, le=1, kind="rate", level="expert", sd_scripts="optimizer_args")
    extra: str = setting("", "More numbers for the optimizer, as name=value pairs; docs/optimizers.md lists the names that each one knows.", "优化器额外参数", label="Extra arguments", level="expert", kohya="optimizer_args", sd_scripts="optimizer_args")
    clip_norm: float = setting(1.0, "Largest length of the gradient; longer ones are shortened to it. 0 switches this off.", "梯度裁剪", ge=0, le=1000, level="advanced", kohya="max_grad_norm", sd_scripts="max_grad_norm")
