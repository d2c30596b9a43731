"""Between the drawing preset and the pairs of A1111's text: its names, its habits. Torch-free.

Schedule types stand in the sampler's name in old pictures ("DPM++ 2M Karras") and on their own since version 1.9;
"Automatic" means each sampler's own. SDXL is always read from the layer before the last there, whatever Clip skip says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.drawing.parameters_text import Parameters
from engine.drawing.picture_notes import Found
from engine.drawing.settings import SPREAD_SAMPLERS

SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "unipc": "UniPC",
    "lcm": "LCM",
}
SIGMAS = {"normal": "Normal", "karras": "Karras", "exponential": "Exponential"}
UPSCALERS = {"pixel": "Lanczos", "latent": "Latent"}
# What "Automatic" is for samplers that have a schedule type of their own there
_AUTOMATIC = {"dpmpp_2m": "karras", "dpmpp_2m_sde": "exponential", "dpmpp_3m_sde": "exponential"}
_NEAREST_SAMPLER = (
    ("3m", "dpmpp_3m_sde"),
    ("2m sde", "dpmpp_2m_sde"),
    (" a", "euler_a"),
    ("sde", "dpmpp_2m_sde"),
    ("lcm", "lcm"),
)
_SILENT = {
    "Model hash", "VAE hash", "Lora hashes", "TI hashes", "Version", "Hashes", "Size", "Steps", "Sampler", "Seed",
    "Schedule type", "CFG scale", "Model", "VAE", "Clip skip", "Denoising strength", "Tiling", "RNG", "ENSD",
    "Hires upscale", "Hires steps", "Hires upscaler", "Hires resize", "Refiner", "Refiner switch at", "Mask blur",
    "Mask mode", "Inpaint area", "Masked area padding", "CFG Rescale", "Hires schedule type", "Hires sampler",
    "Batch size", "Batch pos", "User", "Module 1", "Hires Module 1", "Diffusion in Low Bits", "Distilled CFG Scale",
    "Face restoration", "Template", "Negative Template", "Created Date", "Civitai resources", "Civitai metadata",
}  # fmt: skip


def from_parameters(text: Parameters) -> Found:
    """The settings of a text, and notes on what was not understood."""
    found = Found("A1111")
    pairs = text.pairs
    found.put("picture.prompt", text.prompt)
    found.put("picture.negative", text.negative)
    for key, path in (("Steps", "sampling.steps"), ("CFG scale", "sampling.cfg_scale")):
        if key in pairs:
            found.put_number(path, pairs[key])
    found.put_number("sampling.cfg_rescale", pairs.get("CFG Rescale", 0.0))
    _read_size(found, pairs.get("Size", ""))
    put_seed(found, pairs.get("Seed"))
    if "Sampler" in pairs:
        _read_sampler(found, pairs["Sampler"], pairs.get("Schedule type", ""))
    is_ours = pairs.get("Version", "").startswith("Atelier")
    skipped = pairs.get("Clip skip", "2")
    found.put_number("picture.clip_skip", skipped if is_ours or skipped != "1" else 2)
    for axis in ("horizontal", "vertical"):
        told = pairs.get("Tiling", "")
        found.put(f"tiling.{axis}", told == "True" or told.lower() == axis)
    _read_passes(found, pairs)
    _read_model(found, pairs)
    if "ENSD" in pairs:
        found.note("ensd", value=pairs["ENSD"])
    if pairs.get("RNG", "GPU") != "CPU" and "Seed" in pairs:
        found.note("noise")
    unknown = [key for key in pairs if key not in _SILENT]
    if unknown:
        found.note("unknown", names=", ".join(unknown))
    return found


def put_seed(found: Found, seed: object) -> None:
    """The seed, where it is one that is possible here."""
    text = str(seed if seed is not None else "").strip()
    if text.isdecimal() and int(text[:25]) > 2**32 - 1:
        found.note("seed", value=text)
    elif text:
        found.put_number("picture.seed", text)


def put_sampler(found: Found, key: str | None, name: str) -> None:
    """A sampler by our name; None for one that is not here, which the nearest replaces."""
    if key is None:
        lower = f" {name.lower()}"
        key = next((near for mark, near in _NEAREST_SAMPLER if mark in lower), "euler")
        found.note("sampler", name=name, used=SAMPLERS[key])
    found.put("sampling.sampler", key)


def put_sigmas(found: Found, key: str | None, name: str) -> None:
    """A spread of the noise levels by our name; None for one that is not here. After `put_sampler`: some take none."""
    if key != "normal" and found.values.get("sampling.sampler") not in (None, *SPREAD_SAMPLERS):
        key = None
    if key is None:
        found.note("sigmas", name=name, used=SIGMAS["normal"])
    found.put("sampling.sigmas", key or "normal")


def put_text_alone(found: Found) -> None:
    """It was drawn from text alone: no picture to begin with, no mask."""
    found.put("image.init", "")
    found.put("image.mask", "")


def _read_sampler(found: Found, name: str, kind: str) -> None:
    by_name = {shown.lower(): key for key, shown in SAMPLERS.items()}
    words = name.strip()
    if not kind:
        for shown in ("Karras", "Exponential"):
            if words.lower().endswith(f" {shown.lower()}"):
                words, kind = words[: -len(shown) - 1], shown
    key = by_name.get(words.lower())
    put_sampler(found, key, words)
    sampler = found.values["sampling.sampler"]
    if kind.lower() in ("automatic", "auto"):
        kind = _AUTOMATIC.get(sampler, "normal")
    plain = ("", "normal", "uniform", "ddim", "ddim uniform")
    put_sigmas(found, {**{key: key for key in SIGMAS}, **dict.fromkeys(plain, "normal")}.get(kind.lower()), kind)


def _read_size(found: Found, text: str) -> None:
    size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
    if size:
        found.put_number("picture.width_px", size[1])
        found.put_number("picture.height_px", size[2])


def _read_passes(found: Found, pairs: Mapping[str, str]) -> None:
    """Second passes: hires fix, or another picture to begin with, and the refiner."""
    is_hires = any(key in pairs for key in ("Hires upscale", "Hires resize", "Hires upscaler"))
    found.put("hires.on", is_hires)
    if is_hires:
        scale = pairs.get("Hires upscale") or _scale_of(pairs)
        found.put_number("hires.scale", scale or 2.0)
        found.put_number("hires.steps", pairs.get("Hires steps", 0))
        if "Denoising strength" in pairs:
            found.put_number("hires.denoising_strength", pairs["Denoising strength"])
        name = pairs.get("Hires upscaler", "Latent")
        found.put("hires.upscaler", "latent" if name.lower().startswith("latent") else "pixel")
        if name.lower() not in ("latent", "lanczos", "none", ""):
            found.note("upscaler", name=name)
    elif "Denoising strength" in pairs:
        found.put_number("image.denoising_strength", pairs["Denoising strength"])
        found.note("image")
    if is_hires or "Denoising strength" not in pairs:
        put_text_alone(found)
    if "Mask blur" in pairs:
        found.put_number("image.mask_blur_px", pairs["Mask blur"])
    if "Masked area padding" in pairs:
        found.put_number("image.padding_px", pairs["Masked area padding"])
    if "Mask mode" in pairs:
        found.put("image.mask_inverted", pairs["Mask mode"] == "Inpaint not masked")
    if "Refiner switch at" in pairs:
        found.put_number("refiner.switch_at", pairs["Refiner switch at"])


def _scale_of(pairs: Mapping[str, str]) -> float | None:
    """The scale of "Hires resize: 1536x1536" beside "Size: 1024x1024"."""
    sizes = [re.fullmatch(r"(\d{1,6})x(\d{1,6})", pairs.get(key, "").strip()) for key in ("Hires resize", "Size")]
    if not sizes[0] or not sizes[1]:
        return None
    large, small = (max(int(size[1]), int(size[2])) for size in sizes if size)
    return round(large / small, 4) if small else None


def _read_model(found: Found, pairs: Mapping[str, str]) -> None:
    found.model = pairs.get("Model", "")
    if pairs.get("VAE", "") not in ("", "Automatic", "None"):
        found.note("vae", name=pairs["VAE"])
    refiner = re.sub(r"\s*\[[0-9a-f]{6,}\]$", "", pairs.get("Refiner", ""))
    found.put("refiner.model", "")
    if refiner:
        found.note("refiner", name=refiner)
