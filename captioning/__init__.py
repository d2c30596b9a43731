"""Captions for training images: models that write them, and a journal by which every write can be undone.

Imports no torch: a captioner's file imports what it computes with when it is loaded.
"""

import os

import engine  # noqa: F401 -- before transformers: see engine/compat.py

if "HF_HUB_OFFLINE" not in os.environ:
    os.environ["HF_HUB_OFFLINE"] = "1"  # models come from the folder that the user names
    os.environ["ATELIER_DEFAULT_OFFLINE"] = "1"  # not the user's word: see captioning/hub.py
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
