"""Stage 2 of the demo's build: pictures in their buckets, as latents with captions and size conditions."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from demo.captions import caption, random_scene
from demo.pictures import draw_scene
from demo.tiny_sdxl import new_vae
from demo.train_vae import to_pixels
from engine.sdxl.latents import SCALE, encode_moments
from engine.sdxl.tokenizer import EOS, Tokenizers

Size = tuple[int, int]

# How many parts of pictures of each size: 1:1, 3:4 and 4:3, at the native area and a little below.
BUCKETS: dict[Size, int] = {(128, 128): 10, (112, 144): 3, (144, 112): 3, (96, 128): 1, (128, 96): 1}
PART_PICTURES = 512
CAPTIONS_EACH = 6
STRANGE_WORDS = 0.04  # share of captions with a random token in them: unknown words should be harmless
CHUNK = 32


@dataclass(frozen=True)
class Bucket:
    """Latents [N, 4, h, w] (scaled, fp16), token ids [N, captions, 77] (int32, padded with EOS), conditions [N, 6]."""

    latents: Tensor
    ids: Tensor
    size_ids: Tensor


@dataclass(frozen=True)
class Part:
    """Pictures of one size, encoded by one process into one file."""

    bucket_px: Size
    number: int

    def path(self, folder: Path) -> Path:
        return folder / f"latents_{self.bucket_px[0]}x{self.bucket_px[1]}_{self.number}.pt"


def shot(bucket_px: Size, rng: random.Random) -> tuple[Image.Image, list[str], list[int]]:
    """A picture, its captions, and SDXL's six size conditions: original height, width, crop top, left, height, width.

    One in eight came from a larger original (which, scaled down, looks as if it were painted small); one in twelve
    was painted larger than its bucket and cut.
    """
    width, height = bucket_px
    original, crop = bucket_px, (0, 0)
    scene_px = bucket_px
    kind = rng.random()
    if kind < 1 / 8:
        factor = rng.choice([1.5, 2, 2, 3, 4, 8])
        original = (round(width * factor), round(height * factor))
    elif kind < 1 / 8 + 1 / 12:
        extra = rng.randrange(8, 33)
        scene_px = (width + extra, height) if rng.random() < 0.5 else (width, height + extra)
        original = scene_px
        crop = (rng.randint(0, scene_px[0] - width), rng.randint(0, scene_px[1] - height))
    scene = random_scene(rng, scene_px)
    picture = draw_scene(scene, rng).crop((crop[0], crop[1], crop[0] + width, crop[1] + height))
    captions = [caption(scene, rng) for _ in range(CAPTIONS_EACH)]
    return picture, captions, [original[1], original[0], crop[1], crop[0], height, width]


def with_strange_words(ids: Tensor, rng: random.Random) -> Tensor:
    """[N, 77] → the same, with a random token put into (or, in short ones, in place of a word of) some captions."""
    ids = ids.clone()
    for row in ids:
        end = int((row == EOS).int().argmax())
        if 2 < end < 70 and rng.random() < STRANGE_WORDS:
            place, word = rng.randrange(1, end), rng.randrange(256, 49406)
            if rng.random() < 0.6:
                row[place + 1 :] = row[place:-1].clone()
            row[place] = word
    return ids


@torch.no_grad()
def encode_part(part: Part, vae_path: Path, folder: Path) -> tuple[int, float]:
    """Paint and encode one part. A part is a function of its number and the VAE.

    Returns the process that did it and the processor seconds that it has taken so far, its start included.
    """
    path = part.path(folder)
    torch.set_num_threads(1)
    vae = new_vae()
    vae.load_state_dict(torch.load(vae_path, weights_only=True))
    vae.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    rng = random.Random(f"latents {part.bucket_px} {part.number}")
    tokenizers = Tokenizers.load()
    latents, ids, size_ids = [], [], []
    for _ in range(0, PART_PICTURES, CHUNK):
        shots = [shot(part.bucket_px, rng) for _ in range(CHUNK)]
        pixels = to_pixels([picture for picture, _, _ in shots]).contiguous(memory_format=torch.channels_last)
        latents.append((encode_moments(vae, pixels)[:, :4] * SCALE).half().contiguous())
        words = tokenizers.ids([text for _, captions, _ in shots for text in captions], 75)[0][:, 0]
        ids.append(with_strange_words(words, rng).view(CHUNK, CAPTIONS_EACH, 77).int())
        size_ids.append(torch.tensor([conditions for _, _, conditions in shots]).float())
    torch.save((torch.cat(latents), torch.cat(ids), torch.cat(size_ids)), path.with_suffix(".unfinished"))
    path.with_suffix(".unfinished").rename(path)
    return os.getpid(), time.process_time()


def load_or_encode(vae_path: Path, folder: Path) -> tuple[list[Bucket], list[float]]:
    """All buckets, and the processor seconds of each process that made them.

    Their parts are made by two processes and kept in the folder, so a second start goes on.
    """
    parts = [Part(size, number) for size, count in BUCKETS.items() for number in range(count)]
    missing = [part for part in parts if not part.path(folder).exists()]
    seconds = {}
    if missing:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            seconds = dict(pool.map(encode_part, missing, [vae_path] * len(missing), [folder] * len(missing)))
    buckets = []
    for size in BUCKETS:
        found = [torch.load(part.path(folder), weights_only=True) for part in parts if part.bucket_px == size]
        buckets.append(Bucket(*(torch.cat(tensors) for tensors in zip(*found, strict=True))))
        print(f"latents {size[0]}x{size[1]}: {len(buckets[-1].latents)} pictures", flush=True)
    return buckets, list(seconds.values())
