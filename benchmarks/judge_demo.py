"""Does the demo model draw what it is asked for? 40 prompts whose combination it was never trained on.

    python -m benchmarks.judge_demo [--model demo/model.safetensors] [--size 128x128] [--sheet pictures.png]

Prints one line a prompt and the score. A picture counts when colour, form and background are all as asked, judged by
demo/judge.py. Everything is seeded: the same model and torch give the same score.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from demo.captions import HELD_OUT_PROMPTS, combination
from demo.judge import Verdict, judge_picture
from demo.sampling import Model, draw, load_model

TARGET = 36


def judge_prompts(
    model: Model, size_px: tuple[int, int], seed: int, prompts: Sequence[str] = HELD_OUT_PROMPTS
) -> list[tuple[str, Image.Image, Verdict]]:
    """(prompt, picture, verdict) for each prompt; picture i has the seed `seed` + i."""
    pictures = draw(model, list(prompts), [seed + i for i in range(len(prompts))], size_px)
    return [(p, picture, judge_picture(picture)) for p, picture in zip(prompts, pictures, strict=True)]


def is_right(prompt: str, verdict: Verdict) -> bool:
    return (verdict.colour, verdict.form, verdict.background) == combination(prompt)


def contact_sheet(pictures: list[Image.Image], columns: int = 8, gap_px: int = 4) -> Image.Image:
    """Pictures of one size side by side."""
    width, height = (side + gap_px for side in pictures[0].size)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    return sheet


def parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a size looks like 128x128 (got {text})")
    return int(match[1]), int(match[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "demo" / "model.safetensors")
    parser.add_argument("--size", type=parse_size, default=(128, 128), help="width x height in pixels, e.g. 112x144")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, help="write all pictures into one PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, started = load_model(options.model), time.monotonic()
    results = judge_prompts(model, options.size, options.seed)
    right = [is_right(prompt, verdict) for prompt, _, verdict in results]
    for (prompt, _, verdict), good in zip(results, right, strict=True):
        seen = f"{verdict.colour} {verdict.form} on {verdict.background} ({verdict.overlap:.2f})"
        print(f"{'right' if good else 'WRONG'}  {prompt}" + ("" if good else f"  ->  {seen}"))
    if options.sheet:
        contact_sheet([picture for _, picture, _ in results]).save(options.sheet)
    seconds = time.monotonic() - started
    width, height = options.size
    print(f"{sum(right)} of {len(right)} right at {width} x {height} px (wanted: {TARGET}); {seconds:.0f} s")


if __name__ == "__main__":
    main()
