"""The forward pass of diffusers' blocks in fewer operations, for the demo's training.

A model this small spends more time in calling operations than in their numbers. The mathematics is diffusers', the
weights stay where they are; what falls away: copies between memory layouts, divisions by 1, views for the sake of a
third dimension, and 34 small products for the keys and values of the text: they are one here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

TextPairs = dict[nn.Module, tuple[Tensor, Tensor]]  # keys and values [B, heads, tokens, head width] of an attention


def make_lean(model: nn.Module) -> None:
    """Let the blocks of a UNet or VAE compute as below. Only for the demo's structures, and for nothing but training:
    dropout, attention masks, tiling and the like are not looked at."""
    model.eval()  # in training mode diffusers copies the input of each shortcut (for parallel training on GPUs)
    modules: list[Any] = list(model.modules())
    forwards: dict[type, Any] = {ResnetBlock2D: resnet, Transformer2DModel: transformer}
    for module in modules:
        if forward := forwards.get(type(module)):
            module.forward = partial(forward, module)
    crossed = [module.attn2 for module in modules if type(module) is BasicTransformerBlock]
    if crossed:
        modules[0].process_encoder_hidden_states = partial(text_pairs, crossed)


def resnet(block: Any, hidden: Tensor, temb: Tensor | None = None) -> Tensor:
    inner = block.conv1(F.silu(block.norm1(hidden)))
    if temb is not None:
        inner = inner + block.time_emb_proj(F.silu(temb))[:, :, None, None]
    inner = block.conv2(F.silu(block.norm2(inner)))
    return (hidden if block.conv_shortcut is None else block.conv_shortcut(hidden)) + inner


def text_pairs(attentions: list[Any], encoder_hidden_states: Tensor, added_cond_kwargs: object) -> TextPairs:
    """Keys and values of the text [B, tokens, C] for all attentions in one product."""
    weights = [layer.weight for attention in attentions for layer in (attention.to_k, attention.to_v)]
    batch = len(encoder_hidden_states)
    together = F.linear(encoder_hidden_states.flatten(0, 1), torch.cat(weights))
    parts = iter(together.split([len(weight) for weight in weights], dim=1))
    return {a: (heads_first(next(parts), a, batch), heads_first(next(parts), a, batch)) for a in attentions}


def heads_first(rows: Tensor, attention: Attention, batch: int) -> Tensor:
    """[B · tokens, C] → [B, heads, tokens, head width]"""
    return rows.view(batch, -1, attention.heads, rows.shape[1] // attention.heads).transpose(1, 2)


def attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[B, heads, tokens, head width] each → [B · tokens, C]"""
    seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return attention.to_out[0](seen.reshape(-1, seen.shape[2] * seen.shape[3]))


def transformer(model: Any, hidden: Tensor, encoder_hidden_states: TextPairs, **_: object) -> tuple[Tensor]:
    batch, channels, height, width = hidden.shape
    rows = model.norm(hidden).permute(0, 2, 3, 1).reshape(-1, channels)
    rows = model.proj_in(rows)
    for block in model.transformer_blocks:
        rows = transformer_block(block, rows, batch, encoder_hidden_states[block.attn2])
    out = model.proj_out(rows).view(batch, height, width, channels).permute(0, 3, 1, 2)
    return (hidden + out,)


def transformer_block(block: Any, rows: Tensor, batch: int, text: tuple[Tensor, Tensor]) -> Tensor:
    """Self-attention, attention to the text, feed-forward with a gate: [B · tokens, C] → the same."""
    own = block.attn1
    weights = torch.cat([own.to_q.weight, own.to_k.weight, own.to_v.weight])
    query, key, value = (heads_first(r, own, batch) for r in F.linear(block.norm1(rows), weights).chunk(3, dim=1))
    rows = rows + attend(own, query, key, value)
    query = heads_first(block.attn2.to_q(block.norm2(rows)), block.attn2, batch)
    rows = rows + attend(block.attn2, query, *text)
    inner, gate = block.ff.net[0].proj(block.norm3(rows)).chunk(2, dim=1)
    return rows + block.ff.net[2](inner * F.gelu(gate))
