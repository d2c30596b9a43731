"""The question to a vision-language model, by its chat template, and what to keep of its answer. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.errors import UserError


def question(processor: Any, prompt: str, system: str = "", template: str = "") -> str:
    """The text that the model reads, with one mark for the image in it.

    Chat templates differ in how they take a message: as parts (Qwen-VL, LLaVA), or as plain text, with the image's mark
    set by themselves (JoyCaption) or by whoever asks. The first way that gives one mark and the prompt is taken. Raises
    UserError where `template` has not both placeholders or no way works.
    """
    mark = str(getattr(processor, "image_token", None) or "<image>")
    check_template(template)
    if template:
        return template.replace("\\n", "\n").replace("{image}", mark).replace("{prompt}", prompt)
    faults = ["it has none"]
    for messages in _ways(prompt, system, mark):
        try:
            text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs of the model's makers: jinja2 raises what they raise
            faults.append(" ".join(str(error).split())[:200] or type(error).__name__)
            continue
        if text.count(mark) == 1 and prompt.strip() in text and "'type': '" not in text:
            return text
        faults.append("it leaves out the image or the prompt")
    what = f"the model's chat template cannot be used ({faults[-1]}). Write your own, with {{image}} and {{prompt}}."
    raise UserError(what, "vlm.template")


def check_template(template: str) -> None:
    """Refuse a template of the user's without its placeholders; an empty one stands for the model's own."""
    if template and (template.count("{image}") != 1 or template.count("{prompt}") != 1):
        raise UserError(f"must hold {{image}} and {{prompt}} once each (got {template!r}).", "vlm.template")


def spoken(answer: str) -> str:
    """An answer without what a reasoning model thinks before it."""
    return answer.rpartition("</think>")[2].strip()


def _ways(prompt: str, system: str, mark: str) -> Iterator[list[dict[str, Any]]]:
    parts = [{"type": "image"}, {"type": "text", "text": prompt}]
    told = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    yield [*told, {"role": "user", "content": parts}]
    told = [{"role": "system", "content": system}] if system else []
    for content in (prompt, f"{mark}\n{prompt}"):
        yield [*told, {"role": "user", "content": content}]
