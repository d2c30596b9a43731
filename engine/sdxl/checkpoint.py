"""SDXL's modules out of a checkpoint: built without memory, then filled from the file in the asked precision.

On the CPU a weight that the file already holds in the asked precision stays a view of the file's memory map: it costs
no memory of its own, is read when first used, and can be dropped by the system at any time. Everything else is read
tensor by tensor, in the order of the file, and converted; the peak is the result plus the largest tensor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from engine.errors import ModelError
from engine.sdxl.detect import ModelFacts
from engine.sdxl.narrow import make_narrow
from engine.sdxl.parts import Part, locate, part_config, part_digest
from engine.sdxl.storage import make_stored, require_storage
from engine.sdxl.weights import read_places
from engine.sdxl.writer import write_single_file

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

__all__ = ["TextEncoders", "load_text_encoders", "load_unet", "load_vae", "part_digest", "write_single_file"]

Module = TypeVar("Module", bound=nn.Module)
Device = torch.device | str
Changes = Callable[[str, nn.Module], Mapping[str, Callable[[torch.Tensor], torch.Tensor]]]
"""(part, module without content) → {weight's name: what to make of the dense weight before it is packed}."""


@dataclass(frozen=True)
class _Target:
    dtype: torch.dtype
    device: Device
    keep_narrow: bool = False
    storage: str = "same"
    changes: Changes | None = None


@dataclass(frozen=True)
class TextEncoders:
    """Both text encoders of SDXL base: CLIP-L and OpenCLIP bigG with its projection."""

    one: CLIPTextModel
    two: CLIPTextModelWithProjection


def load_unet(
    facts: ModelFacts,
    dtype: torch.dtype,
    device: Device,
    keep_narrow: bool = False,
    storage: str = "same",
    changes: Changes | None = None,
) -> UNet2DConditionModel:
    """The UNet, frozen, in evaluation mode. Raises ModelError for missing, unexpected or misshapen tensors.

    `keep_narrow` (for fp32 on a CPU): half-precision weights of the file stay what they are and are widened when used,
    with the same results (see narrow.py). `storage`: how large weights are kept, "same" as the computation or a key of
    STORAGES (see storage.py); each is packed as it is read, so that the dense model is never in memory.
    `changes`: what is made of them before that.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config = _accepted(UNet2DConditionModel, part_config(facts, "unet"))
    target = _Target(dtype, device, keep_narrow, storage, changes)
    return _load(facts, "unet", lambda: UNet2DConditionModel(**config), target)


def load_text_encoders(
    facts: ModelFacts,
    dtype: torch.dtype,
    device: Device,
    keep_narrow: bool = False,
    storage: str = "same",
    changes: Changes | None = None,
) -> TextEncoders:
    """Both text encoders, as `load_unet` gives the UNet. Raises ModelError as it does, and for the refiner."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    one = CLIPTextConfig(**part_config(facts, "text_1"))
    two = CLIPTextConfig(**part_config(facts, "text_2"))
    target = _Target(dtype, device, keep_narrow, storage, changes)
    return TextEncoders(
        _load(facts, "text_1", lambda: CLIPTextModel(one), target),
        _load(facts, "text_2", lambda: CLIPTextModelWithProjection(two), target),
    )


def load_refiner_text(
    facts: ModelFacts, dtype: torch.dtype, device: Device, keep_narrow: bool = False
) -> CLIPTextModelWithProjection:
    """The refiner's one text encoder (OpenCLIP bigG with its projection). Raises ModelError as `load_unet`."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

    config = CLIPTextConfig(**part_config(facts, "text_2"))
    return _load(facts, "text_2", lambda: CLIPTextModelWithProjection(config), _Target(dtype, device, keep_narrow))


def load_vae(
    facts: ModelFacts, dtype: torch.dtype, device: Device, vae_path: Path | str | None = None
) -> AutoencoderKL:
    """The VAE, of `vae_path` where one is given (a file or a folder). Raises ModelError as `load_unet`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    path = Path(vae_path).expanduser() if vae_path else None
    config = _accepted(AutoencoderKL, part_config(facts, "vae", path))
    return _load(facts, "vae", lambda: AutoencoderKL(**config), _Target(dtype, device), path)


def _accepted(module: Callable[..., object], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration file that this version of the class takes."""
    known = inspect.signature(module).parameters
    return {name: value for name, value in config.items() if name in known}


def _load(
    facts: ModelFacts,
    part: Part,
    build: Callable[[], Module],
    target: _Target,
    vae_path: Path | None = None,
) -> Module:
    module = _build_without_memory(build, str(vae_path or facts.path))
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    places = locate(facts, part, wanted, vae_path)
    device = torch.device(target.device)
    require_storage(target.storage, device)
    takers = make_stored(module, target.storage, target.dtype) if target.storage != "same" else {}
    if target.changes is not None and takers:
        changes = target.changes(part, module)
        takers |= {name: _changed(takers[name], changes[name]) for name in takers.keys() & changes.keys()}
    narrow = make_narrow(module) if target.keep_narrow and target.dtype == torch.float32 and not takers else set()
    tensors = read_places(places, target.dtype, device, narrow, takers)
    shaped = {name: tensor.view(wanted[name]) for name, tensor in tensors.items()}
    module.load_state_dict(shaped, strict=not takers, assign=True)
    _make_position_ids(module, device)
    return module.requires_grad_(False).eval()


def _changed(
    take: Callable[[torch.Tensor], None], change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[torch.Tensor], None]:
    return lambda weight: take(change(weight))


def _build_without_memory(build: Callable[[], Module], where: str) -> Module:
    try:
        with torch.device("meta"):
            return build()
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ModelError(
            f"describes a model that cannot be built ({error}). Choose another SDXL model.", where
        ) from error


def _make_position_ids(module: nn.Module, device: torch.device) -> None:
    """CLIP's position numbers are no weights: they are in no file and come out of the building without content."""
    for child in module.modules():
        ids = getattr(child, "position_ids", None)
        if isinstance(ids, torch.Tensor) and ids.is_meta:
            child.register_buffer("position_ids", torch.arange(ids.shape[-1], device=device)[None], persistent=False)
