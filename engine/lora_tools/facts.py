"""What there is to know about a LoRA file: kinds, ranks and norms by block, training, tags, hashes. No torch."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.adapter_header import AdapterHeader, known_adapter
from engine.adapter_names import kohya_layer, part_of
from engine.lora_tools.numbers import are_alike, change_norm, difference_norm
from engine.lora_tools.stream import CHUNK_BYTES
from engine.sdxl.layers import TEXT_1, TEXT_2, UNET, block_of

Pairs = list[tuple[str, str]]
FAMILY_WORDS = {
    "lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "boft": "BOFT", "glora": "GLoRA",
    "ia3": "(IA)³", "full": "full difference", "norm": "norms", "": "unknown",
}  # fmt: skip
_FAMILIES = (
    ("dora", {"dora_scale"}), ("lora", {"lora_down.weight", "lora_up.weight"}),
    ("loha", {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}), ("lokr", {"lokr_w1"}), ("lokr", {"lokr_w1_a"}),
    ("oft", {"oft_blocks"}), ("glora", {"a1.weight", "b1.weight"}), ("full", {"diff"}), ("norm", {"w_norm"}),
    ("ia3", {"weight"}),
)  # fmt: skip
_PART_WORDS = {UNET: "UNet", TEXT_1: "text encoder 1", TEXT_2: "text encoder 2"}
_TRAINING = {
    "ss_output_name": "name", "ss_sd_model_name": "base model", "ss_base_model_version": "kind of base model",
    "modelspec.prediction_type": "prediction", "ss_network_module": "network", "ss_network_dim": "rank",
    "ss_network_alpha": "alpha", "ss_network_args": "network arguments", "ss_optimizer": "optimizer",
    "ss_learning_rate": "learning rate", "ss_unet_lr": "learning rate of the UNet",
    "ss_text_encoder_lr": "learning rate of the text encoders", "ss_lr_scheduler": "schedule",
    "ss_steps": "steps", "ss_epoch": "epoch", "ss_num_epochs": "epochs planned", "ss_num_train_images": "images",
    "ss_num_reg_images": "regularization images", "ss_total_batch_size": "batch", "ss_resolution": "resolution",
    "ss_mixed_precision": "precision", "ss_seed": "seed", "ss_clip_skip": "clip skip", "ss_min_snr_gamma": "min-SNR γ",
    "ss_noise_offset": "noise offset", "ss_training_started_at": "begun", "ss_training_finished_at": "finished",
    "ss_training_comment": "comment",
}  # fmt: skip
_CARD = ("title", "author", "description", "trigger_phrase", "usage_hint", "tags", "license", "date", "merged_from")
_MOST_TAGS = 200


@dataclass(frozen=True)
class BlockFacts:
    """The layers of one block of the UNet, or of one text encoder.

    `norm`: ‖ΔW‖ of all of them together; None where only the base model's weights tell that of one.
    """

    name: str
    layers: int
    ranks: str
    alphas: str
    norm: float | None


@dataclass(frozen=True)
class Facts:
    """All that is shown about a LoRA file; texts are the file's own and are no HTML."""

    path: str
    size_bytes: int
    naming: str
    families: dict[str, int]
    formats: dict[str, int]
    blocks: tuple[BlockFacts, ...]
    training: Pairs
    card: Pairs
    triggers: tuple[str, ...]
    tags: tuple[tuple[str, int], ...]
    hashes: Pairs
    metadata: dict[str, str]
    thumbnail: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """How a second file differs from the first: rows of (what, first, second)."""

    other: str
    rows: tuple[tuple[str, str, str], ...]


def read_facts(path: Path) -> tuple[AdapterHeader, Facts]:
    """Raises ModelError, in a sentence, for what is no adapter of SDXL or is damaged."""
    header = known_adapter(path)
    metadata = header.metadata
    tags = _tags(metadata)
    families = Counter(family_of(held) for held in header.layers.values())
    formats = Counter(info.dtype for held in header.layers.values() for info in held.values() if info.shape)
    said = {name.replace("_", " "): metadata.get(f"modelspec.{name}", "") for name in _CARD}
    card = [(name, text) for name, text in said.items() if text]
    training = [(word, metadata[key]) for key, word in _TRAINING.items() if metadata.get(key) not in (None, "", "None")]
    return header, Facts(
        str(path),
        header.size_bytes,
        header.naming,
        {FAMILY_WORDS[family]: count for family, count in families.items()},
        dict(formats),
        _blocks(header),
        training,
        card,
        _triggers(metadata, tags),
        tuple(tags.most_common(_MOST_TAGS)),
        _hashes(header),
        metadata,
        metadata.get("modelspec.thumbnail", ""),
    )


def family_of(held: Mapping[str, Any]) -> str:
    """The kind of adapter that a layer's tensors belong to; "" for none that is known."""
    for family, needed in _FAMILIES:
        if needed <= held.keys():
            return "boft" if family == "oft" and len(held["oft_blocks"].shape) == 4 else family
    return ""


def compare(one: AdapterHeader, two: AdapterHeader) -> Difference:
    """Layers, ranks, weights and metadata of the second file where they differ from the first's."""
    first = {kohya_layer(layer, one.layers_per_block): layer for layer in one.layers}
    second = {kohya_layer(layer, two.layers_per_block): layer for layer in two.layers}
    rows: list[tuple[str, str, str]] = []
    if one.naming != two.naming:
        rows.append(("naming", one.naming, two.naming))
    for what, names in (("only in the first", first.keys() - second), ("only in the second", second.keys() - first)):
        if names:
            rows.append((f"layers {what}", f"{len(names):,}", ", ".join(sorted(names)[:3])))
    shared = [name for name in first if name in second]
    ranks = [name for name in shared if one.rank_of(first[name]) != two.rank_of(second[name])]
    if ranks:
        rows.append(("rank", _ranks(one, [first[n] for n in ranks]), _ranks(two, [second[n] for n in ranks])))
    pairs = {name: difference_norm(one, two, first[name], second[name]) for name in shared}
    total = [pair for pair in pairs.values() if pair is not None]
    apart, whole = (sum(pair[place] ** 2 for pair in total) ** 0.5 for place in (0, 1))
    if apart > 1e-6 * whole:
        share = f"{apart / whole:.2%}" if whole else "–"
        rows.append(("what they do to the weights, apart by", share, f"{len(total):,} layers compared"))
    rest = [name for name, pair in pairs.items() if pair is None]
    other = [name for name in rest if not are_alike(one.layers[first[name]], two.layers[second[name]])]
    if other:
        rows.append(("tensors of other kinds than LoRA", f"{len(other):,} layers differ", ", ".join(other[:3])))
    for key in sorted(one.metadata.keys() | two.metadata.keys()):
        before, after = one.metadata.get(key, ""), two.metadata.get(key, "")
        if before != after:
            rows.append((key, _short(before), _short(after)))
    return Difference(str(two.path), tuple(rows))


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"


def _blocks(header: AdapterHeader) -> tuple[BlockFacts, ...]:
    groups: dict[tuple[int, str], list[str]] = {}
    for layer in header.layers:
        part = part_of(layer) or ""
        block = block_of(layer.replace("oft_unet_", "lora_unet_", 1))
        if part != UNET or block is None:
            groups.setdefault((100 + (part == TEXT_2), _PART_WORDS.get(part, part)), []).append(layer)
        else:
            groups.setdefault((block, block_words(block)), []).append(layer)
    return tuple(_block(header, name, layers) for (_, name), layers in sorted(groups.items()))


def block_words(block: int) -> str:
    """A block of the UNet as people speak of it: "down 4", "middle 1", "up 0"."""
    if block == 0:
        return "embeddings"
    if block < 10:
        return f"down {block - 1}"
    return f"middle {block - 10}" if block < 13 else f"up {block - 13}" if block < 22 else "end"


def _block(header: AdapterHeader, name: str, layers: list[str]) -> BlockFacts:
    norms = [norm for layer in layers if (norm := change_norm(header, layer)) is not None]
    alphas = sorted({alpha for layer in layers if (alpha := header.alpha_of(layer)) is not None})
    total = sum(norm**2 for norm in norms) ** 0.5 if len(norms) == len(layers) else None
    return BlockFacts(name, len(layers), _ranks(header, layers), _span([f"{alpha:g}" for alpha in alphas]), total)


def _ranks(header: AdapterHeader, layers: list[str]) -> str:
    ranks = {header.rank_of(layer) for layer in layers} - {0}
    return _span([str(rank) for rank in sorted(ranks)])


def _span(texts: list[str]) -> str:
    return "–".join(dict.fromkeys((texts[0], texts[-1]))) if texts else ""


def _tags(metadata: Mapping[str, str]) -> Counter[str]:
    """How often each tag stands in the training captions, all folders together."""
    found: Counter[str] = Counter()
    content = _json(metadata.get("ss_tag_frequency", ""))
    for tags in content.values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int:
                found[str(tag).strip()] += count
    return found


def _triggers(metadata: Mapping[str, str], tags: Counter[str]) -> tuple[str, ...]:
    """Trigger words: what the card says, else tags that every image has, and names of kohya's folders."""
    said = metadata.get("modelspec.trigger_phrase", "")
    if said:
        return (said,)
    images = metadata.get("ss_num_train_images", "")
    found = [tag for tag, count in tags.most_common(5) if images.isdecimal() and count >= int(images) > 0]
    folders = _json(metadata.get("ss_dataset_dirs", ""))
    found += [name.partition("_")[2] for name in folders if name.partition("_")[0].isdecimal()]
    return tuple(dict.fromkeys(filter(None, found)))


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):  # another program's metadata are shown as they are
        return {}
    return found if isinstance(found, dict) else {}


def _hashes(header: AdapterHeader) -> Pairs:
    """SHA-256 of the file, its first 10 digits (AutoV2), of what follows the header (kohya), and what the file says."""
    whole, weights = hashlib.sha256(), hashlib.sha256()
    for file in header.files:
        with file.open("rb") as opened:
            start = opened.read(8)
            head = start + opened.read(int.from_bytes(start, "little"))
            whole.update(head)
            while block := opened.read(CHUNK_BYTES):
                whole.update(block)
                weights.update(block)
    found = [("SHA-256", whole.hexdigest()), ("AutoV2", whole.hexdigest()[:10]), ("AutoV3", weights.hexdigest()[:12])]
    said = header.metadata.get("sshs_model_hash", "")
    if said:
        note = "" if said == weights.hexdigest() else " (not that of these weights)"
        found.append(("sshs_model_hash", said + note))
    if legacy := header.metadata.get("sshs_legacy_hash", ""):
        found.append(("sshs_legacy_hash", legacy))
    return found
