"""What tests of the LoRA tools share: small files of every family, and a tool run as a job in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.adapter_names import Key, spell
from engine.adapter_shapes import SHAPES, Options, Place
from engine.lora_tools import PROGRAM, TOOLS
from engine.lora_tools.changes import dense_change
from engine.lora_tools.lora_file import LoraFile, read_lora
from engine.lora_tools.writing import LayerReader
from engine.tools import jobs
from engine.tools.tool import Proposal, make_settings
from engine.tools.working import work

LINEAR = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
FEED_FORWARD = "lora_unet_output_blocks_0_1_transformer_blocks_0_ff_net_0_proj"
CONVOLUTION = "lora_unet_input_blocks_4_0_in_layers_2"
TEXT = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
SHAPES_OF = {LINEAR: (24, 20), FEED_FORWARD: (48, 24), CONVOLUTION: (24, 16, 3, 3), TEXT: (20, 20)}
METADATA = {"ss_base_model_version": "sdxl_base_v1-0", "ss_network_dim": "8", "ss_output_name": "one"}


def layer_tensors(name: str, family: str, rank: int, alpha: float, seed: int, **options: Any) -> dict[str, Tensor]:
    """Random tensors of one layer, as a trained LoRA has them: all ranks count."""
    generator = torch.Generator().manual_seed(seed)
    place = Place(SHAPES_OF[name], rank, True, Options(**options))
    tensors = {
        f"{name}.{suffix}": torch.randn(shape, generator=generator) * 0.1
        for suffix, shape in SHAPES[family](place).items()
    }
    return tensors | {f"{name}.alpha": torch.tensor(float(alpha))}


def write_file(
    path: Path,
    family: str = "lora",
    rank: int = 8,
    alpha: float = 4.0,
    seed: int = 0,
    layers: tuple[str, ...] = tuple(SHAPES_OF),
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Path:
    """A LoRA file of one family with a linear, a convolution and a layer of a text encoder."""
    tensors: dict[str, Tensor] = {}
    for place, name in enumerate(layers):
        tensors |= layer_tensors(name, family, rank, alpha, 100 * seed + place, **options)
    stored = {key: tensor.to(dtype) if tensor.dim() else tensor for key, tensor in tensors.items()}
    save_file(stored, path, METADATA)
    return path


def tensors_of(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def changes_of(path: Path) -> dict[str, Tensor]:
    """{layer: ΔW [out, in · k · k]}, fp32."""
    file: LoraFile = read_lora(path)
    with LayerReader(file) as reader:
        return {name: dense_change(layer, reader.tensors(layer)) for name, layer in file.layers.items()}


def propose(tool: str, **values: Any) -> Proposal:
    return TOOLS[tool].propose(_settings(tool, values))


def run(tool: str, folder: Path, **values: Any) -> tuple[int, list[jobs.Done]]:
    """Carry a tool out as a job; its exit code and what became of the rows."""
    job = jobs.create(tool, _settings(tool, values), folder / f"job-{len(list(folder.iterdir()))}")
    code = work(job, PROGRAM)
    return code, job.read_table()[0]


def made(tool: str, folder: Path, **values: Any) -> Path:
    """The file that a tool made; it must have gone well."""
    code, rows = run(tool, folder, **values)
    assert code == 0, [done.row.note for done in rows]
    return Path(rows[0].row.target)


def sentences(proposal: Proposal) -> str:
    return "\n".join(map(str, proposal.problems))


def history_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(metadata_of(path)["atelier.history"])


def _settings(tool: str, values: Mapping[str, Any]) -> Any:
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return make_settings(tool, TOOLS[tool].Settings, texts)


def as_diffusers(source: Path, path: Path, alpha: float = 8.0) -> Path:
    """The LoRA layers of a file under diffusers' names, with one alpha for all in the metadata."""
    tensors = {}
    for name, tensor in tensors_of(source).items():
        layer, _, suffix = name.partition(".")
        key = spell(Key(layer, suffix), "diffusers")
        if key is not None:
            tensors[key] = tensor
    about = {f"{part}.{name}": value for part in ("unet", "text_encoder") for name, value in (("lora_alpha", alpha),)}
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps(about)})
    return path
