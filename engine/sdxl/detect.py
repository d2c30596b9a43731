"""What a model file or folder is, told from its headers alone: milliseconds, no torch, nothing loaded.

Marker keys and metadata that v-prediction and zero-terminal-SNR checkpoints carry: the empty tensors `v_pred` and
`ztsnr` (NoobAI-XL and others), `modelspec.prediction_type` (modelspec 1.0.0), `ss_v_parameterization` and
`ss_zero_terminal_snr` (sd-scripts); in diffusers folders the scheduler's `prediction_type` and
`rescale_betas_zero_snr`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import ModelError
from engine.sdxl import configs, keys
from engine.sdxl.configs import ModelConfig
from engine.sdxl.folder import Folder, read_folder
from engine.sdxl.refusals import refuse_other_family
from engine.sdxl.safefile import Header, TensorInfo, read_header
from engine.sdxl.vae_file import read_vae

__all__ = ["Header", "ModelConfig", "ModelFacts", "identify", "read_header"]

Kind = Literal["base", "refiner", "inpainting"]
Prediction = Literal["epsilon", "v_prediction"]
BASE_SIZE_NUMBERS, REFINER_SIZE_NUMBERS = 6, 5
_PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "epsilon", "eps": "epsilon", "e": "epsilon",
    "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "velocity": "v_prediction",
}  # fmt: skip
_EDM_KEYS = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
EDM = (
    "was trained on the EDM noise schedule (as Playground v2.5 and CosXL were), which Atelier does not train on. "
    "Choose an SDXL checkpoint with epsilon or v-prediction."
)


@dataclass(frozen=True)
class ModelFacts:
    """A base model as its headers describe it. `evidence` says in words what the answer rests on."""

    path: Path
    layout: Literal["single_file", "folder"]
    kind: Kind
    prediction: Prediction
    zero_terminal_snr: bool
    size_bytes: int
    evidence: str
    config: ModelConfig


def identify(path: Path | str, vae_path: Path | str | None = None) -> ModelFacts:
    """Tell what the model at `path` is: a single .safetensors file or a diffusers folder.

    With `vae_path` (a separate VAE, checked as well) the model itself may come without one.
    Raises ModelError, in a sentence, for everything that is not a whole SDXL model.
    """
    if not str(path).strip() or Path(path) == Path():
        raise ModelError("no base model is chosen. Choose an SDXL checkpoint (.safetensors) or a diffusers folder.")
    given = Path(path)
    try:
        path = given.expanduser()
        vae = None if vae_path is None else read_vae(Path(vae_path).expanduser()).config
        facts = _identify_folder(read_folder(path), vae) if path.is_dir() else _identify_file(path, vae)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: "~name" of a user who does not exist
        raise ModelError(f"cannot be read ({error}). Check the path and its permissions.", str(given)) from error
    _check_channels(facts, Path(vae_path) if vae_path is not None else path)
    return facts


def _identify_file(path: Path, vae: configs.Config | None) -> ModelFacts:
    header = read_header(path)
    names = header.tensors.keys()
    refuse_other_family(header)
    refiner = any(name.startswith(keys.REFINER_TEXT_PREFIX) for name in names)
    _check_parts(header, refiner, vae is not None)
    if any(name in header.tensors for name in _EDM_KEYS):
        raise ModelError(EDM, str(path))
    config = _config_of(header, refiner, vae)
    prediction, zero_terminal_snr, reasons = file_prediction(names, header.metadata, str(path))
    kind = "refiner" if refiner else _kind_by_channels(config.unet["in_channels"], str(path))
    return ModelFacts(
        path, "single_file", kind, prediction, zero_terminal_snr, header.size_bytes, _evidence(config, reasons), config
    )


def _identify_folder(folder: Folder, vae: configs.Config | None) -> ModelFacts:
    where = str(folder.path)
    missing = [part for part, words in (("text_2", "text_encoder_2"), ("vae", "vae")) if part not in folder.configs]
    if vae is not None and "vae" in missing:
        missing.remove("vae")
    if missing:
        raise ModelError(f"lacks {_PART_WORDS[missing[0]]}. Download the folder again, whole.", where)
    found = folder.configs
    config = ModelConfig(found["unet"], found.get("text_1"), found["text_2"], found.get("vae") or vae)
    scheduler = folder.scheduler
    if "EDM" in str(scheduler.get("_class_name", "")):
        raise ModelError(EDM, where)
    said = scheduler.get("prediction_type", "epsilon")
    if said not in ("epsilon", "v_prediction"):
        raise ModelError(
            f"predicts {said!r} according to its scheduler configuration; Atelier trains epsilon and v_prediction.",
            where,
        )
    zero_terminal_snr = bool(scheduler.get("rescale_betas_zero_snr", False))
    reasons = [f"scheduler: prediction_type {said}"] + ["scheduler: rescale_betas_zero_snr"] * zero_terminal_snr
    kind = "refiner" if config.text_1 is None else _kind_by_channels(config.unet.get("in_channels", 4), where)
    evidence = _evidence(config, reasons)
    return ModelFacts(folder.path, "folder", kind, said, zero_terminal_snr, folder.size_bytes, evidence, config)


_PART_WORDS = {
    "text_1": "the first text encoder (CLIP-L)",
    "text_2": "the second text encoder (OpenCLIP bigG)",
    "vae": "the VAE",
}


def _check_parts(header: Header, refiner: bool, has_vae: bool) -> None:
    """Refuse a file that has SDXL's UNet but not all the rest."""
    prefixes = {"text_1": keys.TEXT_1_PREFIX, "text_2": keys.TEXT_2_PREFIX, "vae": keys.VAE_PREFIX}
    if refiner:
        prefixes = {"text_2": keys.REFINER_TEXT_PREFIX, "vae": keys.VAE_PREFIX}
    if has_vae:
        del prefixes["vae"]
    missing = [
        _PART_WORDS[part]
        for part, prefix in prefixes.items()
        if not any(name.startswith(prefix) for name in header.tensors)
    ]
    if missing:
        remedy = "Choose a complete SDXL checkpoint"
        remedy += ", or name a separate VAE." if missing == [_PART_WORDS["vae"]] else "."
        raise ModelError(f"has SDXL's UNet but lacks {' and '.join(missing)}. {remedy}", str(header.path))


def _config_of(header: Header, refiner: bool, vae: configs.Config | None) -> ModelConfig:
    where = str(header.path)
    overrides = configs.read_overrides(header.metadata, where)
    part = ""
    try:
        part = keys.REFINER_TEXT_PREFIX if refiner else keys.TEXT_2_PREFIX
        text_2 = configs.text_2_config(_shapes(header.tensors, part), overrides.get("text_2", {}))
        text_1 = None
        if not refiner:
            part = keys.TEXT_1_PREFIX
            text_1 = configs.text_1_config(_shapes(header.tensors, part), overrides.get("text_1", {}))
        part = keys.UNET_PREFIX
        numbers = REFINER_SIZE_NUMBERS if refiner else BASE_SIZE_NUMBERS
        unet = configs.unet_config(
            _shapes(header.tensors, part), text_2["projection_dim"], numbers, overrides.get("unet", {})
        )
        part = keys.VAE_PREFIX
        if vae is None:
            vae = configs.vae_config(_shapes(header.tensors, part), overrides.get("vae", {}))
    except KeyError as error:
        raise ModelError(
            f"lacks the tensor {part}{error.args[0]}. The file is incomplete: download or make it again.", where
        ) from error
    except (IndexError, ValueError) as error:
        raise ModelError(f"has tensors of shapes that no SDXL has, below {part} ({error}).", where) from error
    return ModelConfig(unet, text_1, text_2, vae)


def _shapes(tensors: Mapping[str, TensorInfo], prefix: str) -> dict[str, tuple[int, ...]]:
    return configs.shapes_below(tensors, prefix)


_ZERO_SNR_FLAGS = ("ss_zero_terminal_snr", "zero_terminal_snr", "modelspec.zero_terminal_snr", "ztsnr")
PREDICTION_KEYS = (
    "modelspec.prediction_type", "ss_v_parameterization", "modelspec.architecture", *_ZERO_SNR_FLAGS,
)  # fmt: skip
"""Metadata that `file_prediction` looks at."""


def file_prediction(
    names: Iterable[str], metadata: Mapping[str, str], where: str
) -> tuple[Prediction, bool, list[str]]:
    """(prediction, zero terminal SNR, what says so) of a single file; SDXL's default is epsilon."""
    reasons: list[str] = []
    prediction: Prediction = "epsilon"
    said = metadata.get("modelspec.prediction_type", "").strip().lower()
    if said and said not in _PREDICTIONS:
        raise ModelError(
            f"predicts {said!r} according to its metadata; Atelier trains epsilon and v_prediction.", where
        )
    if said:
        prediction = _PREDICTIONS[said]
        reasons.append(f"metadata modelspec.prediction_type {said}")
    if "v_pred" in names:
        prediction = "v_prediction"
        reasons.append("marker key v_pred")
    if _is_true(metadata, "ss_v_parameterization"):
        prediction = "v_prediction"
        reasons.append("metadata ss_v_parameterization")
    architecture = metadata.get("modelspec.architecture", "")
    if re.search(r"v[-_]?pred", architecture, re.IGNORECASE):
        prediction = "v_prediction"
        reasons.append(f"metadata modelspec.architecture {architecture}")
    zero = [f"marker key {name}" for name in ("ztsnr",) if name in names]
    zero += [f"metadata {name}" for name in _ZERO_SNR_FLAGS if _is_true(metadata, name)]
    return prediction, bool(zero), reasons + zero


def _is_true(metadata: Mapping[str, str], name: str) -> bool:
    return metadata.get(name, "").strip().lower() in ("true", "1", "yes")


def _kind_by_channels(channels: object, where: str) -> Kind:
    if channels == 4:
        return "base"
    if channels == 9:
        return "inpainting"
    raise ModelError(
        f"has a UNet with {channels} input channels; SDXL has 4, or 9 for inpainting. Choose an SDXL base model.", where
    )


def _check_channels(facts: ModelFacts, vae_path: Path) -> None:
    """The VAE must make the four latent channels that the UNet predicts."""
    vae = facts.config.vae or {}
    latent, predicted = vae.get("latent_channels", 4), facts.config.unet.get("out_channels", 4)
    if latent != predicted:
        raise ModelError(
            f"has a VAE of {latent} latent channels, but the UNet predicts {predicted}. Choose an SDXL VAE.",
            str(vae_path),
        )


def _evidence(config: ModelConfig, reasons: list[str]) -> str:
    widths = [str(part["hidden_size"]) for part in (config.text_1, config.text_2) if part is not None]
    unet = config.unet
    said = "; ".join(reasons) if reasons else "nothing in the file says otherwise than epsilon"
    return (
        f"text encoders {' and '.join(widths)} wide; UNet context {unet.get('cross_attention_dim')}, "
        f"size conditions {unet.get('projection_class_embeddings_input_dim')}, "
        f"{unet.get('in_channels')} input channels; {said}"
    )
