"""Captioning models that are known to fit, for the choice on the page. Their exact sizes are asked of the hub."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub, for a captioner; `rough_gb` None and `licence` "unknown" say that we do not know."""

    repository: str
    captioner: str
    rough_gb: float | None
    licence: str
    about: str


MODELS: dict[str, KnownModel] = {
    "wd-vit-v3": KnownModel("SmilingWolf/wd-vit-tagger-v3", "wd", 0.4, "Apache-2.0", "Tags; fast."),
    "wd-swinv2-v3": KnownModel("SmilingWolf/wd-swinv2-tagger-v3", "wd", 0.5, "Apache-2.0", "Tags; the usual choice."),
    "wd-convnext-v3": KnownModel("SmilingWolf/wd-convnext-tagger-v3", "wd", 0.4, "Apache-2.0", "Tags."),
    "wd-eva02-large-v3": KnownModel(
        "SmilingWolf/wd-eva02-large-tagger-v3", "wd", 1.3, "Apache-2.0", "Tags; the most exact, slower."
    ),
    "wd-v1-4-moat": KnownModel(
        "SmilingWolf/wd-v1-4-moat-tagger-v2", "wd", 0.3, "Apache-2.0", "Tags of the v1.4 family."
    ),
    "florence2-base": KnownModel(
        "florence-community/Florence-2-base", "florence2", None, UNKNOWN, "Sentences in three lengths; small and good."
    ),
    "florence2-large": KnownModel(
        "florence-community/Florence-2-large", "florence2", None, UNKNOWN, "The same, larger."
    ),
    "blip-base": KnownModel(
        "Salesforce/blip-image-captioning-base", "blip", 1.0, "BSD-3-Clause", "One short sentence."
    ),
    "blip-large": KnownModel("Salesforce/blip-image-captioning-large", "blip", 1.9, "BSD-3-Clause", "One sentence."),
    "blip2-opt-2.7b": KnownModel("Salesforce/blip2-opt-2.7b", "blip2", 15.0, "MIT", "One sentence; answers questions."),
    "git-large-coco": KnownModel("microsoft/git-large-coco", "git", 1.6, "MIT", "One short sentence."),
    "coca-vit-l-14": KnownModel(
        "laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k", "coca", 2.6, "MIT", "One short sentence."
    ),
    "qwen2-vl-2b": KnownModel("Qwen/Qwen2-VL-2B-Instruct", "vlm", 4.4, "Apache-2.0", "Follows a prompt; the smallest."),
    "qwen2.5-vl-7b": KnownModel("Qwen/Qwen2.5-VL-7B-Instruct", "vlm", 16.6, "Apache-2.0", "Follows a prompt."),
    "joycaption-beta-one": KnownModel(
        "fancyfeast/llama-joycaption-beta-one-hf-llava", "vlm", 17.0, UNKNOWN, "Long captions made for training."
    ),
}
