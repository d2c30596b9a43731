"""torchvision's compiled operators may not load beside this torch: all that imports it must work all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

CLIP = """
from transformers import CLIPTextConfig, CLIPTextModel
import torch
config = CLIPTextConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
model = CLIPTextModel(config)
assert model(torch.zeros(1, 77, dtype=torch.int64)).last_hidden_state.shape == (1, 77, 16)
"""
DIFFUSERS = """
from diffusers import StableDiffusionXLPipeline
assert StableDiffusionXLPipeline.__call__
"""
PEFT = """
import torch
from peft import LoraConfig, inject_adapter_in_model
model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), torch.nn.Sequential(torch.nn.Linear(4, 4)))
assert any("lora_A" in name for name, _ in model.named_parameters())
"""
OPEN_CLIP = """
import torch
from open_clip import CLIP
from open_clip.tokenizer import tokenize
from open_clip.transform import image_transform
from PIL import Image
vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
model = CLIP(32, vision, text)
pixels = image_transform(32, is_train=False)(Image.new("RGB", (40, 30), "red"))[None]
tokens = tokenize(["a red square"])
image_features, text_features, _ = model(pixels, tokens)
assert image_features.shape == text_features.shape == (1, 32) and image_features.isfinite().all()
"""
TIMM = """
import torch, timm
model = timm.create_model("vit_tiny_patch16_224", img_size=32, pretrained=False, num_classes=3, depth=1)
assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
"""


# torch is imported once, and the rest by a process of its own for each library: none has what another brought.
EACH_ALONE = """
import os, sys, traceback
import engine, torch
failed = []
for name, code in {libraries!r}.items():
    child = os.fork()
    if child == 0:
        try:
            exec(code, {{}})
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(failed)
"""
LIBRARIES = {"clip": CLIP, "diffusers": DIFFUSERS, "peft": PEFT, "open_clip": OPEN_CLIP, "timm": TIMM}


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, as a stranger's first import would."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_library_that_imports_torchvision_works_after_importing_engine() -> None:
    result = run(EACH_ALONE.format(libraries=LIBRARIES))
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr[-4000:]


@pytest.mark.slow
def test_torchvision_imports_and_transforms_whatever_was_imported_before() -> None:
    code = """
import torch, transformers
import engine
import torchvision.transforms.functional as functional
from torchvision.ops import box_iou
assert functional.resize(torch.zeros(3, 8, 8), [4, 4]).shape == (3, 4, 4)
assert box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 2]])).item() == 1
"""
    result = run(code)
    assert result.returncode == 0, result.stderr[-2000:]


def test_preparing_imports_nothing_and_twice_is_once() -> None:
    code = """
import sys
from engine import imports
imports.prepare(), imports.prepare()
assert "torch" not in sys.modules and "torchvision" not in sys.modules
assert sum(type(finder).__name__ == "_LibraryFinder" for finder in sys.meta_path) == 1
"""
    result = run(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_a_model_of_diffusers_comes_alone_and_the_others_when_they_are_asked_for() -> None:
    code = """
import sys
import engine
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
unused = ("bitsandbytes", "peft", "diffusers.models.unets.unet_1d", "diffusers.models.transformers.transformer_flux")
assert not [name for name in unused if name in sys.modules]
from diffusers import FluxTransformer2DModel
from diffusers.models.unets import UNet1DModel
from diffusers.utils import is_bitsandbytes_available, is_peft_available
assert is_bitsandbytes_available() and is_peft_available()
"""
    result = run(code)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "assert torch.compile(lambda x: x * 2, backend='eager')(torch.ones(2)).tolist() == [2, 2]",
        "assert torch._dynamo.explain(torch.nn.Linear(2, 2))(torch.ones(1, 2)).graph_count == 1",
        "from torchvision.ops import roi_align; assert roi_align.__globals__['is_compile_supported']('cpu')",
        "import torch._dynamo.utils as utilities; assert utilities.is_compile_supported('cpu')",
        "from torch.utils.checkpoint import checkpoint; torch.compile(lambda x: checkpoint(torch.sin, x, "
        "use_reentrant=False), backend='eager')(torch.ones(2, requires_grad=True)).sum().backward()",
    ],
)
def test_torchs_compiler_sleeps_through_a_training_and_wakes_for_those_who_need_it(use: str) -> None:
    code = f"""
import sys
import engine, torch
from engine import train
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
layer = torch.nn.Linear(2, 2)
layer(torch.ones(1, 2)).sum().backward()
torch.optim.AdamW(layer.parameters(), fused=True).step()
assert "torch._dynamo" in sys.modules and "torch._dynamo.convert_frame" not in sys.modules
{use}
assert "torch._dynamo.convert_frame" in sys.modules
"""
    result = run(code)
    assert result.returncode == 0, result.stderr[-2000:]


FAKE_TORCH = """
import sys, types
from pathlib import Path
from engine import compat, imports
loads = {loads}
asked = []
def load_library(path):
    asked.append(path)
    if not loads:
        raise OSError("undefined symbol")
torch = types.ModuleType("torch")
class Library:
    def __init__(self, namespace, kind): self.namespace = namespace
    def define(self, schema): asked.append(schema)
torch.ops = types.SimpleNamespace(load_library=load_library, torchvision=types.SimpleNamespace())
torch.library = types.SimpleNamespace(Library=Library)
sys.modules["torch"] = torch
sys.path.insert(0, {folder!r})
import torchvision
assert torchvision.ran
print(compat.declared(), len(asked))
"""


@pytest.mark.parametrize(("loads", "expected"), [(True, "False 1"), (False, "True 3")])
def test_operators_are_declared_only_where_the_compiled_library_does_not_load(
    tmp_path: Path, loads: bool, expected: str
) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("ran = True\n")
    (package / "_C.so").write_bytes(b"")
    result = run(FAKE_TORCH.format(loads=loads, folder=str(tmp_path)))
    assert result.stdout.strip() == expected, result.stderr
