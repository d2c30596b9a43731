"""Faces in a picture: by a YuNet model file of the user, else by the cascade that OpenCV 4 brings.

The cascade (P. Viola and M. Jones, CVPR 2001; R. Lienhart and J. Maydt, ICIP 2002) finds upright frontal faces. The
model (W. Wu, H. Peng, S. Yu 2023, "YuNet: a tiny millisecond-level face detector"; 230 kB) finds more, also turned and
partly hidden ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from captioning.focus import Box, Pixels
from engine.errors import MissingPackage, ModelError

Detector = Callable[[Pixels], list[Box]]

_YUNET_PX = 640
_CASCADE = "haarcascade_frontalface_alt2.xml"
_CASCADE_PX = 640
_SMALLEST_FACE_SHARE = 0.08  # of the shorter side, for the cascade, which else finds faces in every texture


@lru_cache(maxsize=2)
def face_detector(model: str) -> Detector:
    """The detector of a YuNet file, or the cascade for "". Raises ModelError, MissingPackage."""
    return _yunet(Path(model)) if model else _cascade()


def _yunet(path: Path) -> Detector:
    if not path.is_file():
        what = f"there is no such file (got {path}). Choose a YuNet file such as face_detection_yunet_2023mar.onnx."
        raise ModelError(what, "face_model")
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (_YUNET_PX, _YUNET_PX))
        network.detect(np.zeros((_YUNET_PX, _YUNET_PX, 3), np.uint8))
    except cv2.error as error:
        reason = " ".join(str(error.err or error).split())[:200]
        raise ModelError(
            f"is no YuNet model that OpenCV can read ({reason}). Choose another file.", str(path)
        ) from None

    def detect(pixels: Pixels) -> list[Box]:
        small = _reduced(pixels, _YUNET_PX)
        height, width = small.shape[:2]
        network.setInputSize((width, height))
        _, faces = network.detect(np.ascontiguousarray(small[:, :, ::-1]))
        return [] if faces is None else [_shares(face[:4], width, height) for face in faces]

    return detect


def _cascade() -> Detector:
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).with_name("data") / _CASCADE))
    if cascade.empty():
        what = f"OpenCV's {_CASCADE} is missing here. Run ./setup.sh, or give a YuNet model in face_model."
        raise MissingPackage(what, "focus")

    def detect(pixels: Pixels) -> list[Box]:
        small = _reduced(pixels, _CASCADE_PX)
        height, width = small.shape[:2]
        least = max(24, round(min(height, width) * _SMALLEST_FACE_SHARE))
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=4, minSize=(least, least))
        return [_shares(box, width, height) for box in found]

    return detect


def _reduced(pixels: Pixels, most_px: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = most_px / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shares(box: Any, width: int, height: int) -> Box:
    left, top, across, down = (float(value) for value in box)
    return left / width, top / height, across / width, down / height
