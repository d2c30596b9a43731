"""Build the whole demo from seeds: VAE, latents, UNet with both text encoders, the model file, the data set.

    python -m demo.build [--work cache/demo_build] [--only data-set]

Each stage leaves its result in the work folder and is passed over the next time, so a build that was stopped goes on
where it was; delete the folder to start anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from demo.concept import write_data_set
from demo.latents import load_or_encode
from demo.pair import be_quick
from demo.tiny_sdxl import new_vae
from demo.train_unet import Parts, train_parts
from demo.train_vae import fidelity_db, train_vae
from engine.sdxl.checkpoint import write_single_file

FOLDER = Path(__file__).parent
METADATA = {
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-xl-v1-base",
    "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
    "modelspec.title": "Atelier demo: a tiny SDXL",
    "modelspec.description": "SDXL's structure in miniature, trained on painted forms; for demonstrations and tests",
    "modelspec.license": "Apache-2.0",
    "modelspec.resolution": "128x128",
    "modelspec.prediction_type": "epsilon",
}


def build_vae(work: Path) -> tuple[Path, Sequence[float]]:
    """Stage 1: the trained VAE's weights, in work/vae.pt, and the processor seconds of the two processes."""
    path, seconds = work / "vae.pt", ()
    if not path.exists():
        vae, seconds = train_vae(work / "vae_training.pt")
        print(f"vae: {fidelity_db(vae):.1f} dB on new pictures", flush=True)
        torch.save(vae.state_dict(), path)
    return path, seconds


def load_trained_vae(path: Path) -> AutoencoderKL:
    vae = new_vae()
    vae.load_state_dict(torch.load(path, weights_only=True))
    return vae.eval()


def build_model(work: Path, target: Path) -> None:
    """Stages 1 to 4; `target` is rewritten at every saved state of the UNet's training."""
    clock = Clock()
    vae_path, seconds = build_vae(work)
    clock.report("vae", seconds)
    vae = load_trained_vae(vae_path)
    buckets, seconds = load_or_encode(vae_path, work)
    clock.report("latents", seconds)

    def export(parts: Parts) -> None:
        write_single_file(target, parts.unet, vae, (parts.text_1, parts.text_2), torch.float16, METADATA)

    seconds = train_parts(buckets, work / "unet_training.pt", export)
    clock.report("unet and text encoders", seconds)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB", flush=True)


class Clock:
    """What each stage took: by the wall clock, and of the processors in each of its processes."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def report(self, stage: str, seconds: Sequence[float]) -> None:
        now = time.monotonic()
        each = " and ".join(f"{value:.0f}" for value in seconds) or "none"
        print(f"{stage}: {now - self.started:.0f} s of wall clock; processor seconds: {each}", flush=True)
        self.started = now


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=FOLDER.parent / "cache" / "demo_build")
    parser.add_argument("--model", type=Path, default=FOLDER / "model.safetensors", help="the file to write")
    parser.add_argument("--only", choices=["model", "data-set"])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; more than 1 helps on idle cores only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    be_quick()
    if options.only != "model":
        write_data_set(FOLDER)
    if options.only != "data-set":
        options.work.mkdir(parents=True, exist_ok=True)
        build_model(options.work, options.model)


if __name__ == "__main__":
    main()
