"""Settings of the section `memory`: number formats, devices, memory."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Memory(Section):
    precision: Literal["bf16", "fp16", "fp32"] = setting("bf16", "Number format of the base model and of the computation.", "精度", kohya="mixed_precision", sd_scripts="mixed_precision")
    unet_storage: Literal["same", "fp8", "int8", "nf4"] = setting("same", "How the frozen UNet lies in memory: as it is computed with, or in 8 or 4 bits that are widened when used; int8 is the most exact.", "UNet 存储格式", label="UNet stored in", level="advanced", kohya="fp8_base", sd_scripts="fp8_base")
    text_encoder_storage: Literal["same", "fp8", "int8", "nf4"] = setting("same", "How the frozen text encoders lie in memory; matters only where they stay there because text is not cached.", "文本编码器存储格式", label="Text encoders stored in", level="expert", kohya="fp8_base", sd_scripts="fp8_base")
    adapter_precision: Literal["fp32", "bf16"] = setting("fp32", "Number format of the trained numbers, their gradients and the optimizer's memory; bf16 halves it, and rounds each update by chance so that small ones count.", "适配器精度", level="expert", kohya="full_bf16", sd_scripts="full_bf16")
    gradient_checkpointing: bool = setting(False, "Compute parts of the network twice to need far less memory; about a third slower.", "梯度检查点", kohya="gradient_checkpointing", sd_scripts="gradient_checkpointing")
    vae_precision: Literal["auto", "fp32"] = setting("auto", "Number format of the VAE; auto uses the run's and turns to fp32 where that gives non-finite values.", "VAE 精度", label="VAE precision", level="expert", kohya="no_half_vae", sd_scripts="no_half_vae")
    vae_batch_size: int = setting(1, "Images that the VAE encodes at once while caching.", "VAE 批量大小", label="VAE batch size", ge=1, le=64, level="advanced", kohya="vae_batch_size", sd_scripts="vae_batch_size")
    device: Literal["auto", "cuda", "cpu"] = setting("auto", "Where to compute; auto takes the GPU if there is one.", "设备", level="advanced")
    threads: int = setting(0, "Processor threads for computation; 0 lets Atelier choose.", "线程数", ge=0, le=256, level="expert", kohya="num_cpu_threads_per_process")
