"""Text features of sample prompts that come while a run trains, whose text encoders may have left memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from engine.base_model import open_text
from engine.errors import UserError
from engine.preparing import captions_of
from engine.prompts import SamplePrompt

if TYPE_CHECKING:
    from engine.memory import Computation
    from engine.preset import Preset
    from engine.sdxl.detect import ModelFacts
    from engine.text_source import TextSource


def prompt_encoder(
    preset: Preset, facts: ModelFacts, computation: Computation, device: torch.device, text: TextSource
) -> Callable[[Sequence[SamplePrompt]], None]:
    """A function that makes `text` know further prompts: it loads the text encoders for that where they were let go.

    It raises UserError where that cannot be done; `text` is then as it was.
    """

    def encode(prompts: Sequence[SamplePrompt]) -> None:
        if text.store is None or text.knows(captions_of(prompts)):
            return
        captions = preset.captions.model_copy(update={"cache_text": False})
        try:
            text.encoders = open_text(
                preset.model_copy(update={"captions": captions}), facts, computation, device
            ).encoders
            text.prepare(captions_of(prompts), lambda done, total: None)
        except Exception as error:  # whatever goes wrong with prompts must not end hours of training
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            what = f"the new sample prompts could not be encoded ({reason}). The old ones are drawn."
            raise UserError(what, "sample.prompts") from None
        finally:
            text.release()
            if device.type == "cuda":
                torch.cuda.empty_cache()

    return encode
