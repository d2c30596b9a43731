"""A separate VAE: a .safetensors file in single-file or diffusers names, a VAE folder, or the VAE of a whole model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError
from engine.sdxl import configs, keys
from engine.sdxl.folder import part_tensors, read_json
from engine.sdxl.safefile import Header, TensorInfo, read_header

SDXL_SCALING, SD_1_SCALING = 0.13025, 0.18215


@dataclass(frozen=True)
class VaeFile:
    """`tensors` under diffusers names; `config`: keyword arguments of AutoencoderKL."""

    config: configs.Config
    tensors: dict[str, TensorInfo]


def read_vae(path: Path) -> VaeFile:
    """Read the headers of a separate VAE. ModelError where `path` holds no VAE of SDXL's kind."""
    where = str(path)
    folder = path / "vae" if (path / "vae" / "config.json").is_file() else path
    if folder.is_dir():
        tensors, metadata = part_tensors(folder), {}
        beside = folder / "config.json"
    else:
        header: Header = read_header(path)
        tensors, metadata = header.tensors, header.metadata
        beside = path.parent / "config.json"
    named = named_vae(tensors)
    _check_scaling(beside, where)
    overrides = configs.read_overrides(metadata, where).get("vae", {})
    if not overrides and folder.is_dir() and beside.is_file():
        groups = read_json(beside).get("norm_num_groups", configs.NORM_GROUPS)
        overrides = {"norm_groups": groups} if type(groups) is int else {}
    try:
        levels = len({name.split(".")[2] for name in named if name.startswith("encoder.down_blocks.")})
        shapes = {keys.vae_to_ldm(name, levels): info.shape for name, info in named.items()}
        config = configs.vae_config(shapes, overrides)
    except KeyError as error:
        raise ModelError(
            f"is no VAE of SDXL's kind (it lacks the tensor {error.args[0]}). Choose an SDXL VAE.", where
        ) from error
    except (IndexError, ValueError) as error:
        raise ModelError(f"has tensors of shapes that no SDXL VAE has ({error}). Choose an SDXL VAE.", where) from error
    return VaeFile(config, named)


def named_vae(tensors: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The VAE's tensors under today's diffusers names, from a file in either layout."""
    below = {name[len(keys.VAE_PREFIX) :]: info for name, info in tensors.items() if name.startswith(keys.VAE_PREFIX)}
    found = below or {name: info for name, info in tensors.items() if name.startswith(_ROOTS)}
    levels = configs.vae_levels({name: info.shape for name, info in found.items()})
    return {keys.vae_from_ldm(name, levels): info for name, info in found.items()}


_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def _check_scaling(config: Path, where: str) -> None:
    """A VAE of SD 1.x has the same shapes; only a configuration beside it tells."""
    found = read_json(config) if config.is_file() else {}
    if found.get("_class_name") != "AutoencoderKL":
        return
    scaling = found.get("scaling_factor", SD_1_SCALING)  # absent in the oldest files, which are all of SD 1.x
    if scaling != SDXL_SCALING:
        raise ModelError(
            f"is not a VAE for SDXL: its config.json means the scaling factor {scaling}, SDXL's is {SDXL_SCALING}. "
            "Choose an SDXL VAE.",
            where,
        )
