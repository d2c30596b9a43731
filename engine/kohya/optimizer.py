"""Rules for the optimizer, its arguments and the schedule of the learning rate."""

from __future__ import annotations

import ast
import shlex
from typing import Any

from engine.kohya.plain import unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.optimizer_arguments import ARGUMENTS, argument_problems, places
from engine.optimizer_kinds import OPTIMIZERS
from engine.schedules import FALLING
from engine.sections.optimizer import Optimizer

# Names there, in small letters and without their package → ours, where underscores do not already tell
NAMES: dict[str, str] = {
    "pagedadamw32bit": "paged_adamw", "dadaptation": "dadapt_adam", "dadaptadampreprint": "dadapt_adam",
    "schedulefreeadamw": "adamw_schedule_free", "adamwschedulefree": "adamw_schedule_free",
    "schedulefreeradam": "radam_schedule_free", "radamschedulefree": "radam_schedule_free",
    "schedulefreesgd": "sgd_schedule_free", "sgdschedulefree": "sgd_schedule_free",
    "prodigyplusschedulefree": "prodigy_plus_schedule_free",
    **{name.replace("_", ""): name for name in OPTIMIZERS},
}  # fmt: skip
_DIVERGES = "it diverged in our trials; prodigy finds its rate too, and is steadier"
# Names that sd-scripts knows and Atelier refuses
REFUSED = {"dadaptadan": _DIVERGES, "dadaptadanip": _DIVERGES}
# What the optimizers there do where no argument is given, other than here
_THERE: dict[str, dict[str, str]] = {
    **{name: {"weight_decouple": "False"} for name in ("dadapt_adam", "dadapt_adagrad", "dadapt_sgd")},
    "adafactor": {"scale_parameter": "True"},
}
_DECAY_OF_0_01 = (
    "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "ademamix_8bit", "paged_ademamix_8bit", "stable_adamw",
    "soap",
)  # fmt: skip
RENAMED = {"decouple": "weight_decouple", "use_bias_correction": "bias_correction"}
_WITHOUT_EFFECT = ("fsdp_in_use", "log_every", "foreach", "fused", "slice_p")
_SCHEDULES = {"constant_with_warmup": "constant", "cosine_with_min_lr": "cosine", "cosine_warmup_with_min_lr": "cosine"}
_END_RATE = 1e-7  # where polynomial ends there, whatever the rate


def optimizer_of(values: Values) -> str:
    """Our name for the optimizer of the file, or ""."""
    name = str(values["optimizer" if values.is_kohya else "optimizer_type"] or "")
    if not name:
        name = "AdamW8bit" if values["use_8bit_adam"] else "Lion" if values["use_lion_optimizer"] else "AdamW"
    return NAMES.get(name.lower().rsplit(".", 1)[-1], "")


def optimizer(values: Values, key: str) -> Outcome:
    """By name, whatever its case; "bitsandbytes.optim.AdamW8bit" is AdamW8bit."""
    found = optimizer_of(values)
    if found:
        return Outcome("converted", {"optimizer.name": found})
    name = str(values[key])
    why = REFUSED.get(name.lower().rsplit(".", 1)[-1], "Atelier does not have it")
    what = f"{why}. The preset uses AdamW: check the learning rates, they were for {name}"
    return Outcome("ignored_effect", {"optimizer.name": "adamw"}, what)


def older_switch(values: Values, key: str) -> Outcome:
    """--use_8bit_adam and --use_lion_optimizer."""
    if not values[key]:
        return Outcome("ignored_default")
    if values["optimizer_type"]:
        return unused(values, key, {}, "optimizer_type decides")
    return Outcome("converted", note="an older way to name the optimizer", setting="optimizer.name")


def is_relative(values: Values) -> bool:
    """Whether this is Adafactor with a learning rate of its own, as it is there unless told otherwise."""
    given = dict(_pairs(values["optimizer_args"]) or ())
    return optimizer_of(values) == "adafactor" and given.get("relative_step", "True") != "False"


def optimizer_args(values: Values, key: str) -> Outcome:
    """name=value texts: into settings where there is one, else into optimizer.extra under the names used here."""
    pairs = _pairs(values[key])
    if pairs is None:
        return Outcome("ignored_effect", note="cannot be read: a quotation mark is missing")
    name = optimizer_of(values) or "adamw"
    settings: dict[str, Any] = {"optimizer.weight_decay": 0.01 if name in _DECAY_OF_0_01 else 0.0}
    extra, lost = dict(_THERE.get(name, {})), []
    if name == "dadapt_sgd" and "momentum" not in dict(pairs):
        extra["momentum"] = "0.0"
    for argument, text in pairs:
        if not _take(name, RENAMED.get(argument, argument), text, settings, extra):
            lost.append(f"{argument}={text}")
    if extra:
        settings["optimizer.extra"] = ", ".join(f"{argument}={text}" for argument, text in extra.items())
    if lost:
        return Outcome("ignored_effect", settings, "not taken over: " + ", ".join(lost))
    return Outcome("converted" if pairs else "ignored_default", settings)


def _take(name: str, argument: str, text: str, settings: dict[str, Any], extra: dict[str, str]) -> bool:
    """Take over one argument; False where that cannot be done."""
    kind = OPTIMIZERS[name]
    numbers = _numbers(text)
    if argument == "weight_decay" and len(numbers) == 1 and 0 <= numbers[0] <= 1:
        settings["optimizer.weight_decay"] = float(numbers[0])
        return True
    if argument == "warmup_steps" and kind.schedule_free and len(numbers) == 1:
        settings["optimizer.warmup_steps"] = int(numbers[0])
        return True
    if argument in _WITHOUT_EFFECT or (name == "adafactor" and argument == "relative_step"):
        return True
    if argument == "warmup_init" and text == "False" and name == "adafactor":
        return True
    homes = [setting for setting, (home, _) in places(name).items() if home == argument]
    if homes and len(numbers) == len(homes) and all(0 < number < 1 for number in numbers):
        settings.update({f"optimizer.{home}": float(number) for home, number in zip(homes, numbers, strict=True)})
        return True
    if argument not in ARGUMENTS[name]:
        return False
    if any(argument_problems(Optimizer.model_validate({"name": name, "extra": f"{argument}={text}"}))):
        return False
    extra[argument] = text
    return True


def schedule_of(values: Values) -> str:
    """Our name for the schedule of the file, or ""."""
    name = str(values["lr_scheduler"]).split(":")[0]
    if OPTIMIZERS[optimizer_of(values) or "adamw"].schedule_free:
        return "constant"
    if is_relative(values):
        return "adafactor"
    if name == "cosine_with_restarts" and (values["lr_scheduler_num_cycles"] or 1) == 1:
        return "cosine"
    renamed = {
        "constant_with_warmup": "constant",
        "cosine_with_min_lr": "cosine",
        "cosine_warmup_with_min_lr": "cosine",
    }
    return "" if name == "adafactor" else renamed.get(name, name if name in (*FALLING, *_OTHERS) else "")


_OTHERS = ("constant", "inverse_sqrt", "piecewise_constant")


def scheduler(values: Values, key: str) -> Outcome:
    name, found = str(values[key]), schedule_of(values)
    settings: dict[str, Any] = {"optimizer.schedule": found or "constant"}
    if not found:
        what = "it stopped the trainer there" if name == "reduce_lr_on_plateau" else f"Atelier does not have {name}"
        return Outcome("ignored_effect", settings, f"{what}; the rate stays constant")
    if name == found:
        if found == "polynomial":
            settings["optimizer.min_ratio"] = _ratio(values, _scheduler_pairs(values).get("lr_end", str(_END_RATE)))
            return Outcome("converted", settings, f"it ends at {_END_RATE:g} there unless lr_end is given, and so here")
        return Outcome("honoured", settings)
    if OPTIMIZERS[optimizer_of(values) or "adamw"].schedule_free:
        return Outcome("converted", settings, "the optimizer needs none, and there it had none either")
    notes = {"adafactor": "Adafactor's own rate, as there", "constant": "warm-up is a setting of its own"}
    return Outcome("converted", settings, notes.get(found, "said with other settings"))


def scheduler_number(values: Values, key: str) -> Outcome:
    """Cycles, power, timescale and lowest rate: of one schedule each."""
    owners, setting = NUMBERS[key]
    owner = " and ".join(owners)
    value = values[key]
    if value is None:
        return Outcome("ignored_default")
    if str(values["lr_scheduler"]) not in owners or schedule_of(values) not in (*FALLING, "inverse_sqrt"):
        return unused(values, key, {}, f"only {owner} uses it")
    if key == "lr_scheduler_num_cycles" and schedule_of(values) == "cosine":
        return Outcome("converted", note="one cycle is a plain cosine", setting="optimizer.schedule")
    return Outcome("honoured", {setting: value})


NUMBERS: dict[str, tuple[tuple[str, ...], str]] = {
    "lr_scheduler_num_cycles": (("cosine_with_restarts",), "optimizer.cycles"),
    "lr_scheduler_power": (("polynomial",), "optimizer.power"),
    "lr_scheduler_timescale": (("inverse_sqrt",), "optimizer.timescale_steps"),
    "lr_scheduler_min_lr_ratio": (
        ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay"), "optimizer.min_ratio",
    ),
}  # fmt: skip


def decay_steps(values: Values, key: str) -> Outcome:
    """Steps, or a share: 0.2 or "20%"."""
    if str(values["lr_scheduler"]) != "warmup_stable_decay":
        return unused(values, key, {}, "only warmup_stable_decay uses it")
    share = share_of(values[key])
    if share is None:
        return Outcome("ignored_effect", note="is neither a number of steps nor a share such as 20%")
    if share < 1:
        return Outcome("converted", {"optimizer.decay_steps": 0, "optimizer.decay_share": share}, f"{share * 100:g} %")
    return Outcome("honoured", {"optimizer.decay_steps": int(share)})


def share_of(amount: Any) -> float | None:
    """ "10%" and 0.1 as 0.1, a number of steps as it is; None for anything else."""
    try:
        return float(amount.rstrip("% ")) / 100 if isinstance(amount, str) else float(amount or 0)
    except ValueError:
        return None


def scheduler_args(values: Values, key: str) -> Outcome:
    """The arguments that schedules there know: step_rules, lr_end, min_lr and min_lr_rate."""
    found, schedule = _scheduler_pairs(values), schedule_of(values)
    settings: dict[str, Any] = {}
    lost: list[str] = []
    for name, text in found.items():
        if name == "step_rules" and schedule == "piecewise_constant" and _points(text):
            settings["optimizer.points"] = _points(text)
        elif name == "min_lr_rate" and str(values["lr_scheduler"]).endswith("min_lr") and _numbers(text):
            settings["optimizer.min_ratio"] = float(_numbers(text)[0])
        elif name == "min_lr" and str(values["lr_scheduler"]).endswith("min_lr") and _numbers(text):
            settings["optimizer.min_ratio"] = _ratio(values, text)
        elif name != "lr_end" or schedule != "polynomial":
            lost.append(f"{name}={text}")
    if lost or (values[key] and not found):
        return Outcome("ignored_effect", settings, "not taken over: " + (", ".join(lost) or str(values[key])))
    if not found:
        return Outcome("ignored_default")
    return Outcome("converted", settings, setting="" if settings else "optimizer.min_ratio")


def _points(rules: str) -> str:
    """ "1:10,0.1:20,0.005" (factor until a step; the last one from there on) as our "10:0.1, 20:0.005"."""
    parts = [part.strip().partition(":") for part in rules.strip("\"' ").split(",")]
    ends = [end for _, _, end in parts[:-1]]
    if not parts or not all(end.isdigit() for end in ends) or not all(_numbers(value) for value, _, _ in parts):
        return ""
    starts = ["0", *ends]
    return ", ".join(f"{start}:{value}" for start, (value, _, _) in zip(starts, parts, strict=True))


def _ratio(values: Values, rate_there: str) -> float:
    """A rate as a share of the UNet's (or of the one rate that there is)."""
    whole = next((rate for rate in (values["unet_lr"], values["learning_rate"]) if rate), 1e-4)
    numbers = _numbers(rate_there)
    return min(1.0, float(numbers[0]) / float(whole)) if numbers else 0.0


def _scheduler_pairs(values: Values) -> dict[str, str]:
    return dict(_pairs(values["lr_scheduler_args"]) or ())


def _pairs(value: Any) -> list[tuple[str, str]] | None:
    """name=value texts of a list, or of a text with blanks between; None where quotes do not close."""
    try:
        texts = [str(text) for text in value] if isinstance(value, list) else shlex.split(str(value or ""))
    except ValueError:
        return None
    parts = [text.strip("\"' ").partition("=") for text in texts]
    return [(name.strip(), text.strip()) for name, _, text in parts if name.strip()]


def _numbers(text: str) -> list[float]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    parts = list(found) if isinstance(found, (list, tuple)) else [found]
    return parts if all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts) else []
