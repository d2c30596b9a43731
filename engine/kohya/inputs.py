"""Rules for the model, the data, the samples and how a run is computed and saved."""

from __future__ import annotations

import re

from engine.kohya.adapter import text_encoder_rate_of
from engine.kohya.families import algorithm_of
from engine.kohya.optimizer import optimizer_of
from engine.kohya.plain import NO_EFFECT, plain
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH, Sample, resolve
from engine.prompts import parse_prompts
from engine.rules.memory import STEPS_BY_SEGMENT

_MODEL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".bin")
SAMPLERS = {"euler": "euler", "k_euler": "euler", "euler_a": "euler_a", "k_euler_a": "euler_a", "ddim": "ddim",
            "dpmsolver++": "dpmpp_2m_karras"}  # fmt: skip

RESAMPLINGS = {"linear": "bilinear", "cubic": "bicubic"}


def model(values: Values, key: str) -> Outcome:
    """A file or folder; names on the Hugging Face hub are told, since nothing is downloaded."""
    path = str(values[key] or "")
    target = "model.vae" if key == "vae" else "model.base"
    if path == (values.default(key) or ""):
        note = "kohya_ss's own default, a model that is no SDXL; choose one" if path else ""
        return Outcome("ignored_default", note=note)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not path.endswith(_MODEL_ENDINGS) and not resolve(path).exists():
        what = "a name on the Hugging Face hub; Atelier downloads nothing: choose the file on your disk"
        return Outcome("ignored_effect", note=what, setting=target)
    return Outcome("honoured", {target: path})


def prediction(values: Values, key: str) -> Outcome:
    return Outcome("converted", {"model.prediction": "v_prediction" if values[key] else "epsilon"})


def zero_terminal_snr(values: Values, key: str) -> Outcome:
    return Outcome("converted", {"model.zero_terminal_snr": "yes" if values[key] else "no"})


def resolution(values: Values, key: str) -> Outcome:
    """One number, or width and height: "1024,768", "1024", 1024, [1024, 768]."""
    value = values[key]
    if value is None:
        return Outcome("ignored_default")
    parts = value if isinstance(value, list) else re.split(r"[,xX×]", str(value))
    try:
        sizes = [int(float(part)) for part in parts]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2):
        return Outcome("ignored_effect", note="not a size such as 1024,768; Atelier's default is used")
    settings = {"data.width_px": sizes[0], "data.height_px": sizes[-1]}
    return Outcome("converted", settings, f"{sizes[0]} wide, {sizes[-1]} high")


def resampling(values: Values, key: str) -> Outcome:
    name = str(values[key] or "")
    if not name:
        return Outcome("ignored_default", {"data.resampling": "auto"})
    ours = RESAMPLINGS.get(name, name)
    if ours not in BY_PATH["data.resampling"].choices:
        return Outcome("ignored_effect", {"data.resampling": "auto"}, f"no method is called {name}; auto is used")
    return Outcome("honoured" if ours == name else "converted", {"data.resampling": ours})


def no_upscale(values: Values, key: str) -> Outcome:
    return Outcome("converted", {"data.upscale_small_images": not values[key]}, "the same, asked the other way round")


def cache_latents(values: Values, key: str) -> Outcome:
    on = bool(values[key] or values["cache_latents_to_disk"])
    if on == values[key]:
        return Outcome("honoured", {"data.cache_latents": on})
    return Outcome("converted", {"data.cache_latents": on}, "on, because cache_latents_to_disk is")


def clip_skip(values: Values, key: str) -> Outcome:
    """SDXL training takes the layer before the last, whatever this says."""
    if values[key] == 2:
        return Outcome("honoured", {"captions.clip_skip": 2})
    if values[key] in (None, values.default(key)):
        return Outcome("ignored_default", {"captions.clip_skip": 2})
    return Outcome("ignored_effect", {"captions.clip_skip": 2}, f"{NO_EFFECT}: SDXL always uses 2")


def cache_text(values: Values, key: str) -> Outcome:
    if values[key] and text_encoder_rate_of(values) > 0:
        what = "off, because text encoders are trained; the trainer refuses the two together"
        return Outcome("converted", {"captions.cache_text": False}, what)
    return Outcome("honoured", {"captions.cache_text": bool(values[key])})


def max_timestep(values: Values, key: str) -> Outcome:
    if values[key]:
        return plain(values, key, BY_PATH["noise.max_timestep"])
    return Outcome("converted", {"noise.max_timestep": 1000}, "0 means no limit")


def output_folder(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default", setting="run.folder")
    what = "each run gets a folder of its own in it, with the LoRA in checkpoints/"
    return Outcome("converted", {"run.folder": str(values[key])}, what)


def seed(values: Values, key: str) -> Outcome:
    if values[key] or (values[key] == 0 and not values.is_kohya):
        return plain(values, key, BY_PATH["run.seed"])
    fixed = BY_PATH["run.seed"].default
    return Outcome("converted", {"run.seed": fixed}, f"drawn anew there; always {fixed} here: the run can be repeated")


def save_precision(values: Values, key: str) -> Outcome:
    if values[key] == "float":
        return Outcome("converted", {"run.save_precision": "fp32"})
    return plain(values, key, BY_PATH["run.save_precision"])


def precision(values: Values, key: str) -> Outcome:
    if values[key] == "no":
        return Outcome("converted", {"memory.precision": "fp32"})
    if values[key] == "fp8":
        what = "computed in bf16; memory.unet_storage keeps the base model in 8 bits"
        return Outcome("ignored_effect", {"memory.precision": "bf16"}, what)
    return plain(values, key, BY_PATH["memory.precision"])


def full_bf16(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default", setting="memory.adapter_precision")
    name, algorithm = optimizer_of(values) or "adamw", algorithm_of(values)
    if name not in STEPS_BY_SEGMENT or algorithm == "dora":
        why = "DoRA's magnitudes need" if algorithm == "dora" else f"{name} needs"
        note = f"{why} the adapter in fp32: more exact, for a few megabytes; the frozen parts are in bf16 anyway"
        return Outcome("converted", {"memory.adapter_precision": "fp32"}, note)
    note = "with updates rounded by chance, so that small ones are not lost; the frozen parts are in bf16 anyway"
    return Outcome("converted", {"memory.adapter_precision": "bf16"}, note)


def fp8_base(values: Values, key: str) -> Outcome:
    """`fp8_base_unet` leaves the text encoders as they are; cached, they leave the memory."""
    if not values[key]:
        return Outcome("ignored_default", setting="memory.unet_storage" if key == "fp8_base" else "")
    if values["base_weights"]:
        what = "adapters are merged into whole weights, so the base model is not packed; it takes more memory"
        return Outcome("ignored_effect", {"memory.unet_storage": "same"}, what)
    cached = values["cache_text_encoder_outputs"] or values["sdxl_cache_text_encoder_outputs"]
    settings = {"memory.unet_storage": "fp8"}
    if key == "fp8_base" and not values["fp8_base_unet"] and not cached:
        settings["memory.text_encoder_storage"] = "fp8"
    return Outcome(
        "converted", settings, "each row of a weight has its own scale: a third of the error of a plain cast"
    )


def vae_precision(values: Values, key: str) -> Outcome:
    if values[key]:
        return Outcome("converted", {"memory.vae_precision": "fp32"})
    what = "the run's precision, and fp32 where that gives non-finite values"
    return Outcome("converted", {"memory.vae_precision": "auto"}, what)


def sampler(values: Values, key: str) -> Outcome:
    name = str(values[key])
    ours = SAMPLERS.get(name)
    if ours is None:
        what = f"Atelier does not have {name}; samples are drawn with euler, training is the same"
        return Outcome("ignored_effect", {"sample.sampler": "euler"}, what)
    return Outcome("honoured" if ours == name else "converted", {"sample.sampler": ours})


def prompts(values: Values, key: str) -> Outcome:
    """kohya_ss keeps the text itself; sd-scripts names a file of such lines."""
    text = str(values[key] or "")
    if not text:
        return Outcome("ignored_default", {"sample.prompts": ""})
    note = ""
    if not values.is_kohya:
        file = values.folder / text
        if file.suffix != ".txt" or not file.is_file():
            return Outcome("ignored_effect", note="is no readable .txt file; write the prompts into sample.prompts")
        text, note = file.read_text(encoding="utf-8-sig", errors="replace").strip(), f"the lines of {file.name}"
    cleaned, dropped = _without_unknown_switches(text)
    if dropped:
        note = f"{note}; ".lstrip("; ") + "left out, unknown or out of range: " + ", ".join(dropped)
    return Outcome("converted" if note else "honoured", {"sample.prompts": cleaned}, note)


def _without_unknown_switches(text: str) -> tuple[str, list[str]]:
    lines, dropped = [], []
    for line in text.splitlines():
        first, *switches = re.split(r"(?<=\s)--(?=[a-zA-Z])", line)
        wrong = [switch for switch in switches if parse_prompts(Sample(prompts=f"x --{switch}"))[1]]
        dropped += [f"--{switch.strip()}" for switch in wrong]
        kept = first + "".join(f"--{switch}" for switch in switches if switch not in wrong)
        lines.append(kept.rstrip() if wrong else line)
    return "\n".join(lines), dropped


def sample_at_first(values: Values, key: str) -> Outcome:
    return Outcome("honoured", {"sample.at_start": bool(values[key])})


def save_as(values: Values, key: str) -> Outcome:
    if values[key] in (None, "safetensors"):
        return Outcome("ignored_default")
    return Outcome("converted", note="always saved as .safetensors, with the same weights")


def threads(values: Values, key: str) -> Outcome:
    if values[key] == values.default(key):
        return Outcome("ignored_default", note="Atelier chooses")
    return Outcome("honoured", {"memory.threads": int(values[key])})


def for_sdxl(values: Values, key: str) -> Outcome:
    """A false that names a model was refused before."""
    if values[key]:
        return Outcome("converted", note="Atelier trains SDXL and nothing else")
    return Outcome("ignored_default", note="taken as a recipe for SDXL")


def older_name(values: Values, key: str) -> Outcome:
    """Old arguments of sd-scripts that stand in for the one of today."""
    if not values[key]:
        return Outcome("ignored_default")
    setting = "captions.extension" if key == "caption_extention" else "optimizer.name"
    return Outcome("converted", note="an older name", setting=setting)


def data_set(values: Values, key: str) -> Outcome:
    """A data set described in a file of its own is read with it; it decides over the keys beside it."""
    from engine.kohya.dataset import read_dataset_file

    if not values[key]:
        return Outcome("ignored_default")
    return read_dataset_file(values.folder / str(values[key]))


def secret(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    return Outcome("ignored_effect", note="a secret is neither written nor shown")
