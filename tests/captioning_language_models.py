"""Small real captioning models of the larger families, taught to tell red from blue, in the files of a user's.

Each has two layers or fewer and words of its own; each is written by the library that also loads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from captioning_models import CAPTIONS
from PIL import Image

WORDS = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "a", "red", "blue", "square", "photo", "of")
PAD, START, END, _, IMAGE = range(5)
SIDE_PX = 16
IMAGES = [Image.new("RGB", (SIDE_PX, SIDE_PX), color) for color in CAPTIONS]


def library(name: str = "transformers") -> Any:
    """A library whose types are too many for the type checker: small models are made of dicts of numbers."""
    return import_module(name)


def write_tokenizer(words: tuple[str, ...] = WORDS, **about: Any):
    """A tokenizer of whole words; `about` adds names of further marks."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **about}
    return library().PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def taught(model: Any, loss: Callable[[], Any], steps: int, rate: float = 1e-2, std: float = 0.1) -> Any:
    """The model after `steps` of AdamW on a loss, without dropout, begun with weights large enough to see colours."""
    import torch

    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if weights.ndim > 1 and "position" not in name:
            torch.nn.init.normal_(weights, std=std)
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return model


def told(tokenizer: Any, before: str = "") -> Any:
    """Ids [2, length] of the captions, a prompt before each and the end mark after."""
    texts = [f"{before} {caption} </s>".strip() for caption in CAPTIONS.values()]
    return tokenizer(texts, add_special_tokens=False, return_tensors="pt")["input_ids"]


def vision(width: int = 16) -> dict[str, Any]:
    sizes = {"image_size": SIDE_PX, "patch_size": 8, "hidden_size": width, "intermediate_size": 2 * width}
    return {**sizes, "num_hidden_layers": 1, "num_attention_heads": 2}


def image_processor() -> Any:

    size = {"height": SIDE_PX, "width": SIDE_PX}
    return library().CLIPImageProcessor(size={"shortest_edge": SIDE_PX}, crop_size=size)


def write_git(folder: Path, steps: int = 30) -> Path:
    """A GIT of one layer: BERT's words and CLIP's eye."""
    import torch

    tokenizer = write_tokenizer(cls_token="<s>", sep_token="</s>")
    processor = library().GitProcessor(image_processor(), tokenizer)
    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(WORDS), "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    config = library().GitConfig(vision_config=vision(), max_position_embeddings=32, **text, **ids)
    words = told(tokenizer, "<s>")
    inputs = {"pixel_values": image_processor()(IMAGES, return_tensors="pt")["pixel_values"]}
    inputs |= {"input_ids": words, "labels": words, "attention_mask": torch.ones_like(words)}
    model = library().GitForCausalLM(config)
    taught(model, lambda: model(**inputs).loss, steps).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_blip2(folder: Path, language: str = "opt", steps: int = 45) -> Path:
    """A BLIP-2 with four queries and an OPT or a T5 of one layer."""
    import torch

    tokenizer = write_tokenizer(additional_special_tokens=["<image>"])
    processor = library().Blip2Processor(image_processor(), tokenizer, num_query_tokens=4)
    ids = {"vocab_size": len(WORDS), "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    opt = {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 32,
    }
    t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": PAD}
    text = library().T5Config(**t5, **ids) if language == "t5" else library().OPTConfig(**opt, **ids)
    queries = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = library().Blip2Config(
        vision_config={**vision(), "initializer_range": 0.1},
        qformer_config={**queries, "encoder_hidden_size": 16},
        text_config=text,
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    model = library().Blip2ForConditionalGeneration(config)
    prompt, answers = "a photo of", told(tokenizer)
    inputs = dict(processor(images=IMAGES, text=[prompt] * 2, return_tensors="pt"))
    if language == "t5":
        inputs["labels"] = answers
    else:
        lead = inputs["input_ids"]
        inputs["input_ids"] = torch.cat([lead, answers], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["labels"] = torch.cat([torch.full_like(lead, -100), answers], dim=1)
    taught(model, lambda: model(**inputs).loss, steps).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_florence2(folder: Path, steps: int = 20) -> Path:
    """A Florence-2 of one stage whose short caption is "a red square", its detailed one "a photo of" it."""

    asked = ("What", "does", "the", "image", "describe?", "Describe", "in", "detail", "what", "is", "shown", "image.")
    tokenizer = write_tokenizer((*WORDS, *asked), extra_special_tokens={"image_token": "<image>"})
    images = image_processor()
    images.image_seq_length = 5  # 2 × 2 places and their mean
    processor = library().Florence2Processor(images, tokenizer, post_processor_config={"pure_text": {}})
    stage = {"depths": [1], "patch_size": [7], "patch_stride": [8], "patch_padding": [3], "patch_prenorm": [False]}
    heads = {"embed_dim": [16], "num_heads": [2], "num_groups": [2], "projection_dim": 32, "window_size": 2}
    ids = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD, "decoder_start_token_id": END}
    sizes = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    sizes |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    text = library().BartConfig(vocab_size=len(tokenizer), forced_eos_token_id=None, **sizes, **ids)
    eye = library("transformers.models.florence2.configuration_florence2").Florence2VisionConfig(
        **stage, **heads, drop_path_rate=0.0
    )
    model = library().Florence2ForConditionalGeneration(
        library().Florence2Config(vision_config=eye, text_config=text, image_token_id=IMAGE)
    )
    lessons = [
        {**processor(images=IMAGES, text=[task] * 2, return_tensors="pt"), "labels": told(tokenizer, before)}
        for task, before in (("<CAPTION>", ""), ("<DETAILED_CAPTION>", "a photo of"))
    ]
    taught(model, lambda: sum(model(**lesson).loss for lesson in lessons), steps).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_coca(folder: Path, steps: int = 25) -> Path:
    """A CoCa of one layer with open_clip's 49,408 words, eight numbers wide."""
    import torch
    from safetensors.torch import save_file
    from torch.nn.functional import cross_entropy

    eye = {"image_size": SIDE_PX, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
    eye |= {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4, "output_tokens": True}
    text = {"context_length": 7, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    parts = {"vision_cfg": eye, "text_cfg": {**text, "embed_cls": True, "output_tokens": True}, "custom_text": True}
    parts |= {"embed_dim": 16, "multimodal_cfg": {**text, "attn_pooler_heads": 2}}
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = library("open_clip").CoCa(**{name: part for name, part in parts.items() if name != "custom_text"})
    tokenizer = library("open_clip").tokenizer.SimpleTokenizer(context_length=7)
    transform = library("open_clip").image_transform(SIDE_PX, is_train=False)
    pixels, words = torch.stack([transform(image) for image in IMAGES]), tokenizer(list(CAPTIONS.values()))

    def loss() -> torch.Tensor:
        seen = model(pixels, words)
        return cross_entropy(seen["logits"].flatten(0, 1), seen["labels"].flatten(), ignore_index=0)

    taught(model, loss, steps, rate=3e-2, std=0.3)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": parts, "preprocess_cfg": {}}))
    return folder


QUESTION = ("user:", "assistant:", "system:", "describe", "it", "please")
LLAVA_TEMPLATE = (  # parts, as LLaVA and Qwen-VL take them
    "{% for message in messages %}{{ message['role'] + ': ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image> ' }}{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def write_llava(folder: Path, steps: int = 25) -> Path:
    """A LLaVA of CLIP's eye and a Llama of one layer, that answers "describe it please"."""
    import torch

    tokenizer = write_tokenizer((*WORDS, *QUESTION), extra_special_tokens={"image_token": "<image>"})
    processor = library().LlavaProcessor(
        image_processor(), tokenizer, patch_size=8, vision_feature_select_strategy="full", chat_template=LLAVA_TEMPLATE,
        num_additional_image_tokens=1,
    )  # fmt: skip
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD}
    config = library().LlavaConfig(
        vision_config=library().CLIPVisionConfig(**vision()),
        text_config=library().LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes, **ids),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = library().LlavaForConditionalGeneration(config)
    text = "user: <image> describe it please assistant:"
    inputs = dict(processor(images=[[image] for image in IMAGES], text=[text] * 2, return_tensors="pt"))
    lead, answers = inputs["input_ids"], told(tokenizer)
    inputs["input_ids"] = torch.cat([lead, answers], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["labels"] = torch.cat([torch.full_like(lead, -100), answers], dim=1)
    taught(model, lambda: model(**inputs).loss, steps).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_qwen(folder: Path, steps: int = 25) -> Path:
    """A Qwen2-VL of one layer: as many places as the image has, its chat template and marks."""
    import torch

    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    words = (*WORDS, *QUESTION, *marks)
    tokenizer = write_tokenizer(words, extra_special_tokens={"image_token": marks[0], "video_token": marks[1]})
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    images = library().Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 512}
    )
    template = LLAVA_TEMPLATE.replace("<image>", "<|vision_start|> <|image_pad|> <|vision_end|>")
    processor = library().Qwen2VLProcessor(images, tokenizer, library().Qwen2VLVideoProcessor(), chat_template=template)
    ids = {
        f"{name}_token_id": words.index(mark)
        for name, mark in zip(("image", "video", "vision_start", "vision_end"), marks, strict=True)
    }
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "num_key_value_heads": 2, "vocab_size": len(words), "bos_token_id": START, "eos_token_id": END}
    text |= {
        "pad_token_id": PAD,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }
    eye = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    model = library().Qwen2VLForConditionalGeneration(
        library().Qwen2VLConfig(vision_config=eye, text_config=text, **ids)
    )
    asked = "user: <|vision_start|> <|image_pad|> <|vision_end|> describe it please assistant:"
    inputs = dict(processor(images=[[image] for image in IMAGES], text=[asked] * 2, return_tensors="pt"))
    lead, answers = inputs["input_ids"], told(tokenizer)
    inputs["input_ids"] = torch.cat([lead, answers], dim=1)
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(answers)], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["labels"] = torch.cat([torch.full_like(lead, -100), answers], dim=1)
    taught(model, lambda: model(**inputs).loss, steps).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
