"""What does a LoRA on a linear cost? Ours, written out plainly, and peft's, side by side on a stack of frozen linears.

    python -m benchmarks.lora_linear [--width 640] [--rows 1024] [--layers 8] [--rank 16] [--dtype fp32] [--device cpu]

One round times one training step (forward, backward, clipping, AdamW, zeroing) of each in turn, so that a busy machine
slows all alike; the figures are medians of the rounds, and counts of the operations that torch dispatches in a step.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.turns import seconds_in_turns
from engine.adapters.attach import Recipe, attach
from engine.adapters.flat import total_norm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ALPHA = 8.0


class Stack(nn.Module):
    """Linears one after the other, under the names that a text encoder's layers have."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.encoder.layers:  # pyright: ignore[reportGeneralTypeIssues]
            x = layer(x)
        return x


class PlainLora(nn.Module):
    """LoRA as one would write it down: fp32 matrices, cast for the computation."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base, self.scale = base, ALPHA / rank
        self.down = nn.Parameter(torch.rand(rank, base.in_features, device=base.weight.device) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        return self.base(x) + self.scale * nn.functional.linear(nn.functional.linear(x, down), up)


@dataclass(frozen=True)
class Contender:
    """A stack, what is trained on it, and how its gradients are measured."""

    model: nn.Module
    trained: list[nn.Parameter]
    norm: Callable[[list[Tensor]], Tensor]

    def stepper(self, x: Tensor) -> Callable[[], None]:
        """A function that makes one training step on x [rows, width]."""
        optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True) if self.trained else None

        def step() -> None:
            self.model(x).float().pow(2).mean().backward()
            if optimizer is None:
                x.grad = None
                return
            gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(self.trained, 1.0, self.norm(gradients), foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step


def contenders(width: int, layers: int, rank: int, dtype: torch.dtype, device: str) -> dict[str, Contender]:
    def stack() -> Stack:
        return Stack(width, layers).to(device, dtype).requires_grad_(False)

    ours, plain, peft_stack = stack(), stack(), stack()
    adapter = attach({"text_encoder_1": ours}, Recipe(rank=rank, alpha=ALPHA))
    plain.encoder.layers = nn.ModuleList(PlainLora(layer, rank) for layer in _layers(plain))
    peft_model = _with_peft(peft_stack, rank)
    return {
        "no adapter": Contender(stack(), [], _total_norm),
        "plain": Contender(plain, _trainable(plain), _total_norm),
        "peft": Contender(peft_model, _trainable(peft_model), _total_norm),
        "atelier": Contender(ours, list(adapter.vectors.values()), total_norm),
    }


def _with_peft(stack: Stack, rank: int) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name, module in stack.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=rank, lora_alpha=int(ALPHA), target_modules=names, lora_dropout=0.0)
    return inject_adapter_in_model(config, stack)


def _layers(stack: Stack) -> Iterable[nn.Linear]:
    return [module for module in stack.modules() if isinstance(module, nn.Linear)]


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _total_norm(gradients: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients, foreach=True)


class _Count(TorchDispatchMode):
    """Counts the operations that reach torch's dispatcher below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        return func(*args, **(kwargs or {}))


def operations_of(step: Callable[[], object]) -> int:
    """How many operations a step dispatches."""
    with _Count() as count:
        step()
    return count.operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rows", type=int, default=1024, help="pictures × tokens")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = DTYPES[options.dtype]
    stacks = contenders(options.width, options.layers, options.rank, dtype, options.device)
    x = torch.randn(options.rows, options.width, device=options.device, dtype=dtype, requires_grad=True)
    steps = {name: contender.stepper(x) for name, contender in stacks.items()}
    for step in steps.values():
        step()
    counts = {name: operations_of(step) for name, step in steps.items()}
    turns = seconds_in_turns(steps, options.rounds, options.device)
    seconds = {name: statistics.median(times) for name, times in turns.items()}
    least = seconds["no adapter"]
    print(f"{options.layers} linears of {options.width}, {options.rows} rows, rank {options.rank}, {options.dtype}")
    for name, value in seconds.items():
        print(f"{name:12} {value * 1e3:9.2f} ms   × {value / least:5.2f}   {counts[name]:6} operations a step")


if __name__ == "__main__":
    main()
