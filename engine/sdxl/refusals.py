"""Single files that are no SDXL checkpoint: what they are instead, each in its own sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from engine.errors import ModelError
from engine.sdxl import keys
from engine.sdxl.safefile import Header

CHOOSE = "Choose an SDXL checkpoint (about 6.9 GB in half precision)."
_ADAPTER = re.compile(
    r"^lora_|\.lora_linear_layer\.|\.lora_(up|down|A|B|mid|magnitude)|\.hada_w|\.lokr_"
    r"|\.oft_|\.dora_scale|\.glora|\.diff(_b)?$|\.alpha$"
)
_UNET = keys.UNET_PREFIX


def refuse_other_family(header: Header) -> None:
    """Raise ModelError for every file whose tensor names are not those of an SDXL checkpoint."""
    names = list(header.tensors)
    where = str(header.path)
    if not names:
        raise ModelError(f"holds no tensors. {CHOOSE}", where)
    if any(_ADAPTER.search(name) for name in names) and not any(name.startswith(_UNET) for name in names):
        raise ModelError(
            "is a LoRA or a relative of one, not a base model. Choose the checkpoint that it is used with.", where
        )
    if _is_sdxl_unet(header):
        return
    for matches, sentence in _FAMILIES:
        if matches(header):
            raise ModelError(sentence, where)
    for matches, what in _PARTS:
        if matches(header):
            raise ModelError(f"is {what} alone, not a whole model. {_remedy(header.path)}", where)
    raise ModelError(
        f"is no SDXL checkpoint: none of its {len(names):,} tensors has a name that tells what it is "
        f"(the first is {min(names)!r}). {CHOOSE}",
        where,
    )


def _remedy(path: Path) -> str:
    """A part of a diffusers folder: the folder is meant."""
    folder = path.resolve().parent.parent
    return f"Choose the folder that it belongs to: {folder}." if (folder / "model_index.json").is_file() else CHOOSE


def _starts(*prefixes: str) -> Callable[[Header], bool]:
    return lambda header: any(name.startswith(prefixes) for name in header.tensors)


def _is_sdxl_unet(header: Header) -> bool:
    """SDXL's UNet has the size conditions (`label_emb`) and no text encoder of the older families."""
    tensors = header.tensors
    label = f"{_UNET}label_emb.0.0.weight" in tensors
    return label and not any(name.startswith("cond_stage_model.") for name in tensors)


def _context_width(header: Header) -> int:
    """Width of the text features that the UNet listens to; 0 where there is no cross-attention."""
    pattern = re.compile(r"^(model\.diffusion_model\.)?(input|output|middle)_blocks?\..*attn2\.to_k\.weight$")
    shapes = (info.shape for name, info in header.tensors.items() if pattern.match(name))
    return next((shape[1] for shape in shapes if len(shape) == 2), 0)


def _is_sd_1(header: Header) -> bool:
    return _starts("cond_stage_model.transformer.")(header) or _context_width(header) == 768


def _is_sd_2(header: Header) -> bool:
    return _starts("cond_stage_model.model.")(header) or _context_width(header) == 1024


def _is_vae(header: Header) -> bool:
    bare = {name.removeprefix(keys.VAE_PREFIX).removeprefix("vae.") for name in header.tensors}
    return "decoder.conv_in.weight" in bare and "encoder.conv_in.weight" in bare


def _is_text_encoder(header: Header) -> bool:
    return any("token_embedding.weight" in name or name == "shared.weight" for name in header.tensors)


_FAMILIES: tuple[tuple[Callable[[Header], bool], str], ...] = (
    (_starts("control_model.", "controlnet_", "control_"), f"is a ControlNet, not a base model. {CHOOSE}"),
    (
        _starts("emb_params", "clip_l", "clip_g", "string_to_param"),
        f"is a textual-inversion embedding, not a base model. {CHOOSE}",
    ),
    (
        _starts(f"{_UNET}joint_blocks.", "joint_blocks."),
        f"is a Stable Diffusion 3 model, which Atelier cannot train. {CHOOSE}",
    ),
    (
        _starts(f"{_UNET}double_blocks.", "double_blocks.", f"{_UNET}single_blocks.", "single_transformer_blocks."),
        f"is a Flux model (or a relative of Flux), which Atelier cannot train. {CHOOSE}",
    ),
    (_is_sd_1, f"is a Stable Diffusion 1.x model; Atelier trains on SDXL only. {CHOOSE}"),
    (_is_sd_2, f"is a Stable Diffusion 2.x model; Atelier trains on SDXL only. {CHOOSE}"),
    (_starts("model_ema."), f"holds only the running average (EMA) of a model's weights. {CHOOSE}"),
)
_PARTS: tuple[tuple[Callable[[Header], bool], str], ...] = (
    (_starts("input_blocks.", "diffusion_model.", f"{_UNET}input_blocks.", "down_blocks."), "a UNet"),
    (_is_vae, "a VAE"),
    (_is_text_encoder, "a text encoder"),
    (_starts(_UNET), "the network of a model family that Atelier does not know"),
)
