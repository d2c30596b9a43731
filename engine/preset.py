"""The preset: every setting of a run, each written once, here.

A section is a tab's group; the order of lines is the order on the page. Derived numbers are not here but in `plan.py`.
Relative paths in a preset are relative to Atelier's own folder (`ROOT`), so that a preset means the same wherever it
lies.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.atomic import write_text_whole
from engine.errors import PresetError, Problem, UserError
from engine.rules import rule_problems
from engine.settings import Setting, setting, settings_of

ROOT = Path(__file__).resolve().parent.parent
VERSION = 1


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Model(Section):
    base: str = setting("", "The SDXL model to train on: a .safetensors file, or a folder in diffusers layout.", "基础模型", label="Base model", kind="file", kohya="pretrained_model_name_or_path", sd_scripts="pretrained_model_name_or_path")
    vae: str = setting("", "Another VAE to use instead of the one in the base model; empty keeps the model's own.", "VAE", label="VAE", kind="file", level="advanced", kohya="vae", sd_scripts="vae")
    prediction: Literal["auto", "epsilon", "v_prediction"] = setting("auto", "What the UNet predicts; auto reads it from the model file and is right unless the file carries no marker.", "预测类型", level="advanced", kohya="v_parameterization", sd_scripts="v_parameterization")
    zero_terminal_snr: Literal["auto", "yes", "no"] = setting("auto", "Rescale the noise schedule so that the last step is pure noise; auto follows the model file.", "零终端信噪比", label="Zero-terminal SNR", level="advanced", sd_scripts="zero_terminal_snr")


class Data(Section):
    folder: str = setting("", "The training folder: its sub-folders are named like 10_name, where 10 is how often each image is shown per epoch.", "训练图像文件夹", label="Training folder", kind="folder", kohya="train_data_dir", sd_scripts="train_data_dir")
    regularization_folder: str = setting("", "Pictures of the general class, in the same folder layout, that keep the model from forgetting it; empty for none.", "正则化图像文件夹", kind="folder", level="advanced", kohya="reg_data_dir", sd_scripts="reg_data_dir")
    width_px: int = setting(1024, "Width of the training resolution; SDXL was made at 1024 × 1024.", "训练宽度", ge=64, le=4096, multiple_of=8, unit="px", kohya="max_resolution", sd_scripts="resolution")
    height_px: int = setting(1024, "Height of the training resolution.", "训练高度", ge=64, le=4096, multiple_of=8, unit="px", kohya="max_resolution", sd_scripts="resolution")
    bucketing: bool = setting(True, "Sort images into buckets by aspect ratio instead of cropping all to one size.", "启用分桶", label="Aspect-ratio buckets", kohya="enable_bucket", sd_scripts="enable_bucket")
    bucket_min_px: int = setting(256, "Shortest side that a bucket may have.", "分桶最小边长", ge=32, le=4096, unit="px", level="advanced", when={"data.bucketing": True}, kohya="min_bucket_reso", sd_scripts="min_bucket_reso")
    bucket_max_px: int = setting(2048, "Longest side that a bucket may have.", "分桶最大边长", ge=32, le=8192, unit="px", level="advanced", when={"data.bucketing": True}, kohya="max_bucket_reso", sd_scripts="max_bucket_reso")
    bucket_step_px: int = setting(64, "Bucket sides are multiples of this.", "分桶步长", ge=8, le=256, multiple_of=8, unit="px", level="advanced", when={"data.bucketing": True}, kohya="bucket_reso_steps", sd_scripts="bucket_reso_steps")
    upscale_small_images: bool = setting(True, "Enlarge images that are smaller than their bucket; off gives them a bucket of their own size.", "放大小图", level="advanced", when={"data.bucketing": True}, kohya="bucket_no_upscale", sd_scripts="bucket_no_upscale")
    random_crop: bool = setting(False, "Cut the bucket at a new random place each epoch instead of at the centre; needs uncached latents.", "随机裁剪", level="advanced", kohya="random_crop", sd_scripts="random_crop")
    flip: bool = setting(False, "Mirror each image left to right at random, half of the time; not for faces or text.", "水平翻转", kohya="flip_aug", sd_scripts="flip_aug")
    background: str = setting("#ffffff", "The colour put behind transparent pixels, as #rrggbb.", "透明背景颜色", kind="color", level="advanced")
    broken_images: Literal["skip", "stop"] = setting("skip", "What to do with an image that cannot be read: leave it out with a warning, or stop the run.", "损坏图像", level="advanced")
    cache_latents: bool = setting(True, "Encode each image once and keep the result on disk: faster steps, less memory.", "缓存潜变量", kohya="cache_latents", sd_scripts="cache_latents")
    cache_folder: str = setting("cache", "Where cached latents and text features are kept; never between your images.", "缓存文件夹", kind="folder", level="expert")


class Captions(Section):
    extension: str = setting(".txt", "File name ending of caption files, which lie beside the images under the same name.", "标注文件扩展名", label="Caption extension", kohya="caption_extension", sd_scripts="caption_extension")
    max_tokens: int = setting(75, "How many tokens of a caption are read; longer ones need 150 or 225.", "最大词元数", ge=75, le=750, multiple_of=75, unit="tokens", kohya="max_token_length", sd_scripts="max_token_length")
    clip_skip: int = setting(2, "Which layer of the text encoders is used, counted from the end; SDXL was made with 2.", "CLIP 跳过层", label="CLIP skip", ge=1, le=12, level="expert", kohya="clip_skip", sd_scripts="clip_skip")
    cache_text: bool = setting(True, "Encode all captions once and let the text encoders leave memory; not while they are trained.", "缓存文本特征", label="Cache text features", kohya="sdxl_cache_text_encoder_outputs", sd_scripts="cache_text_encoder_outputs")


class Adapter(Section):
    algorithm: Literal["lora"] = setting("lora", "The kind of adapter; LoRA is read by every program, and a conv rank makes it a LoCon.", "算法", level="expert", kohya="LoRA_type", sd_scripts="network_module")
    rank: int = setting(16, "Size of the adapter: more can hold more detail, costs memory, and over-trains sooner.", "秩 (rank)", ge=1, le=1024, kohya="network_dim", sd_scripts="network_dim")
    alpha: float = setting(16.0, "Strength at which the adapter is applied, divided by the rank; half or all of the rank is usual.", "Alpha", gt=0, le=4096, kohya="network_alpha", sd_scripts="network_alpha")
    conv_rank: int = setting(0, "Rank for the 3×3 convolutions (LoCon); 0 leaves them alone.", "卷积秩", ge=0, le=1024, level="advanced", kohya="conv_dim", sd_scripts="conv_dim")
    conv_alpha: float = setting(1.0, "Alpha for the convolutions.", "卷积 Alpha", gt=0, le=4096, level="advanced", kohya="conv_alpha", sd_scripts="conv_alpha")
    unet: bool = setting(True, "Train the UNet: the part that draws.", "训练 UNet", label="Train the UNet", sd_scripts="network_train_text_encoder_only")
    text_encoder_1: bool = setting(False, "Train the first text encoder (CLIP-L); helps new words, over-trains easily.", "训练文本编码器 1", label="Train text encoder 1", sd_scripts="network_train_unet_only")
    text_encoder_2: bool = setting(False, "Train the second text encoder (OpenCLIP bigG).", "训练文本编码器 2", label="Train text encoder 2", sd_scripts="network_train_unet_only")


class Optimizer(Section):
    name: Literal["adamw", "adamw_8bit"] = setting("adamw", "How steps are computed; the 8-bit variant needs a quarter of the optimizer's memory.", "优化器", label="Optimizer", kohya="optimizer", sd_scripts="optimizer_type")
    unet_rate: float = setting(1e-4, "Learning rate of the UNet part.", "UNet 学习率", label="Learning rate, UNet", ge=0, le=10, kind="rate", kohya="unet_lr", sd_scripts="unet_lr")
    text_encoder_1_rate: float = setting(5e-5, "Learning rate of the first text encoder's part.", "文本编码器 1 学习率", label="Learning rate, text encoder 1", ge=0, le=10, kind="rate", when={"adapter.text_encoder_1": True}, kohya="text_encoder_lr", sd_scripts="text_encoder_lr")
    text_encoder_2_rate: float = setting(5e-5, "Learning rate of the second text encoder's part.", "文本编码器 2 学习率", label="Learning rate, text encoder 2", ge=0, le=10, kind="rate", when={"adapter.text_encoder_2": True}, kohya="text_encoder_lr", sd_scripts="text_encoder_lr")
    schedule: Literal["constant", "linear", "cosine"] = setting("cosine", "How the learning rate moves over the run: it stays, falls in a line, or falls in a half wave.", "学习率调度", kohya="lr_scheduler", sd_scripts="lr_scheduler")
    warmup_steps: int = setting(0, "Steps over which the learning rate rises from zero at the start.", "预热步数", ge=0, le=1000000, unit="steps", kohya="lr_warmup_steps", sd_scripts="lr_warmup_steps")
    weight_decay: float = setting(0.01, "How strongly weights are pulled towards zero.", "权重衰减", ge=0, le=1, level="advanced", sd_scripts="optimizer_args")
    beta1: float = setting(0.9, "How long the optimizer remembers the direction of steps.", "Beta 1", ge=0, le=0.99999, level="expert", sd_scripts="optimizer_args")
    beta2: float = setting(0.999, "How long the optimizer remembers the size of steps.", "Beta 2", ge=0, le=0.99999, level="expert", sd_scripts="optimizer_args")
    epsilon: float = setting(1e-8, "Smallest divisor in a step, against division by zero.", "Epsilon", gt=0, le=1, kind="rate", level="expert", sd_scripts="optimizer_args")
    clip_norm: float = setting(1.0, "Largest length of the gradient; longer ones are shortened to it. 0 switches this off.", "梯度裁剪", ge=0, le=1000, level="advanced", kohya="max_grad_norm", sd_scripts="max_grad_norm")


class Noise(Section):
    offset: float = setting(0.0, "Adds one random value per channel to the noise, so that darker and brighter pictures can be learned; 0.03 to 0.1 is usual.", "噪声偏移", label="Noise offset", ge=0, le=1, level="advanced", kohya="noise_offset", sd_scripts="noise_offset")
    min_timestep: int = setting(0, "Lowest timestep that is trained; higher leaves fine detail alone.", "最小时间步", ge=0, le=999, level="expert", kohya="min_timestep", sd_scripts="min_timestep")
    max_timestep: int = setting(1000, "Timesteps below this are trained; lower leaves composition alone.", "最大时间步", ge=1, le=1000, level="expert", kohya="max_timestep", sd_scripts="max_timestep")


class Loss(Section):
    kind: Literal["l2", "l1", "huber", "smooth_l1"] = setting("l2", "How the difference between prediction and target counts: squared (l2), absolute (l1), or between the two.", "损失函数", label="Loss", level="advanced", kohya="loss_type", sd_scripts="loss_type")
    huber_threshold: float = setting(0.1, "Where Huber and smooth L1 pass from squared to absolute.", "Huber 阈值", gt=0, le=10, level="expert", kohya="huber_c", sd_scripts="huber_c")
    huber_schedule: Literal["constant", "exponential", "snr"] = setting("snr", "How that threshold depends on the timestep.", "Huber 调度", level="expert", kohya="huber_schedule", sd_scripts="huber_schedule")
    min_snr_gamma: float = setting(0.0, "Weighs down nearly clean timesteps (min-SNR); 5 is usual, 0 switches it off.", "最小信噪比 Gamma", label="Min-SNR gamma", ge=0, le=100, kohya="min_snr_gamma", sd_scripts="min_snr_gamma")
    prior_weight: float = setting(1.0, "How much regularization pictures count beside the training images.", "正则化权重", ge=0, le=100, level="advanced", kohya="prior_loss_weight", sd_scripts="prior_loss_weight")


class Run(Section):
    name: str = setting("my-lora", "Name of the run and of the LoRA file that it makes.", "运行名称", label="Name", kohya="output_name", sd_scripts="output_name")
    folder: str = setting("runs", "Folder in which each run gets a folder of its own.", "运行文件夹", label="Runs folder", kind="folder", level="advanced", kohya="output_dir", sd_scripts="output_dir")
    length: Literal["epochs", "steps"] = setting("epochs", "Which of the two numbers below decides when the run ends.", "训练时长按", label="Length given in")
    epochs: int = setting(10, "How often the whole data set is gone through.", "训练轮数", ge=1, le=100000, when={"run.length": "epochs"}, kohya="epoch", sd_scripts="max_train_epochs")
    steps: int = setting(1600, "How many optimizer updates are made.", "训练步数", ge=1, le=10000000, when={"run.length": "steps"}, kohya="max_train_steps", sd_scripts="max_train_steps")
    batch_size: int = setting(1, "Images per step; more is steadier and needs more memory.", "批大小", ge=1, le=512, kohya="train_batch_size", sd_scripts="train_batch_size")
    accumulation: int = setting(1, "Batches that are added up before each update: a larger batch without its memory.", "梯度累积", label="Gradient accumulation", ge=1, le=1024, level="advanced", kohya="gradient_accumulation_steps", sd_scripts="gradient_accumulation_steps")
    seed: int = setting(42, "Start of all random numbers; the same seed repeats a run exactly.", "随机种子", ge=0, le=4294967295, kohya="seed", sd_scripts="seed")
    save_every_epochs: int = setting(1, "Save a checkpoint every so many epochs; 0 for none on the way.", "每 N 轮保存", ge=0, le=100000, unit="epochs", kohya="save_every_n_epochs", sd_scripts="save_every_n_epochs")
    save_every_steps: int = setting(0, "Save a checkpoint every so many steps; 0 for none on the way.", "每 N 步保存", ge=0, le=10000000, unit="steps", level="advanced", kohya="save_every_n_steps", sd_scripts="save_every_n_steps")
    save_precision: Literal["fp16", "bf16", "fp32"] = setting("fp16", "Number format of the saved LoRA; fp16 is read everywhere.", "保存精度", level="advanced", kohya="save_precision", sd_scripts="save_precision")


class Sample(Section):
    prompts: str = setting("", "One sample image per line. A line may end with --n negative prompt, --w width, --h height, --s steps, --l CFG scale, --d seed.", "样图提示词", kind="lines", kohya="sample_prompts", sd_scripts="sample_prompts")
    negative: str = setting("", "Negative prompt for lines that give none.", "负面提示词", label="Negative prompt")
    at_start: bool = setting(True, "Draw the samples before the first step too, to compare with.", "开始前采样", label="Sample before the first step", sd_scripts="sample_at_first")
    every_epochs: int = setting(1, "Draw the samples every so many epochs, and at the end; 0 for none on the way.", "每 N 轮采样", ge=0, le=100000, unit="epochs", kohya="sample_every_n_epochs", sd_scripts="sample_every_n_epochs")
    every_steps: int = setting(0, "Draw the samples every so many steps; 0 for none on the way.", "每 N 步采样", ge=0, le=10000000, unit="steps", level="advanced", kohya="sample_every_n_steps", sd_scripts="sample_every_n_steps")
    sampler: Literal["euler", "euler_a", "ddim", "dpmpp_2m_karras"] = setting("euler", "The sampler that draws the pictures.", "采样器", level="advanced", kohya="sample_sampler", sd_scripts="sample_sampler")
    steps: int = setting(24, "Sampling steps per picture.", "采样步数", ge=1, le=200, unit="steps", level="advanced")
    cfg_scale: float = setting(6.0, "How closely pictures follow the prompt (CFG scale).", "CFG 强度", label="CFG scale", ge=1, le=30, level="advanced")
    width_px: int = setting(1024, "Width of sample images.", "样图宽度", ge=64, le=4096, multiple_of=8, unit="px", level="advanced")
    height_px: int = setting(1024, "Height of sample images.", "样图高度", ge=64, le=4096, multiple_of=8, unit="px", level="advanced")
    seed: int = setting(1234, "Seed of the first sample; each further line counts one up.", "样图种子", ge=0, le=4294967295, level="advanced")


class Memory(Section):
    precision: Literal["bf16", "fp16", "fp32"] = setting("bf16", "Number format of the base model and of the computation; the adapter itself stays in fp32.", "精度", kohya="mixed_precision", sd_scripts="mixed_precision")
    gradient_checkpointing: bool = setting(False, "Compute parts of the network twice to need far less memory; about a third slower.", "梯度检查点", kohya="gradient_checkpointing", sd_scripts="gradient_checkpointing")
    vae_precision: Literal["auto", "fp32"] = setting("auto", "Number format of the VAE; auto uses the run's and turns to fp32 where that gives non-finite values.", "VAE 精度", label="VAE precision", level="expert", kohya="no_half_vae", sd_scripts="no_half_vae")
    vae_batch_size: int = setting(1, "Images that the VAE encodes at once while caching.", "VAE 批大小", label="VAE batch size", ge=1, le=64, level="advanced", kohya="vae_batch_size", sd_scripts="vae_batch_size")
    device: Literal["auto", "cuda", "cpu"] = setting("auto", "Where to compute; auto takes the GPU if there is one.", "设备", level="advanced")
    threads: int = setting(0, "Processor threads for computation; 0 lets Atelier choose.", "线程数", ge=0, le=256, level="expert", kohya="num_cpu_threads_per_process")


class Logging(Section):
    every_steps: int = setting(10, "How often losses are read back from the device and shown; every step is recorded all the same.", "日志间隔", label="Show losses every", ge=1, le=1000, unit="steps", level="expert")


class Preset(BaseModel):
    """All settings of a run. Frozen; unknown keys are refused; build it with `load`, `build` or `changed`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    version: int = VERSION
    about: str = ""
    author: str = ""
    model: Model = Model()
    data: Data = Data()
    captions: Captions = Captions()
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    noise: Noise = Noise()
    loss: Loss = Loss()
    run: Run = Run()
    sample: Sample = Sample()
    memory: Memory = Memory()
    logging: Logging = Logging()

    def get(self, path: str) -> Any:
        """The value of "section.name"."""
        section, name = path.split(".")
        return getattr(getattr(self, section), name)

    def values(self) -> dict[str, Any]:
        """All values by "section.name"."""
        return {item.path: self.get(item.path) for item in SETTINGS}

    def changed(self, values: Mapping[str, Any]) -> Preset:
        """A copy with other values by "section.name"; raises PresetError with every fault."""
        content = self.model_dump()
        problems: list[Problem] = []
        for path, value in values.items():
            if path not in BY_PATH:
                problems.append(Problem(path, "there is no such setting." + _nearest(path, BY_PATH)))
                continue
            section, name = path.split(".")
            content[section][name] = value
        return build(content, problems)

    def save(self, path: Path) -> None:
        """Write the preset as JSON, whole or not at all."""
        write_text_whole(path, self.model_dump_json(indent=2) + "\n")


SETTINGS: tuple[Setting, ...] = settings_of(Preset)
BY_PATH: dict[str, Setting] = {item.path: item for item in SETTINGS}
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(item.section for item in SETTINGS))
# Version → function that turns that version's content into the next one's; the only place that knows old names.
MIGRATIONS: dict[int, Any] = {}


def resolve(path: str) -> Path:
    """A path of a preset as an absolute one: relative paths start at Atelier's folder."""
    return (ROOT / Path(path).expanduser()).resolve()


def load(path: Path) -> Preset:
    """Read a preset file. Raises PresetError (all faults at once) or UserError when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("there is no such preset file. Check the name and the folder.", str(path)) from None
    except IsADirectoryError:
        raise UserError("this is a folder without preset.json, not a preset. Give a preset file.", str(path)) from None
    except UnicodeDecodeError:
        raise UserError("this file is not text, so it is no preset. Give a .json preset file.", str(path)) from None
    except json.JSONDecodeError as error:
        what = f"this is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}. Correct that place."
        raise UserError(what, str(path)) from None
    except OSError as error:
        raise UserError(f"the preset cannot be read ({error.strerror}).", str(path)) from None
    if not isinstance(content, dict):
        raise UserError("a preset is a JSON object with sections such as model and data.", str(path))
    return build(migrate(content))


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Bring the content of an older preset up to date; refuse one of a newer Atelier."""
    version = content.get("version", VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PresetError([Problem("version", f"must be a whole number from 1 to {VERSION} (got {version!r}).")])
    if version > VERSION:
        what = f"this preset was saved by a newer Atelier (format {version}; this one reads up to {VERSION}). Update Atelier."
        raise PresetError([Problem("version", what)])
    while version < VERSION:
        content = MIGRATIONS[version](content)
        version += 1
    return {**content, "version": VERSION}


def build(content: Mapping[str, Any], problems: Iterable[Problem] = ()) -> Preset:
    """Make a preset of nested values. Raises PresetError with all faults at once, those between settings included."""
    found = list(problems)
    try:
        preset = Preset.model_validate(dict(content))
    except ValidationError as error:
        found += [_problem_of(fault) for fault in error.errors()]
        rest = _rest(content, error)
        raise PresetError(found + rule_problems(rest), rest) from None
    found += rule_problems(preset)
    if found:
        raise PresetError(found, preset)
    return preset


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`section.name=value` texts of the command line as a dict; raises PresetError for texts without "="."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise PresetError([Problem(f"--set {text}", "write it as section.name=value.") for text in wrong])
    return {name.strip(): value for name, value in (text.split("=", 1) for text in texts)}


def _problem_of(fault: Any) -> Problem:
    """A sentence for one of pydantic's findings."""
    where = ".".join(str(part) for part in fault["loc"])
    got = fault.get("input")
    if fault["type"] == "extra_forbidden":
        known = SECTIONS if len(fault["loc"]) == 1 else BY_PATH
        return Problem(where, "there is no such setting." + _nearest(where, known))
    if where in BY_PATH:
        return Problem(where, f"must be {BY_PATH[where].limits_text} (got {got!r}).")
    if where in SECTIONS:
        return Problem(where, f"must be a group of settings in braces (got {got!r}).")
    return Problem(where, f"{fault['msg']} (got {got!r}).")


def _rest(content: Mapping[str, Any], error: ValidationError) -> Preset:
    """The preset without its faulty values, so that faults between the others are found in the same go."""
    rest = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for fault in error.errors():
        place: Any = rest
        for part in fault["loc"][:-1]:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place.pop(fault["loc"][-1], None)
    return Preset.model_validate(rest)


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and "." in name:
        tails = {item.split(".")[-1]: item for item in names}
        close = [tails[tail] for tail in difflib.get_close_matches(name.split(".")[-1], tails, n=1, cutoff=0.6)]
    return f" Did you mean {close[0]}?" if close else " See docs/settings.md for all of them."
