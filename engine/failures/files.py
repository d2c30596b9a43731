"""Failures of files: the base model, images, captions, caches, saved states, and the disk they lie on."""

from __future__ import annotations

import re

from engine.failures.kinds import Facts, Kind, Values, always, fewer_checkpoints


def _told_extension(facts: Facts) -> list[Values]:
    found = re.search(r"Set captions\.extension to (\.\w+)", "\n".join(facts.warnings))
    return [{"captions.extension": found[1]}] if found else []


_SKIP = always({"data.broken_images": "skip"})

FILES: dict[str, Kind] = {
    # the disk
    "disk_full": Kind(
        cause="The disk is full.",
        remedy="Free some space, then resume: files are written whole or not at all, so what was saved is whole.",
        seen="“No space left on device”, and the plan's count of what the run needs",
        signs=(r"disk is full", r"No space left on device", r"os error 28\)", r"not enough space on the disk"),
        fixes=fewer_checkpoints,
    ),
    "disk_too_small": Kind(
        cause="The run would need more disk than is free.",
        remedy="Free some space, choose another folder, or keep fewer checkpoints.",
        seen="refused by Atelier before the start",
        signs=(r"the run needs about .* of disk and .* are free",),
        fixes=fewer_checkpoints,
    ),
    "quota": Kind(
        cause="The disk quota of this account is used up.",
        remedy="Delete what is no longer needed, or put runs and caches on another disk, then resume.",
        seen="“Disk quota exceeded”",
        signs=(r"disk quota", r"Disk quota exceeded"),
        fixes=fewer_checkpoints,
    ),
    "read_only": Kind(
        cause="The disk is read-only, so nothing can be saved there.",
        remedy="Choose a folder on another disk. A disk that turned read-only by itself reports faults: check it and its cable.",
        seen="“Read-only file system”",
        signs=(r"disk is read-only", r"Read-only file system"),
    ),
    "file_too_large": Kind(
        cause="The file system does not take files this large (FAT32 ends at 4 GB), or the account has a limit.",
        remedy="Put the run folder on a disk with another file system (NTFS, exFAT, ext4), then start again.",
        seen="“File too large”",
        signs=(r"does not take a file this large", r"File too large"),
    ),
    "path_too_long": Kind(
        cause="A file name or path is too long for the file system.",
        remedy="Choose a shorter name for the run, or a run folder nearer to the top of the disk.",
        seen="“File name too long”",
        signs=(r"name is too long for the file system", r"File name too long", r"WinError 206"),
    ),
    "too_many_files": Kind(
        cause="This process may not open more files at once.",
        remedy="Raise the limit in the terminal (ulimit -n 65536), start Atelier from there, and resume.",
        seen="“Too many open files”",
        signs=(r"Too many open files", r"Errno 24\b"),
    ),
    "network_disk": Kind(
        cause="A network disk went away while the run used it.",
        remedy="Connect it again, then resume. Runs and caches on a disk of this machine are safer and faster.",
        seen="“Stale file handle”, “Transport endpoint is not connected”",
        signs=(
            r"Stale (NFS )?file handle",
            r"Transport endpoint is not connected",
            r"Host is down",
            r"network name is no longer available",
        ),
    ),
    "disk_fault": Kind(
        cause="The disk reports a fault, or gives back other bytes than were written.",
        remedy="Copy what matters to another disk and check this one. Then resume on a sound disk.",
        seen="“Input/output error”; a saved file that reads back differently",
        signs=(
            r"disk reports a fault",
            r"Input/output error",
            r"came back from the disk changed",
            r"cannot be read back after it was written",
            r"after it was written\. ",
        ),
    ),
    # the base model
    "model_pickle": Kind(
        cause="The model file is a pickle, a format that can run any program when it is opened, so it is not opened.",
        remedy="Choose the .safetensors version of this model, or convert the file with a program that you would trust with it.",
        seen="a .ckpt, .pt or .bin file, or one that is a pickle inside",
        signs=(r"is a pickle, a format that can run any program",),
    ),
    "model_placeholder": Kind(
        cause="The model file is not the model: a download has left a web page or a pointer in its place.",
        remedy="Download the model itself; in a git repository run `git lfs pull` in its folder.",
        seen="the file begins as a web page or Git LFS pointer does",
        signs=(r"is a Git LFS pointer", r"is a web page, not a model"),
    ),
    "model_truncated": Kind(
        cause="The model file is cut off: a download or copy ended early.",
        remedy="Download or copy the file again, and compare its size with the source's.",
        seen="the file is shorter than its own header says",
        signs=(
            r"is cut off: [\d,]+ of [\d,]+ bytes",
            r"ends in the middle of its header \(",
            r"MetadataIncompleteBuffer|incomplete metadata",
            r"is empty \(0 bytes\)\. Download",
        ),
    ),
    "model_damaged": Kind(
        cause="The model file is damaged.",
        remedy="Download or copy it again.",
        seen="a header that makes no sense, missing or overlapping tensors",
        signs=(
            r"The file is damaged: download or copy it again",
            r"SafetensorError|Error while deserializing header",
            r"The file is incomplete: download",
            r"or make or download this one again",
            r"Download the folder again",
        ),
    ),
    "model_is_lora": Kind(
        cause="The file chosen as base model is a LoRA.",
        remedy="Choose the checkpoint that the LoRA is used with as base model; to go on training the LoRA, choose it under “start from”.",
        seen="refused by Atelier before the start",
        signs=(r"is a LoRA or a relative of one",),
    ),
    "model_family": Kind(
        cause="The base model is of another family than SDXL.",
        remedy="Choose an SDXL base model (SDXL 1.0, Pony, Illustrious, NoobAI and their relatives).",
        seen="the names and shapes of its tensors",
        signs=(
            r"trains on SDXL only",
            r"which Atelier cannot train",
            r"\bnot SDXL\b",
            r"is no SDXL checkpoint",
            r"no SDXL has",
            r"SDXL does not have",
            r"Atelier trains epsilon and v_prediction",
            r"SDXL has 4, or 9 for inpainting",
        ),
    ),
    "model_refiner": Kind(
        cause="This is SDXL's refiner or inpainting model, on which no LoRA is trained.",
        remedy="Choose an SDXL base model; the LoRA then works with the inpainting model of the same family too.",
        seen="the names and shapes of its tensors",
        signs=(r"is an SDXL (refiner|inpainting|\w+) model; a LoRA", r"is the SDXL refiner"),
    ),
    "model_part": Kind(
        cause="The file holds only a part of a model.",
        remedy="Choose the whole checkpoint, or the diffusers folder that the part belongs to.",
        seen="a UNet, VAE or text encoder alone",
        signs=(r"alone, not a whole model", r"has SDXL's UNet but lacks", r"holds only the running average"),
    ),
    "model_quantized": Kind(
        cause="The model file is quantized in a way that cannot be trained on.",
        remedy="Choose the file in fp16, bf16, fp32 or fp8; to spare memory set how the UNet is stored to int8 or nf4.",
        seen="GGUF, or weights as whole numbers",
        signs=(r"quantized GGUF", r"so it is quantized", r"in a number format that Atelier does not know"),
    ),
    "model_vae": Kind(
        cause="The VAE file is not one for SDXL.",
        remedy="Choose an SDXL VAE, or leave the setting empty: the base model has its own.",
        seen="its tensors' shapes, or its scaling factor",
        signs=(
            r"is no VAE of SDXL's kind",
            r"no SDXL VAE has",
            r"is not a VAE for SDXL",
            r"has a VAE of \d+ latent channels",
        ),
        fixes=always({"model.vae": ""}),
    ),
    "model_missing": Kind(
        cause="The base model, VAE or LoRA file is not where the preset says.",
        remedy="Choose the file again: it was moved, renamed or deleted, or its disk is not connected.",
        seen="refused by Atelier before the start",
        signs=(
            r"there is no such file\. Check the path",
            r"no base model is (given|chosen)",
            r"is not a file\. Choose a \.safetensors",
        ),
    ),
    "model_unreadable": Kind(
        cause="The model file went away or changed while it was read, or its disk fails.",
        remedy="Leave the file alone while a run uses it, check the disk, then resume.",
        seen="a reading error after the file was found sound",
        signs=(r"Check the disk and the file\.", r"cannot be read \(.*\)\. Check the path and its permissions"),
    ),
    "start_from": Kind(
        cause="The LoRA to start from does not fit this preset or base model.",
        remedy="Give the rank and kind that the file has, or leave “start from” empty to begin anew.",
        seen="refused by Atelier before the start",
        signs=(
            r"adapter\.start_from",
            r"does not fit this adapter",
            r"has layers? that this model does not have",
            r"is not an SDXL adapter",
            r"\d+ layers that this model does not have",
        ),
        fixes=always({"adapter.start_from": ""}),
    ),
    # images, captions, cache
    "no_images": Kind(
        cause="No image was found to train on.",
        remedy="Put images into sub-folders named like 10_name, where 10 is how often each is shown per epoch, and choose the folder that holds them.",
        seen="refused by Atelier before the start",
        signs=(
            r"holds no images",
            r"no image could be used",
            r"has no usable image",
            r"its name gives no repeats",
            r"no training folder is given",
        ),
    ),
    "folder_missing": Kind(
        cause="A folder of the preset is not there.",
        remedy="Choose it again: it was moved, renamed or deleted, or its disk is not connected.",
        seen="refused by Atelier before the start",
        signs=(r"there is no such folder", r"names a folder that is not there"),
    ),
    "image_changed": Kind(
        cause="An image was changed or removed while the run was reading it.",
        remedy="Leave the images alone until the run has read them, then start again.",
        seen="its size or presence differs from the scan",
        signs=(r"has changed since the folder was scanned", r"Restore it or leave it out"),
        fixes=_SKIP,
    ),
    "image_too_large": Kind(
        cause="An image is too large to be decoded.",
        remedy="Save a smaller copy: more than the training size and a half is not used anyway.",
        seen="more pixels than the limit, or than memory holds",
        signs=(r"is too large to decode", r"does not fit into memory \(got"),
        fixes=_SKIP,
    ),
    "image_broken": Kind(
        cause="An image cannot be read.",
        remedy="Replace the images that are named, or let broken ones be left out with a warning.",
        seen="the run is set to stop at broken images",
        signs=(
            r"cannot be decoded",
            r"has a damaged header",
            r"the file is cut off",
            r"UnidentifiedImageError",
            r"cannot identify image file",
            r"whose range is not known",
            r"is empty \(0 bytes\)",
            r"has no pixels",
        ),
        fixes=_SKIP,
    ),
    "captions_unreadable": Kind(
        cause="A caption file cannot be read.",
        remedy="Change the permissions of the file that is named, then start again.",
        seen="refused by Atelier before the start",
        signs=(r"so its image .* has no caption",),
    ),
    "cache_damaged": Kind(
        cause="The cache folder holds files that are no cache of this version.",
        remedy="Delete these cache files or choose another cache folder; they are made anew.",
        seen="the cache's index does not begin as one; single damaged entries are made anew by themselves",
        signs=(r"is no cache that this version can read", r"is a file, not a folder.* another (cache folder|one)"),
        fixes=always({"data.cache_folder": "cache-new"}),
    ),
    "cache_busy": Kind(
        cause="Another program has been writing into the cache folder for a long time.",
        remedy="Wait for it or end it, or choose another cache folder.",
        seen="the cache's lock is not given free",
        signs=(r"another program has been writing for",),
    ),
    # the run folder
    "run_held": Kind(
        cause="Another process is training in this run folder.",
        remedy="Wait for it or stop it; two must not write into one run.",
        seen="the run's lock is held",
        signs=(r"another process is training in this run folder", r"this run is already running"),
    ),
    "state_damaged": Kind(
        cause="None of the saved states of this run can be read, so it cannot go on.",
        remedy="Start it anew, with its last checkpoint under “start from” to keep what was learned.",
        seen="every file in state/ is damaged",
        signs=(r"none of the saved states can be read",),
    ),
    "state_of_another": Kind(
        cause="The saved state belongs to other settings than those that the run was resumed with.",
        remedy="Resume with the settings that the run began with, or start a new run.",
        seen="its tensors do not fit the adapter or optimizer",
        signs=(r"saved state is of another adapter", r"saved optimizer state is of"),
    ),
    "state_beyond": Kind(
        cause="The run is already further than the number of steps or epochs that is asked for.",
        remedy="Raise the number to train on, or take the checkpoint that is there.",
        seen="refused by Atelier at a resume",
        signs=(r"the run is at step \d+ already, beyond",),
    ),
    "foreign_rights": Kind(
        cause="Atelier may not read or write a file or folder.",
        remedy="Change its permissions or owner, or choose another folder; do not start Atelier once as root and once as yourself.",
        seen="“Permission denied”",
        signs=(r"may not be (written to|read|opened)", r"Permission denied", r"PermissionError", r"WinError 5\b"),
    ),
    "states_skipped": Kind(
        cause="The newest saved state was damaged, so the run went on from an earlier one.",
        remedy="Nothing is to be done; the steps in between are made again. If it comes often, check the disk.",
        seen="a warning at a resume",
        signs=(r"the one before it is used",),
        ends_run=False,
    ),
    "resume_changed": Kind(
        cause="The base model, images, captions or settings are not those that the run began with.",
        remedy="It goes on, but not as it would have. For a clean comparison start a new run.",
        seen="a warning at a resume",
        signs=(r"have changed since this state was saved",),
        ends_run=False,
    ),
    "caption_encoding": Kind(
        cause="Some captions are not in UTF-8, so their encoding was guessed.",
        remedy="Look at these captions on the tab Captions; saving them there makes them UTF-8.",
        seen="a warning of the scan",
        signs=(r"not in UTF-8, read as",),
        ends_run=False,
    ),
    "captions_unread": Kind(
        cause="Captions lie beside the images but have another ending than the preset says, so they are not read.",
        remedy="Take the offered ending, then start again.",
        seen="a warning of the scan",
        signs=(r"Set captions\.extension to",),
        fixes=_told_extension,
        ends_run=False,
    ),
    "images_left_out": Kind(
        cause="Some images cannot be read and were left out.",
        remedy="Replace the images that the warnings name, then start again to train on all of them.",
        seen="a warning for each",
        signs=(r"It is left out\.", r"is left out: "),
        ends_run=False,
    ),
}
