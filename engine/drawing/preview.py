"""Latents as small pictures while they come about: by one matrix, or by a small decoder where one is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from engine.errors import ModelError
from engine.sdxl.latents import to_pictures

if TYPE_CHECKING:
    from torch import nn

# Red, green and blue of each of the four channels of SDXL's scaled latents, and of none: fitted to its VAE's pictures
RGB_OF_LATENTS = (
    (0.3651, 0.4232, 0.4341),
    (-0.2533, -0.0042, 0.1068),
    (0.1076, 0.1111, -0.0362),
    (-0.3165, -0.2492, -0.2188),
)
RGB_OF_NONE = (0.1084, -0.0175, -0.0011)


def rough_pixels(latents: Tensor) -> Tensor:
    """Rough colours of scaled latents [B, 4, h, w]: fp32 [B, 3, h, w], about −1…1, an eighth of the picture's size."""
    matrix, none = torch.tensor(RGB_OF_LATENTS), torch.tensor(RGB_OF_NONE)
    return torch.einsum("bchw,cr->brhw", latents.float().cpu(), matrix) + none[:, None, None]


class Previews:
    """Turns latents into previews. `decoder`: a TAESD decoder for SDXL, or None for rough colours."""

    def __init__(self, decoder: Path | None, device: torch.device | str = "cpu") -> None:
        """Raises ModelError for a file that is no such decoder."""
        self.decoder = None if decoder is None else load_decoder(decoder).to(device)

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> list[Image.Image]:
        """One preview a picture of [B, 4, h, w]; not finite values are shown as grey."""
        latents = torch.nan_to_num(latents.float(), 0.0, 0.0, 0.0)
        if self.decoder is None:
            small = to_pictures(rough_pixels(latents))
            return [picture.resize((8 * picture.width, 8 * picture.height)) for picture in small]
        first = next(self.decoder.parameters())
        pixels = torch.cat([self.decoder(one[None].to(first)) for one in latents])
        return to_pictures(2 * pixels.float().clamp(0, 1) - 1)


def load_decoder(path: Path) -> nn.Module:
    """A TAESD decoder: scaled latents [B, 4, h, w] → pixels in 0…1 [B, 3, 8h, 8w], in fp32.

    As its makers publish it (`1.weight`, `3.conv.0.weight` …) or in diffusers' names (`decoder.layers.0.weight` …).
    Raises ModelError for another file.
    """
    from diffusers.models.autoencoders.vae import DecoderTiny
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except Exception as error:  # safetensors raises its own kinds
        raise ModelError(f"cannot be read as a preview decoder ({error}).", str(path)) from error
    options: dict[str, Any] = {"upsampling_scaling_factor": 2, "act_fn": "relu", "upsample_fn": "nearest"}
    with torch.device("meta"):
        decoder = DecoderTiny(4, 3, (3, 3, 3, 1), (64, 64, 64, 64), **options)
    named = {_decoder_name(name): tensor.float() for name, tensor in found.items() if not name.startswith("encoder.")}
    wanted = {name: tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}
    if {name: tuple(tensor.shape) for name, tensor in named.items()} != wanted:
        what = "is no TAESD decoder for SDXL. Choose taesdxl_decoder.safetensors, or leave it empty."
        raise ModelError(what, str(path))
    decoder.load_state_dict(named, assign=True)
    return _Unit(decoder.requires_grad_(False).eval())


def _decoder_name(name: str) -> str:
    """The makers count from a clamp that diffusers has no layer for."""
    if name.startswith("decoder."):
        return name.removeprefix("decoder.")
    number, mark, rest = name.partition(".")
    return f"layers.{int(number) - 1}.{rest}" if mark and number.isdecimal() else name


class _Unit(torch.nn.Module):
    """diffusers' decoder gives −1…1; here 0…1, as the published one does."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor) -> Tensor:
        return (self.decoder(latents) + 1) / 2
