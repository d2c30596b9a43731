"""Settings of the section `model`: the base model."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Model(Section):
    base: str = setting("", "The SDXL model to train on: a .safetensors file, or a folder in diffusers layout.", "底模", label="Base model", kind="file", kohya="pretrained_model_name_or_path", sd_scripts="pretrained_model_name_or_path")
    vae: str = setting("", "Another VAE to use instead of the one in the base model; empty keeps the model's own.", "VAE", label="VAE", kind="file", level="advanced", kohya="vae", sd_scripts="vae")
    prediction: Literal["auto", "epsilon", "v_prediction"] = setting("auto", "What the UNet predicts; auto reads it from the model file and is right unless the file carries no marker.", "预测类型", level="advanced", kohya="v_parameterization", sd_scripts="v_parameterization")
    zero_terminal_snr: Literal["auto", "yes", "no"] = setting("auto", "Rescale the noise schedule so that the last step is pure noise; auto follows the model file.", "零终端信噪比", label="Zero-terminal SNR", level="advanced", sd_scripts="zero_terminal_snr")
    merged_adapters: str = setting("", "LoRA files that are merged into the base model in memory before training, one a line, such as style.safetensors: 0.8.", "先合并的 LoRA", kind="lines", level="expert", sd_scripts="base_weights")
