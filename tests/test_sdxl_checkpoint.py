"""Checkpoints in: equal to diffusers' own conversion, as views of the file, in every precision."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from loaded_model import CPU, METADATA, STORED, Model, assert_equal, vae_tensors
from model_headers import write_sparse
from reduced_model import full_size_shapes
from safetensors.torch import save_file
from torch import nn

from engine.sdxl import keys
from engine.sdxl.checkpoint import (
    load_text_encoders,
    load_unet,
    load_vae,
    part_digest,
)
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.parts import Part, locate

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_unet_weights_are_those_of_diffusers_converter(facts: ModelFacts, model: Model, stored: dict):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    assert_equal(model.unet.state_dict(), convert_ldm_unet_checkpoint(dict(stored), facts.config.unet))


def test_vae_weights_are_those_of_diffusers_converter(facts: ModelFacts, model: Model, stored: dict):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    theirs = convert_ldm_vae_checkpoint(dict(stored), facts.config.vae)
    shapes = {name: tensor.shape for name, tensor in model.vae.state_dict().items()}
    assert_equal(model.vae.state_dict(), {name: tensor.reshape(shapes[name]) for name, tensor in theirs.items()})


def test_text_weights_are_those_of_diffusers_converters(model: Model, stored: dict):
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint

    two = convert_open_clip_checkpoint(model.text.two, dict(stored), prefix=keys.TEXT_2_PREFIX)
    assert_equal(model.text.two.state_dict(), two)
    one = convert_ldm_clip_checkpoint({name: t for name, t in stored.items() if name.startswith(keys.TEXT_1_PREFIX)})
    one = {name.removeprefix("text_model."): tensor for name, tensor in one.items()}
    assert_equal({name.removeprefix("text_model."): t for name, t in model.text.one.state_dict().items()}, one)


def test_the_projection_is_x_at_p(model: Model, stored: dict):
    projection = stored[keys.TEXT_2_PREFIX + "text_projection"]
    x = torch.eye(40, dtype=STORED)  # one product a number: no order of adding up can differ
    assert torch.equal(model.text.two.text_projection(x), x @ projection)


@pytest.mark.slow
def test_every_tensor_of_a_full_size_checkpoint_has_its_place(tmp_path: Path):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    facts = identify(write_sparse(tmp_path / "sdxl.safetensors", full_size_shapes()))
    config = facts.config
    assert config.text_1 and config.text_2 and config.vae
    with torch.device("meta"):
        modules: dict[Part, nn.Module] = {
            "unet": UNet2DConditionModel(**config.unet),
            "text_1": CLIPTextModel(CLIPTextConfig(**config.text_1)),
            "text_2": CLIPTextModelWithProjection(CLIPTextConfig(**config.text_2)),
            "vae": AutoencoderKL(**config.vae),
        }
    used_bytes = 0
    for part, module in modules.items():
        places = locate(facts, part, {name: tuple(t.shape) for name, t in module.state_dict().items()})
        used_bytes += sum(place.end - place.start for place in places.values())
    assert used_bytes == 2 * (3_468_837_868 - 1)  # bf16; all but CLIP's logit_scale
    assert sum(p.numel() for p in modules["unet"].parameters()) == 2_567_463_684


def test_weights_of_the_same_precision_are_views_of_the_file(facts: ModelFacts, model: Model):
    turned = {"text_projection.weight"}
    for module in model.parts().values():
        for name, parameter in module.named_parameters():
            if name not in turned:
                assert parameter.untyped_storage().nbytes() == facts.size_bytes
                assert parameter.is_contiguous()


def test_writing_to_a_weight_leaves_the_file_alone(facts: ModelFacts):
    before = facts.path.stat()
    weight = load_unet(facts, STORED, CPU).conv_in.weight
    weight.zero_()
    assert weight.abs().sum() == 0
    assert load_unet(facts, STORED, CPU).conv_in.weight.abs().sum() > 0
    assert facts.path.stat().st_mtime_ns == before.st_mtime_ns


def test_modules_are_frozen_evaluating_and_whole(model: Model):
    for module in model.parts().values():
        assert not module.training
        for tensor in [*module.parameters(), *module.buffers()]:
            assert not tensor.requires_grad and tensor.device.type == "cpu"


def test_gradients_flow_through_frozen_views_without_a_warning(facts: ModelFacts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = load_text_encoders(facts, STORED, CPU).two.text_projection
        x = torch.randn(2, 40, dtype=STORED, requires_grad=True)
        layer(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


MEASURE = """
import sys, torch
from engine.sdxl.detect import identify
from engine.sdxl import checkpoint
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers.models.clip.modeling_clip import CLIPTextModel
def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name + ":"))
facts, dtype = identify(sys.argv[1]), getattr(torch, sys.argv[2])
before, anonymous = kilobytes("VmRSS"), kilobytes("RssAnon")
kept = checkpoint.load_unet(facts, dtype, "cpu"), checkpoint.load_text_encoders(facts, dtype, "cpu")
kept += (checkpoint.load_vae(facts, dtype, "cpu"),)
total = sum(float(p.sum()) for m in (kept[0], kept[1].one, kept[1].two, kept[2]) for p in m.parameters())
grown = kilobytes("VmHWM") - before, kilobytes("RssAnon") - anonymous
print(*(1024 * kb / facts.size_bytes for kb in grown))
"""


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "anonymous_limit"), [("bfloat16", 0.15), ("float16", 1.2)])
def test_peak_memory_stays_under_1_3_times_the_file(reduced_model_path: Path, dtype: str, anonymous_limit: float):
    arguments = [sys.executable, "-c", MEASURE, str(reduced_model_path), dtype]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    peak, anonymous = map(float, done.stdout.split())
    assert peak < 1.3
    assert anonymous < anonymous_limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_precisions_are_converted(facts: ModelFacts, model: Model, dtype: torch.dtype):
    vae = load_vae(facts, dtype, CPU)
    assert_equal(vae.state_dict(), {name: t.to(dtype) for name, t in model.vae.state_dict().items()})


def old_diffusers(model: Model) -> dict[str, torch.Tensor]:
    new_to_old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = dict(model.vae.state_dict())
    for new, old in new_to_old.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    return tensors


@pytest.mark.parametrize("layout", ["single file", "with prefix", "diffusers", "old diffusers", "folder", "checkpoint"])
def test_a_separate_vae_in_every_layout(facts: ModelFacts, model: Model, stored: dict, tmp_path: Path, layout: str):
    path = tmp_path / "vae.safetensors"
    plain = vae_tensors(stored)
    if layout == "folder":
        path = tmp_path / "vae"
        model.vae.save_pretrained(path)
    elif layout == "checkpoint":
        path = facts.path
    else:
        prefixed = {keys.VAE_PREFIX + name: tensor for name, tensor in plain.items()}
        layouts: dict[str, dict[str, torch.Tensor]] = {
            "single file": plain,
            "with prefix": prefixed,
            "diffusers": model.vae.state_dict(),
            "old diffusers": old_diffusers(model),
        }
        save_file({name: tensor.clone() for name, tensor in layouts[layout].items()}, path, METADATA)
    vae = load_vae(identify(facts.path, path), STORED, CPU, path)
    assert_equal(vae.state_dict(), model.vae.state_dict())
    assert part_digest(facts, "vae", path)


def test_an_odd_start_of_the_data_is_read_all_the_same(stored: dict, model: Model, facts: ModelFacts, tmp_path: Path):
    path = tmp_path / "odd.safetensors"
    save_file(vae_tensors(stored), path, METADATA)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :])
    assert_equal(load_vae(facts, STORED, CPU, path).state_dict(), model.vae.state_dict())


def test_fp8_weights_are_widened(stored: dict, facts: ModelFacts, tmp_path: Path):
    narrow = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in vae_tensors(stored).items()}
    save_file(narrow, tmp_path / "vae.safetensors", METADATA)
    weight = load_vae(facts, STORED, CPU, tmp_path / "vae.safetensors").encoder.conv_in.weight
    assert torch.equal(weight, narrow["encoder.conv_in.weight"].to(STORED))
