"""The settings of a picture, group by group; each one line. Torch-free."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting

# The sizes that SDXL was trained on, without the most extreme (Podell et al. 2023, arXiv 2307.01952, appendix I)
SIZES_PX: tuple[tuple[int, int], ...] = (
    (1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216), (1344, 768), (768, 1344),
    (1536, 640), (640, 1536),
)  # fmt: skip


class Picture(Section):
    prompt: str = setting("", "What the picture shows. (word:1.2) weighs, [a:b:0.5] changes from a to b half-way, BREAK begins a new part, <lora:name:0.8> uses a LoRA, __name__ takes a line of a text file.", "提示词", kind="lines")
    negative: str = setting("", "What the picture shall not show.", "负面提示词", label="Negative prompt", kind="lines")
    width_px: int = setting(1024, "Width of the picture; with hires fix before it is enlarged.", "宽度", ge=64, le=4096, multiple_of=8, unit="px")
    height_px: int = setting(1024, "Height of the picture; with hires fix before it is enlarged.", "高度", ge=64, le=4096, multiple_of=8, unit="px")
    seed: int = setting(-1, "The same seed and settings give the same picture; each further picture counts one up. -1 draws a seed.", "种子", ge=-1, le=4294967295)
    count: int = setting(1, "How many pictures are drawn one after the other.", "张数", label="Pictures", ge=1, le=1000)
    batch_size: int = setting(1, "How many pictures are drawn at once; more need more memory and are a little faster.", "批量大小", ge=1, le=16, level="advanced")
    clip_skip: int = setting(2, "Which layer of the text encoders is read, from the end; 2 is what SDXL was trained with.", "CLIP skip", label="CLIP skip", ge=1, le=12, level="advanced")
    wildcards_folder: str = setting("", "Where __name__ finds name.txt, of which it takes a line; empty: the folder wildcards beside the pictures.", "通配符文件夹", kind="folder", level="advanced")
    folder: str = setting("", "Where pictures go, in a folder of each day; empty: Atelier's own folder pictures.", "图片文件夹", label="Pictures go to", kind="folder", level="advanced")


class Sampling(Section):
    sampler: Literal["euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddim", "unipc", "lcm"] = (
        setting("dpmpp_2m", "The way from noise to picture. Those with a or sde add noise on the way; lcm is for models and LoRAs made for few steps.", "采样器"))
    sigmas: Literal["normal", "karras", "exponential"] = setting("karras", "How the steps are spread: karras and exponential spend more of them on fine detail.", "噪声调度", label="Noise levels")
    steps: int = setting(30, "Sampling steps; more are slower and seldom better above 40.", "采样步数", ge=1, le=200, unit="steps")
    cfg_scale: float = setting(6.0, "How closely the picture follows the prompt (CFG scale); at 1 the negative prompt has no effect.", "CFG 强度", label="CFG scale", ge=1, le=30)
    cfg_rescale: float = setting(0.0, "Takes back the contrast that a high CFG scale adds; 0.7 is usual for v-prediction models, 0 is off.", "CFG 重缩放", label="CFG rescale", ge=0, le=1, level="advanced")
    spacing: Literal["auto", "leading", "linspace", "trailing"] = setting("auto", "Which time steps are visited; auto takes what SDXL was published with, and trailing where noise ends in pure noise.", "时间步间距", label="Time step spacing", level="expert")


class Model(Section):
    base: str = setting("", "The SDXL model to draw with: a .safetensors file, or a folder in diffusers layout.", "底模", label="Base model", kind="file")
    vae: str = setting("", "Another VAE to use instead of the one in the base model; empty keeps the model's own.", "VAE", label="VAE", kind="file", level="advanced")
    prediction: Literal["auto", "epsilon", "v_prediction"] = setting("auto", "What the UNet predicts; auto reads it from the model file and is right unless the file carries no marker.", "预测类型", level="advanced")
    zero_terminal_snr: Literal["auto", "yes", "no"] = setting("auto", "Begin with pure noise, for v-prediction models trained so; auto follows the model file.", "零终端信噪比", label="Zero-terminal SNR", level="advanced")
    precision: Literal["bf16", "fp16", "fp32"] = setting("fp16", "Number format of the computation; fp16 is what most programs draw with, fp32 the most exact.", "精度", level="advanced")
    unet_storage: Literal["same", "fp8", "int8", "nf4"] = setting("same", "How the UNet lies in memory: as it is computed with, or in 8 or 4 bits, for small cards.", "UNet 存储格式", label="UNet stored in", level="advanced")
    vae_precision: Literal["auto", "fp32"] = setting("auto", "Number format of the VAE; auto turns to fp32 where half precision gives non-finite values.", "VAE 精度", label="VAE precision", level="expert")
    vae_tiling: Literal["auto", "on", "off"] = setting("auto", "Decode in overlapping tiles, which needs far less memory; auto does so above 2.5 megapixels.", "VAE 分块", label="VAE in tiles", level="expert")
    device: Literal["auto", "cuda", "cpu"] = setting("auto", "Where to compute; auto takes the GPU if there is one.", "设备", level="expert")
    threads: int = setting(0, "Processor threads for computation; 0 lets Atelier choose.", "线程数", ge=0, le=256, level="expert")


class Loras(Section):
    files: str = setting("", "One LoRA a line: file: strength: strength for the text encoders: weights per block. Only the file must be given; # leaves a line out.", "LoRA", label="LoRAs", kind="lines")
    folder: str = setting("", "Where <lora:name:0.8> of a prompt looks for name.safetensors, with all folders below; empty: Atelier's runs.", "LoRA 文件夹", label="LoRA folder", kind="folder", level="advanced")


class Image(Section):
    init: str = setting("", "A picture to begin with instead of pure noise; empty draws from the text alone.", "初始图片", label="Begin with", kind="file")
    denoising_strength: float = setting(0.6, "How much of that picture is drawn anew: 0.2 little, 1 all.", "重绘幅度", gt=0, le=1)
    resize_mode: Literal["crop", "stretch", "fill"] = setting("crop", "How a picture of another shape is made to fit: edges cut, stretched, or edges filled.", "缩放模式", level="advanced")
    mask: str = setting("", "A picture of the same size that is white where it is to be drawn anew and black where not.", "蒙版", kind="file")
    mask_inverted: bool = setting(False, "Draw the black part of the mask anew instead.", "反转蒙版", label="Invert the mask", level="advanced")
    mask_blur_px: int = setting(4, "How softly the new part passes into the old.", "蒙版模糊", label="Mask blur", ge=0, le=64, unit="px", level="advanced")
    area: Literal["whole", "masked"] = setting("whole", "masked draws only the part around the mask, at the width and height above, and puts it into the picture, which keeps its size: for faces and other details.", "重绘区域", label="Draw anew", level="advanced")
    padding_px: int = setting(32, "How much of the picture around the mask is drawn along, so that the new part fits in.", "蒙版边距", label="Padding around the mask", ge=0, le=1024, unit="px", when={"image.area": "masked"}, level="advanced")
    keep_outside: bool = setting(True, "Put the old picture back outside of the mask, pixel by pixel.", "保留蒙版外", label="Keep what is outside of the mask", level="advanced")


class Hires(Section):
    on: bool = setting(False, "Hires fix: draw small, enlarge, and draw the details anew.", "高清修复", label="Hires fix")
    scale: float = setting(1.5, "How much larger the picture becomes.", "放大倍数", gt=1, le=4, when={"hires.on": True})
    denoising_strength: float = setting(0.4, "How much is drawn anew after enlarging; latent needs 0.5 or more.", "重绘幅度", gt=0, le=1, when={"hires.on": True})
    upscaler: Literal["pixel", "latent"] = setting("pixel", "What is enlarged: the picture (sharp, faithful) or the latents (softer, changes more).", "放大方式", when={"hires.on": True}, level="advanced")
    steps: int = setting(0, "Sampling steps of the second pass; 0 takes as many as for the first.", "采样步数", ge=0, le=200, unit="steps", when={"hires.on": True}, level="advanced")


class Refiner(Section):
    model: str = setting("", "The SDXL refiner (or another SDXL model), which draws the last steps; empty does without.", "精炼模型", label="Refiner", kind="file", level="advanced")
    switch_at: float = setting(0.6, "Which share of the noise the base model removes before the refiner takes over.", "切换位置", gt=0, le=0.99, level="advanced")
    aesthetic_score: float = setting(6.0, "What the refiner is told of the picture's beauty.", "美学评分", ge=0, le=10, level="expert")
    negative_aesthetic_score: float = setting(2.5, "The same for what it is to keep away from.", "负面美学评分", ge=0, le=10, level="expert")


class Tiling(Section):
    horizontal: bool = setting(False, "Left and right edges fit together, for patterns.", "横向平铺", label="Tile horizontally", level="advanced")
    vertical: bool = setting(False, "Upper and lower edges fit together, for patterns.", "纵向平铺", label="Tile vertically", level="advanced")


class Preview(Section):
    every_steps: int = setting(3, "Show the picture as it comes about every so many steps; 0 for none.", "预览间隔", ge=0, le=200, unit="steps", level="advanced")
    decoder: str = setting("", "A small decoder for previews (TAESD for SDXL, taesdxl_decoder.safetensors); empty shows rough colours, which cost nothing.", "预览解码器", kind="file", level="advanced")
