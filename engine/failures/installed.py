"""Failures of installed packages."""

from __future__ import annotations

from engine.failures.kinds import Facts, Kind, Values
from engine.preset import SETTINGS


def _without_8bit(facts: Facts) -> list[Values]:
    fix: dict[str, object] = {}
    name = facts.preset.optimizer.name
    if name.endswith("_8bit"):
        plain = name.removesuffix("_8bit").removeprefix("paged_")
        fix["optimizer.name"] = plain
    if facts.preset.memory.unet_storage == "nf4":
        fix["memory.unet_storage"] = "int8"
    if facts.preset.memory.text_encoder_storage == "nf4":
        fix["memory.text_encoder_storage"] = "int8"
    plainest = {**fix, **_to_adamw(facts)} if "optimizer.name" in fix else {}
    return [found for found in (fix, plainest) if found]


def _adamw(facts: Facts) -> list[Values]:
    return [_to_adamw(facts)] if "optimizer.name" in facts.told else []


def _to_adamw(facts: Facts) -> dict[str, object]:
    """adamw; where the other one takes rates near 1, which would ruin everything here, with the usual rates."""
    rates = [item for item in SETTINGS if item.section == "optimizer" and item.name.endswith("_rate")]
    usual = {item.path: item.default for item in rates if facts.preset.get(item.path) > 0.01}
    return {"optimizer.name": "adamw", **usual}


def _no_tracker(facts: Facts) -> list[Values]:
    return [{"logging.tracker": "none"}] if facts.preset.logging.tracker != "none" else []


INSTALLED: dict[str, Kind] = {
    "torchvision_broken": Kind(
        cause="The installed torchvision does not fit the installed PyTorch.",
        remedy="Run ./setup.sh: it puts back the version that fits. Do not install torch packages into .venv by hand.",
        seen="“operator torchvision::nms does not exist”",
        signs=(
            r"operator torchvision::\w+ does not exist",
            r"partially initialized module 'torchvision'",
            r"Couldn't load custom C\+\+ ops",
        ),
    ),
    "bitsandbytes": Kind(
        cause="bitsandbytes, which 8-bit optimizers and nf4 need, is missing or does not work with this device.",
        remedy="Use the same optimizer without 8bit, and int8 in place of nf4; or run ./setup.sh to repair the package.",
        seen="the package does not load, or it has no code for this CUDA",
        signs=(
            r"needs bitsandbytes, which does not load",
            r"No module named 'bitsandbytes'",
            r"CUDA Setup failed",
            r"bitsandbytes library load error",
            r"libbitsandbytes\w*\.(so|dll)",
            r"cquantize_blockwise|cadam_8bit",
        ),
        fixes=_without_8bit,
    ),
    "torch_broken": Kind(
        cause="PyTorch is missing or does not load.",
        remedy="Run ./setup.sh: it repairs .venv; `python -m engine doctor` then shows what is installed.",
        seen="an ImportError or OSError that names torch or one of CUDA's libraries",
        signs=(
            r"No module named 'torch'",
            r"(ImportError|OSError).*(libtorch|libc10|libcudart|libcublas|libcudnn|libnvrtc|libnccl|c10\.dll|shm\.dll|fbgemm\.dll)",
            r"undefined symbol.*(torch|c10|nccl|cuda)",
            r"DLL load failed while importing",
        ),
    ),
    "optimizer_package": Kind(
        cause="A package that this optimizer needs is missing or does not load.",
        remedy="Use adamw, or run ./setup.sh to repair the packages.",
        seen="refused by Atelier before the first step",
        signs=(r"needs \w+, which does not load here",),
        fixes=_adamw,
    ),
    "tracker_package": Kind(
        cause="The package of the chosen tracker is not installed.",
        remedy="Install it with the command that the message names, or record without a tracker: events and curves are kept in any case.",
        seen="refused by Atelier before the start",
        signs=(r"which is not installed\. Install it with",),
        fixes=_no_tracker,
    ),
    "package_missing": Kind(
        cause="A Python package is missing or of another version than Atelier was made for.",
        remedy="Run ./setup.sh: it puts back what requirements.txt asks for.",
        seen="ModuleNotFoundError, ImportError",
        signs=(
            r"ModuleNotFoundError",
            r"ImportError",
            r"numpy\.dtype size changed",
            r"_ARRAY_API not found",
            r"A module that was compiled using NumPy 1",
        ),
    ),
    "tracker_login": Kind(
        cause="The tracker refuses to record because nobody is logged in, or the key is wrong.",
        remedy="Log in once in a terminal (.venv/bin/wandb login), then resume; training itself goes on meanwhile.",
        seen="a warning: wandb does not record any more, with the words login, api_key or 401",
        signs=(r"does not record any more \(.*(log ?in|api[_ ]?key|API key|\b401\b|\b403\b|[Pp]ermission)",),
        fixes=_no_tracker,
        ends_run=False,
    ),
    "tracker_lost": Kind(
        cause="The tracker stopped recording.",
        remedy="Training goes on, and the run's own events hold everything. Check network and disk, or record without a tracker.",
        seen="a warning: the tracker does not record any more",
        signs=(r"does not record any more", r"so \w+ records nothing"),
        fixes=_no_tracker,
        ends_run=False,
    ),
    "upload_refused": Kind(
        cause="The Hugging Face hub refuses the upload: nobody is logged in, or this account may not write there.",
        remedy="Log in once (.venv/bin/hf auth login) with a token that may write, and check the repository's name; the files are in the run folder.",
        seen="a warning that the upload does not work, with 401, 403 or 404",
        signs=(
            r"(?s)upload to .* does not work: .*(\b40[134]\b|Unauthorized|Forbidden|RepositoryNotFound|LocalToken|[Tt]oken)",
        ),
        ends_run=False,
    ),
    "upload_failed": Kind(
        cause="Uploads to the Hugging Face hub do not come through.",
        remedy="Check the network; the files stay in the run folder and can be uploaded later.",
        seen="a warning that the upload does not work",
        signs=(r"upload to .* does not work", r"cannot be uploaded", r"no process for uploads"),
        ends_run=False,
    ),
}
