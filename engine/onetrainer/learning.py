"""Rules for the optimizer, the learning rates of the parts and how they move."""

from __future__ import annotations

from engine.kohya.receipt import Outcome
from engine.onetrainer.shared import Values, unless_default
from engine.optimizer_arguments import places
from engine.optimizer_kinds import OPTIMIZERS
from engine.schedules import FALLING

NAMES = {
    "ADAMW": "adamw", "ADAMW_8BIT": "adamw_8bit", "LION": "lion", "LION_8BIT": "lion_8bit", "ADAFACTOR": "adafactor",
    "PRODIGY": "prodigy", "PRODIGY_PLUS_SCHEDULE_FREE": "prodigy_plus_schedule_free", "CAME": "came",
    "SCHEDULE_FREE_ADAMW": "adamw_schedule_free", "SCHEDULE_FREE_SGD": "sgd_schedule_free",
    "DADAPT_ADA_GRAD": "dadapt_adagrad", "DADAPT_ADAM": "dadapt_adam", "DADAPT_LION": "dadapt_lion",
    "DADAPT_SGD": "dadapt_sgd", "AdEMAMix": "ademamix", "AdEMAMix_8BIT": "ademamix_8bit", "ADOPT": "adopt",
    "LAMB": "lamb",
}  # fmt: skip
_PAGED = {"adamw_8bit": "paged_adamw_8bit", "lion_8bit": "paged_lion_8bit", "ademamix_8bit": "paged_ademamix_8bit"}
_DECAY_OF_0_01 = (
    "adamw", "adamw_8bit", "ademamix", "ademamix_8bit", "adamw_schedule_free", "sgd_schedule_free", "came",
)  # fmt: skip
_SCHEDULES = {
    "CONSTANT": "constant", "LINEAR": "linear", "COSINE": "cosine", "COSINE_WITH_HARD_RESTARTS": "cosine_with_restarts",
    "REX": "rex", "ADAFACTOR": "adafactor",
}  # fmt: skip
_SHAPES = {
    "COSINE": "half a wave down to the lowest share; OneTrainer's own ends half-way",
    "REX": "a little less steep at the end than there",
}


def schedule_of(values: Values) -> str:
    if OPTIMIZERS[optimizer_of(values)].schedule_free:
        return "constant"
    if optimizer_of(values) == "adafactor" and values["optimizer.relative_step"]:
        return "adafactor"
    found = _SCHEDULES.get(str(values["learning_rate_scheduler"]), "constant")
    return "constant" if found == "adafactor" else found


def scheduler(values: Values, key: str) -> Outcome:
    word, found = str(values[key]), schedule_of(values)
    if word not in _SCHEDULES:
        what = f"Atelier does not have {word}; the rate stays constant"
        return Outcome("ignored_effect", {"optimizer.schedule": found}, what)
    return Outcome("converted", {"optimizer.schedule": found}, _SHAPES.get(word, "") if found != "constant" else "")


def warmup(values: Values, key: str) -> Outcome:
    """Above 1 batches, up to 1 a share of the run."""
    amount = float(values[key])
    if amount <= 0:
        return Outcome("honoured" if amount == 0 else "converted", {"optimizer.warmup_steps": 0})
    if amount <= 1:
        return Outcome("honoured", {"optimizer.warmup_share": amount})
    steps = int(amount / values["gradient_accumulation_steps"])
    if steps == amount:
        return Outcome("honoured", {"optimizer.warmup_steps": steps})
    return Outcome("converted", {"optimizer.warmup_steps": steps}, "batches there, steps here")


def cycles(values: Values, key: str) -> Outcome:
    if schedule_of(values) != "cosine_with_restarts":
        return unless_default(values, key, "only a schedule with restarts uses it")
    if values[key] != int(values[key]) or values[key] < 1:
        return Outcome("ignored_effect", note="must be a whole number here", setting="optimizer.cycles")
    return Outcome("honoured", {"optimizer.cycles": int(values[key])})


def min_factor(values: Values, key: str) -> Outcome:
    if schedule_of(values) not in FALLING:
        return unless_default(values, key, "this schedule does not fall")
    return Outcome("honoured", {"optimizer.min_ratio": float(values[key])})


def rate(part: str, setting: str, values: Values, key: str) -> Outcome:
    """A part's own rate, else the one for all."""
    if not values[f"{part}.train"]:
        return unless_default(values, key, "the part is not trained")
    if values[key]:
        return Outcome("honoured", {setting: float(values[key])})
    return Outcome("converted", {setting: float(values["learning_rate"])}, "empty: learning_rate")


def learning_rate(values: Values, key: str) -> Outcome:
    parts = [part for part in ("unet", "text_encoder", "text_encoder_2") if values[f"{part}.train"]]
    if all(values[f"{part}.learning_rate"] for part in parts):
        return unless_default(values, key, "each trained part has a rate of its own")
    return Outcome("converted", note="for what has no rate of its own", setting="optimizer.unet_rate")


def stop_unet(values: Values, key: str) -> Outcome:
    unit, amount = str(values["unet.stop_training_after_unit"]), values["unet.stop_training_after"]
    if unit == "NEVER" or not amount:
        return unless_default(values, key, "the UNet is trained to the end")
    if unit == "EPOCH" and amount >= values["epochs"]:
        return Outcome("converted", note="to the end")
    return Outcome("ignored_effect", note="the UNet is trained to the end here; run.epochs says when that is")


def stop_text(values: Values, key: str) -> Outcome:
    """When text encoders stop: one setting for both, a share of the run or steps."""
    part = key.split(".")[0]
    other = "text_encoder" if part == "text_encoder_2" else "text_encoder_2"
    unit, amount = str(values[f"{part}.stop_training_after_unit"]), values[f"{part}.stop_training_after"]
    if not values[f"{part}.train"] or unit == "NEVER" or amount is None:
        return unless_default(values, key, "the part is not trained, or to the end")
    if unit not in ("EPOCH", "STEP"):
        return Outcome("ignored_effect", note=f"counts in {unit}; Atelier counts in steps or shares of the run")
    ends = unit == "EPOCH" and amount >= values["epochs"]
    stop = 0.0 if ends else amount / values["epochs"] if unit == "EPOCH" else float(amount)
    told = _stop(values, other)
    if told is not None and told != stop:
        what = "Atelier has one end for both text encoders, the later one"
        last = max(told, stop) if told and stop else 0.0
        return Outcome("ignored_effect", {"adapter.text_encoder_stop": last}, what)
    return Outcome("converted", {"adapter.text_encoder_stop": stop}, "to the end" if ends else "")


def _stop(values: Values, part: str) -> float | None:
    if not values[f"{part}.train"]:
        return None
    unit, amount = str(values[f"{part}.stop_training_after_unit"]), values[f"{part}.stop_training_after"]
    if unit == "EPOCH" and amount is not None:
        return 0.0 if amount >= values["epochs"] else amount / values["epochs"]
    return float(amount) if unit == "STEP" and amount is not None else 0.0


def optimizer_of(values: Values) -> str:
    found = NAMES.get(str(values["optimizer.optimizer"]), "adamw")
    return _PAGED.get(found, found) if values["optimizer.is_paged"] else found


def optimizer(values: Values, key: str) -> Outcome:
    found = optimizer_of(values)
    if str(values[key]) not in NAMES:
        what = f"Atelier does not have {values[key]}. The preset uses AdamW: check the learning rates"
        return Outcome("ignored_effect", {"optimizer.name": "adamw"}, what)
    return Outcome("converted", {"optimizer.name": found})


def weight_decay(values: Values, key: str) -> Outcome:
    if values[key] is not None:
        return Outcome("honoured", {"optimizer.weight_decay": float(values[key])})
    name = optimizer_of(values).removeprefix("paged_")
    return Outcome("ignored_default", {"optimizer.weight_decay": 0.01 if name in _DECAY_OF_0_01 else 0.0})


def optimizer_number(setting: str, values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default", {f"optimizer.{setting}": 0.0})
    if setting not in places(optimizer_of(values)):
        return Outcome("ignored_effect", note=f"{optimizer_of(values)} has no such number here")
    return Outcome("honoured", {f"optimizer.{setting}": float(values[key])})


def paged(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    if optimizer_of(values).startswith("paged"):
        return Outcome("converted", note="an optimizer of its own here", setting="optimizer.name")
    return Outcome("ignored_effect", note=f"{optimizer_of(values)} cannot be paged here")
