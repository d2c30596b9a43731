"""Settings of the section `captions`: captions and text features."""

from __future__ import annotations

from engine.settings import Section, setting


class Captions(Section):
    extension: str = setting(
        ".txt",
        "File name ending of caption files, which lie beside the images under the same name.",
        "标注文件扩展名",
        label="Caption extension",
        kohya="caption_extension",
        sd_scripts="caption_extension",
    )
    max_tokens: int = setting(
        75,
        "How many tokens of a caption are read; longer ones need 150 or 225.",
        "最大词元数",
        ge=75,
        le=750,
        multiple_of=75,
        unit="tokens",
        kohya="max_token_length",
        sd_scripts="max_token_length",
    )
    clip_skip: int = setting(
        2,
        "Which layer of the text encoders is used, counted from the end; SDXL was made with 2.",
        "CLIP 跳过层",
        label="CLIP skip",
        ge=1,
        le=12,
        level="expert",
        kohya="clip_skip",
        sd_scripts="clip_skip",
    )
    cache_text: bool = setting(
        True,
        "Encode all captions once and let the text encoders leave memory; not while they are trained.",
        "缓存文本特征",
        label="Cache text features",
        kohya="sdxl_cache_text_encoder_outputs",
        sd_scripts="cache_text_encoder_outputs",
    )
