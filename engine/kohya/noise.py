"""Rules for noise, timesteps and loss: keys that work only together with another one, and masks."""

from __future__ import annotations

from collections.abc import Callable

from engine.kohya.plain import plain, unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH

Rule = Callable[[Values, str], Outcome]


def only_if(path: str, gate: Callable[[Values], object], why_not: str) -> Rule:
    """The setting at `path` takes the value where `gate` holds; elsewhere it stays at its default, as it did there."""
    item = BY_PATH[path]

    def rule(values: Values, key: str) -> Outcome:
        if gate(values):
            return plain(values, key, item)
        return unused(values, key, {path: item.default}, why_not)

    return rule


def _passed_on(kind: str, *keys: str) -> Callable[[Values], bool]:
    """kohya_ss passes on its form's settings of the chosen type of noise offset only; sd-scripts takes all."""
    return lambda values: (
        not values.is_kohya or values["noise_offset_type"] == kind or any(key in values.options for key in keys)
    )


_IS_PYRAMID = _passed_on("Multires", "multires_noise_iterations")
_IS_OFFSET = _passed_on("Original", "noise_offset")


def _has_offset(values: Values) -> bool:
    return bool(values["noise_offset"]) and _IS_OFFSET(values)


def _has_huber_scale(values: Values) -> bool:
    return values["loss_type"] in ("huber", "smooth_l1") and values["huber_schedule"] != "snr"


def mask(values: Values, key: str) -> Outcome:
    """masked_loss only takes masks that alpha_mask or conditioning_data_dir bring; alpha_mask needs nothing else."""
    source = _mask_source(values)
    if not values[key]:
        return Outcome("ignored_default", {"loss.mask": source})
    if key == "masked_loss" and source == "none":
        why = "neither alpha_mask nor conditioning_data_dir brings a mask"
        return unused(values, key, {"loss.mask": "none"}, why)
    if key == "alpha_mask" and source == "folder":
        return unused(values, key, {"loss.mask": "folder"}, "conditioning_data_dir brings the masks")
    return Outcome("converted", {"loss.mask": source}, "transparency" if source == "alpha" else "a folder of masks")


def mask_folder(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    if not values["masked_loss"]:
        return unused(values, key, {}, "masked_loss is off")
    return Outcome("converted", {"loss.mask": "folder", "loss.mask_folder": str(values[key])}, "masks by images' names")


def _mask_source(values: Values) -> str:
    if values["masked_loss"] and values["conditioning_data_dir"]:
        return "folder"
    return "alpha" if values["alpha_mask"] else "none"


RULES: dict[str, Rule] = {
    "noise_offset": only_if("noise.offset", _IS_OFFSET, "noise_offset_type is Multires"),
    "multires_noise_iterations": only_if("noise.pyramid_levels", _IS_PYRAMID, "noise_offset_type is Original"),
    "multires_noise_discount": only_if("noise.pyramid_discount", _IS_PYRAMID, "noise_offset_type is Original"),
    "noise_offset_random_strength": only_if("noise.offset_random", _has_offset, "there is no noise offset"),
    "adaptive_noise_scale": only_if("noise.offset_adaptive", _has_offset, "there is no noise offset"),
    "ip_noise_gamma_random_strength": only_if(
        "noise.perturbation_random", lambda values: values["ip_noise_gamma"], "ip_noise_gamma is 0"
    ),
    "huber_scale": only_if(
        "loss.huber_scale", _has_huber_scale, "it belongs to huber and smooth_l1 with another schedule than snr"
    ),
    "scale_v_pred_loss_like_noise_pred": only_if(
        "loss.scale_v_like_noise", lambda values: values["v_parameterization"], "v_parameterization is off"
    ),
    "v_pred_like_loss": only_if(
        "loss.v_like", lambda values: not values["v_parameterization"], "it does not go with v_parameterization"
    ),
    "masked_loss": mask,
    "alpha_mask": mask,
    "conditioning_data_dir": mask_folder,
}
