"""How much of a captioner's own speed a captioning job keeps: decoding of large JPEGs runs beside the model.

`python -m benchmarks.captioning [--model blip] [--images 12] [--rounds 5]`. Three contenders take turns on the same
pictures: the bare model on pictures that are decoded and resized already, the whole job (decoding, model, captions and
journal written), and the same work in one thread. Models have random weights: speed does not depend on what they say.
`--model gpu` is a stand-in that only waits, as long as a GPU would take (`--milliseconds` an image): all that the CPU
then does is to keep up with it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.turns import seconds_in_turns
from captioning.caption_files import survey
from captioning.captioners import CAPTIONERS
from captioning.job import Captioning
from captioning.models.blip import Settings as BlipSettings
from captioning.models.wd import Settings as WdSettings
from captioning.protocol import Captioner
from captioning.tagging import square_bgr
from captioning.wording import Wording
from engine.data.images import open_small, open_upright
from engine.tools.jobs import JobFolder
from engine.tools.working import JobReport

BATCH = 2
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *(f"word{number}" for number in range(250)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.captioning", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="blip")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=float, default=100, help="an image, of the stand-in for a GPU")
    chosen = parser.parse_args()
    Waiting.seconds = chosen.milliseconds / 1000
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), chosen.model, chosen.images, chosen.rounds)


def _measure(folder: Path, model: str, images: int, rounds: int) -> None:
    paths = [write_photo(folder / "photos" / f"{number}.jpg", seed=number) for number in range(images)]
    captioner = MODELS[model](folder / "model")
    prepared = [captioner.prepare(open_upright(path)) for path in paths]
    numbers = iter(range(10**6))

    def job() -> None:
        report = JobReport(_new_job(folder / f"job{next(numbers)}"))
        report.total(images)
        Captioning(captioner, Wording("replace"), BATCH, report).run(survey(folder / "photos", ".txt", "replace").items)
        report.close()
        for caption in (folder / "photos").glob("*.txt"):
            caption.unlink()

    steps = {
        "bare model": lambda: _caption_all(captioner, prepared),
        "the job": job,
        "in one thread": lambda: _caption_all(captioner, paths),
    }
    job()  # warm
    seconds = seconds_in_turns(steps, rounds, "cpu")
    bare = statistics.median(seconds["bare model"])
    print(f"{model}, {images} JPEGs of 4000 × 3000, batches of {BATCH}, medians of {rounds} rounds")
    for name, times in seconds.items():
        pairs = [first / own for first, own in zip(seconds["bare model"], times, strict=True)]
        speed = images / statistics.median(times)
        print(f"{name:20} {speed:6.2f} images/s   {statistics.median(pairs):5.2f} of the bare model's")
    print(f"bare model: {bare / images * 1000:.0f} ms an image")
    start = time.process_time()
    for path in paths:
        captioner.prepare(open_small(path, 2 * captioner.side_px)[0])
    cpu = (time.process_time() - start) / images
    print(f"decoding and resizing: {cpu * 1000:.0f} ms of a core an image: a core keeps up with {1 / cpu:.1f} images/s")


def write_photo(path: Path, seed: int) -> Path:
    """12 megapixels with the detail of a photo: noise at five scales, at quality 92 (3 to 5 MB)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    total = np.zeros((3000, 4000, 3), np.float32)
    for side, weight in ((4, 90), (16, 60), (64, 40), (500, 25), (2000, 12)):
        noise = random.uniform(-1, 1, (side * 3 // 4, side, 3)).astype(np.float32)
        layer = [Image.fromarray(noise[..., n]).resize((4000, 3000), Image.Resampling.BICUBIC) for n in range(3)]
        total += weight * np.stack([np.asarray(channel) for channel in layer], axis=-1)
    Image.fromarray((total + 128).clip(0, 255).astype(np.uint8)).save(path, quality=92)
    return path


def write_blip(folder: Path) -> Captioner:
    """A BLIP of 384 px like the released ones, with a third of their layers and half of their width."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer.from_pretrained(folder, bos_token="[DEC]", local_files_only=True)
    widths = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 6}
    text: dict[str, Any] = {"vocab_size": len(WORDS), "encoder_hidden_size": 384, **widths}
    text |= {"bos_token_id": 5, "eos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=text, vision_config={"image_size": 384, "patch_size": 16, **widths})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(), tokenizer).save_pretrained(folder)
    return CAPTIONERS["blip"].load(folder, BlipSettings(device="cpu", beams=1, max_tokens=20))


def write_tagger(folder: Path) -> Captioner:
    """A tagger of 448 px: six convolutions of 64 channels and a mean."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    rows = [f"{number},tag_{number},{0 if number else 9},1" for number in range(100)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n", encoding="utf-8")
    random = np.random.default_rng(0)
    weights = {f"w{n}": random.normal(0, 0.04, (64, 64 if n else 3, 3, 3)).astype(np.float32) for n in range(6)}
    weights["out"] = random.normal(0, 0.1, (64, 100)).astype(np.float32)
    nodes = [helper.make_node("Transpose", ["input"], ["x0"], perm=[0, 3, 1, 2])]
    for n in range(6):
        steps = [2, 2] if n in (0, 2, 4) else [1, 1]
        nodes.append(helper.make_node("Conv", [f"x{n}", f"w{n}"], [f"c{n}"], pads=[1] * 4, strides=steps))
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"x{n + 1}"]))
    nodes += [
        helper.make_node("GlobalAveragePool", ["x6"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "out"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 448, 448, 3])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 100])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tagger", inputs, outputs, stored)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), folder / "model.onnx")
    return CAPTIONERS["wd"].load(folder, WdSettings(device="cpu", general_threshold=0))


class Waiting:
    """Stands for a captioner on a GPU: pictures of 448 px as a tagger wants them, then the CPU has nothing to do."""

    side_px = 448
    seconds = 0.1

    def prepare(self, image: Image.Image) -> np.ndarray:
        return square_bgr(image, self.side_px)

    def caption(self, prepared: Sequence[np.ndarray]) -> list[str]:
        time.sleep(self.seconds * len(prepared))
        return ["a caption"] * len(prepared)


MODELS: dict[str, Callable[[Path], Captioner]] = {
    "blip": write_blip,
    "wd": write_tagger,
    "gpu": lambda folder: Waiting(),
}


def _caption_all(captioner: Captioner, images: Sequence[Any]) -> None:
    """In one thread, from files or from what is prepared already."""
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        captioner.caption([captioner.prepare(open_upright(it)) if isinstance(it, Path) else it for it in some])


def _new_job(folder: Path) -> JobFolder:
    folder.mkdir()
    return JobFolder(folder)


if __name__ == "__main__":
    main()
