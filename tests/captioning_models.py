"""Small real captioning models in the files that a user's would be in: a BLIP with its own words, an ONNX tagger."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

RED, BLUE = (220, 20, 20), (20, 20, 220)
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "blue", "square", "photo", "of")
CAPTIONS = {RED: "a red square", BLUE: "a blue square"}
TAGS = (  # name, category (9 rating, 0 general, 4 character), probability's logit at black, slope by red minus blue
    ("sensitive", 9, 5.0, 0.0),
    ("red_background", 0, -2.0, 0.03),
    ("blue_background", 0, -2.0, -0.03),
    ("1girl", 0, 3.0, 0.0),
    (">_<", 0, 1.0, 0.0),
    ("rarely_seen", 0, -1.0, 0.0),
    ("hatsune_miku", 4, 1.0, 0.01),  # 0.73 without colour, 0.95 on red: above 0.85 only there
)


def picture(path: Path, color: tuple[int, int, int] = RED, size_px: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_px, color).save(path)
    return path


def write_tagger(folder: Path, side_px: int = 32, batch: int | str = "batch") -> Path:
    """model.onnx and selected_tags.csv of a tagger whose tags follow the mean colour (448 px in real ones)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as lines:
        rows = [(number, name, category, 1) for number, (name, category, *_) in enumerate(TAGS)]
        csv.writer(lines).writerows([("tag_id", "name", "category", "count"), *rows])
    slopes = np.array([[-slope, 0, slope] for *_, slope in TAGS], np.float32).T  # blue comes first
    constants = {
        "axes": np.array([1, 2]),
        "slopes": np.ascontiguousarray(slopes),
        "logits": np.array([tag[2] for tag in TAGS], np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "slopes", "logits"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, side_px, side_px, 3])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, len(TAGS)])]
    graph = helper.make_graph(
        nodes, "tagger", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx"
    )
    return folder


def write_blip(folder: Path, steps: int = 40) -> Path:
    """A BLIP of 16 px and twelve words, taught to tell red from blue, as `save_pretrained` writes it."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(folder, bos_token="[DEC]", local_files_only=True)
    processor = BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer)
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 5, "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 32, "max_position_embeddings": 16, **widths, **ids}
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config={"image_size": 16, "patch_size": 8, **widths})
    model = BlipForConditionalGeneration(config)
    images = [Image.new("RGB", (16, 16), color) for color in CAPTIONS]
    batch = processor(images=images, text=list(CAPTIONS.values()), return_tensors="pt")
    batch["input_ids"][:, 0] = 5
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"], labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
