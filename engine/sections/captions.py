"""Settings of the section `captions`: captions and text features."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Captions(Section):
    extension: str = setting(".txt", "File name ending of caption files, which lie beside the images under the same name.", "标注文件扩展名", label="Caption extension", kohya="caption_extension", sd_scripts="caption_extension")
    second_extension: str = setting("", "File name ending of captions that only the second text encoder reads; empty: both read the same caption.", "第二文本编码器标注扩展名", label="Caption extension, text encoder 2", level="expert")
    lines: Literal["first", "random", "all"] = setting("first", "What is read of a caption file with several lines: the first, one drawn each time the image is shown, or all together.", "多行标注", label="Lines of a caption file", level="advanced", sd_scripts="enable_wildcard")
    trigger: str = setting("", "A word put in front of each caption and kept there whatever is shuffled or left out; not for regularization images.", "触发词", label="Trigger word")
    prefix: str = setting("", "Text put in front of each caption; it ends with a comma if it is to be a tag of its own.", "标注前缀", level="advanced", sd_scripts="caption_prefix")
    suffix: str = setting("", "Text put behind each caption; it begins with a comma if it is to be a tag of its own.", "标注后缀", level="advanced", sd_scripts="caption_suffix")
    shuffle: bool = setting(False, "Put the tags of a caption into a new order each time the image is shown.", "打乱标签", label="Shuffle tags", kohya="shuffle_caption", sd_scripts="shuffle_caption")
    keep_tokens: int = setting(0, "How many tags at the start of a caption stay in place and are never left out.", "保留前 N 个标签", label="Keep first tags", ge=0, le=1000, unit="tags", kohya="keep_tokens", sd_scripts="keep_tokens")
    keep_separator: str = setting("", "A mark in captions, such as |||: tags before it stay in place; tags after a second one stay at the end.", "保留标签分隔符", label="Keep mark", level="advanced", sd_scripts="keep_tokens_separator")
    separator: str = setting(",", "What stands between the tags of a caption.", "标签分隔符", label="Tag separator", level="advanced", sd_scripts="caption_separator")
    secondary_separator: str = setting("", "A mark, such as ;;;, between tags that are shuffled and left out together; it becomes a tag separator in the end.", "次级分隔符", level="expert", sd_scripts="secondary_separator")
    wildcards: bool = setting(False, "Replace {red|green|blue} in captions by one of the choices, drawn each time the image is shown.", "通配符", level="advanced", sd_scripts="enable_wildcard")
    tag_dropout: float = setting(0.0, "Share of the tags that is left out at random each time the image is shown; kept tags never are.", "标签丢弃率", ge=0, le=1, level="advanced", sd_scripts="caption_tag_dropout_rate")
    never_dropped: str = setting("", "Tags, with commas between them, that are never left out wherever they stand in a caption.", "永不丢弃的标签", label="Tags never left out", level="expert")
    dropout: float = setting(0.0, "Share of the showings with an empty caption; about 0.05 to 0.1 keeps the model able to draw without one.", "标注丢弃率", label="Caption dropout", ge=0, le=1, kohya="caption_dropout_rate", sd_scripts="caption_dropout_rate")
    dropout_every_epochs: int = setting(0, "Train every so many epochs without any caption; 0 for never.", "每 N 轮丢弃标注", label="Epochs without captions", ge=0, le=100000, unit="epochs", level="advanced", kohya="caption_dropout_every_n_epochs", sd_scripts="caption_dropout_every_n_epochs")
    token_warmup: float = setting(0.0, "Steps until all tags are shown, the first ones of a caption first; below 1 a share of the run, 0 for all at once.", "标签预热步数", label="Tag warm-up", ge=0, le=10000000, level="expert", sd_scripts="token_warmup_step")
    token_warmup_min: int = setting(1, "How many tags are shown at the start of the tag warm-up, the kept ones not counted.", "预热起始标签数", label="Tags at the start of warm-up", ge=0, le=1000, unit="tags", level="expert", sd_scripts="token_warmup_min")
    weighted: bool = setting(False, "Read (word:1.3), (word) and [word] in captions and sample prompts as more or less weight for these words.", "加权标注", label="Weighted words", level="advanced", kohya="weighted_captions", sd_scripts="weighted_captions")
    max_tokens: int = setting(75, "How many tokens of a caption are read; longer ones need 150 or 225.", "最大词元数", ge=75, le=750, multiple_of=75, unit="tokens", kohya="max_token_length", sd_scripts="max_token_length")
    clip_skip: int = setting(2, "Which layer of the text encoders is used, counted from the end; SDXL was made with 2.", "CLIP 跳过层", label="CLIP skip", ge=1, le=12, level="expert", kohya="clip_skip", sd_scripts="clip_skip")
    cache_text: bool = setting(True, "Encode all captions once and let the text encoders leave memory; not while they are trained.", "缓存文本特征", label="Cache text features", kohya="sdxl_cache_text_encoder_outputs", sd_scripts="cache_text_encoder_outputs")
    variants: int = setting(8, "How many drawings of each caption are cached when tags are shuffled or left out, or choices or lines drawn.", "标注变体数", label="Cached variants of a caption", ge=1, le=1000, level="advanced", when={"captions.cache_text": True})
