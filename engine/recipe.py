"""From a preset to what `attach` needs."""

from __future__ import annotations

from engine.adapter_shapes import options_of
from engine.adapters.attach import Recipe
from engine.adapters.dropout import Dropout
from engine.adapters.starting import Start
from engine.adapters.targets import TEXT_1, TEXT_2, UNET
from engine.layer_choice import read_choice
from engine.preset import Preset, resolve


def recipe_of(preset: Preset, resumed: bool = False) -> Recipe:
    """The adapter that a preset describes. Its start values are drawn from run.seed, or of the file to start from.

    `resumed`: a state gives its values, so that the file is read only where layers and ranks are the file's.
    ModelError, in a sentence, where that file cannot be used.
    """
    adapter = preset.adapter
    starts = bool(adapter.start_from) and (adapter.rank_from_file or not resumed)
    ratios = {UNET: adapter.loraplus_unet_ratio, TEXT_1: adapter.loraplus_text_ratio}
    return Recipe(
        algorithm=adapter.algorithm,
        rank=adapter.rank,
        alpha=adapter.alpha,
        conv_rank=adapter.conv_rank,
        conv_alpha=adapter.conv_alpha,
        seed=preset.run.seed,
        options=options_of(adapter),
        rank_stabilised=adapter.rank_stabilised,
        norms=adapter.norms,
        late_rates={**ratios, TEXT_2: adapter.loraplus_text_ratio},
        choice=read_choice(adapter),
        start=Start.read(resolve(adapter.start_from), adapter.rank_from_file) if starts else None,
        dropout=Dropout(adapter.network_dropout, adapter.rank_dropout, adapter.module_dropout),
    )
