"""Faults between settings: what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.adapter_shapes import DROPPING, LIMITED
from engine.errors import Problem
from engine.layer_choice import read_choice
from engine.optimizer_kinds import OPTIMIZERS
from engine.rules import families

if TYPE_CHECKING:
    from engine.preset import Preset


def something_is_trained(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if not (adapter.unet or adapter.text_encoder_1 or adapter.text_encoder_2):
        yield Problem("adapter.unet", "nothing would be trained. Switch on the UNet or a text encoder.")


def layer_texts_can_be_read(preset: Preset) -> Iterator[Problem]:
    problems: list[Problem] = []
    read_choice(preset.adapter, problems)
    yield from problems


def residual_blocks_need_a_conv_rank(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm == "full" and adapter.full_convolutions:
        return
    if adapter.blocks == "residual_blocks" and not (adapter.conv_rank or adapter.conv_block_ranks.strip()):
        what = "residual blocks are adapted only with a rank for convolutions (got conv rank 0)."
        yield Problem("adapter.blocks", f"{what} Set adapter.conv_rank, or choose other layers.")


def conv_alphas_need_a_conv_rank(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.conv_block_alphas.strip() and not (adapter.conv_rank or adapter.conv_block_ranks.strip()):
        what = "no convolution is trained, so alphas for them do nothing."
        yield Problem("adapter.conv_block_alphas", f"{what} Set adapter.conv_rank, or leave this empty.")


def block_settings_need_the_unet(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.unet:
        return
    for name in ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas", "block_rates"):
        if getattr(adapter, name).strip():
            what = "blocks are those of the UNet, which is not trained. Leave this empty, or train the UNet."
            yield Problem(f"adapter.{name}", what)
    if adapter.blocks != "all":
        what = f"the UNet is not trained, so there is nothing to choose (got {adapter.blocks}). Set it to all."
        yield Problem("adapter.blocks", what)


def dropout_needs_ranks(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    for name in ("network_dropout", "rank_dropout", "module_dropout"):
        if getattr(adapter, name) and adapter.algorithm not in DROPPING:
            what = f"dropout works with {', '.join(DROPPING)} (got {adapter.algorithm}). Set it to 0."
            yield Problem(f"adapter.{name}", what)


def norm_limit_needs_a_product(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.norm_limit and adapter.algorithm not in LIMITED:
        what = f"norms can be limited with {', '.join(LIMITED)} (got {adapter.algorithm}). Set it to 0."
        yield Problem("adapter.norm_limit", what)


def norm_limit_needs_plain_weights(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.norm_limit and OPTIMIZERS[preset.optimizer.name].schedule_free:
        what = f"{preset.optimizer.name} trains other weights than it shows, so their norms cannot be limited."
        yield Problem("adapter.norm_limit", f"{what} Set it to 0, or use another optimizer.")


def ranks_come_from_one_place(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if not adapter.rank_from_file:
        return
    if not adapter.start_from:
        what = "no file is given to take the ranks from. Choose one in adapter.start_from, or switch this off."
        yield Problem("adapter.rank_from_file", what)
    for name in ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas"):
        if getattr(adapter, name).strip():
            what = "layers, ranks and alphas come from the file (adapter.rank_from_file). Leave this empty."
            yield Problem(f"adapter.{name}", what)


RULES = (
    something_is_trained,
    layer_texts_can_be_read,
    residual_blocks_need_a_conv_rank,
    conv_alphas_need_a_conv_rank,
    block_settings_need_the_unet,
    dropout_needs_ranks,
    norm_limit_needs_a_product,
    norm_limit_needs_plain_weights,
    ranks_come_from_one_place,
    *families.RULES,
)
