"""The larger captioners, loaded from files as a user's would be and decoded for real."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from captioning_language_models import (
    write_blip2,
    write_coca,
    write_florence2,
    write_git,
    write_llava,
    write_qwen,
)
from captioning_models import BLUE, RED
from PIL import Image
from safetensors.torch import load_file, save_file

from captioning.captioners import CAPTIONERS
from captioning.chat import question, spoken
from captioning.decoding import Search, beam_search
from engine.errors import ModelError, UserError
from engine.tools.tool import make_settings

IMAGES = [Image.new("RGB", (30, 30), RED), Image.new("RGB", (40, 40), BLUE)]
SQUARES = ["a red square", "a blue square"]
WRITERS = {
    "git": write_git,
    "opt": write_blip2,
    "t5": lambda folder: write_blip2(folder, "t5"),
    "florence2": write_florence2,
    "coca": write_coca,
    "llava": write_llava,
    "qwen": write_qwen,
}
CAPTIONER = {"opt": "blip2", "t5": "blip2", "llava": "vlm", "qwen": "vlm"}
ASKED = {"prompt": "describe it please"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a model by its name in WRITERS, made at the first call."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = WRITERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return folder


def load(name: str, folder: Path, **values: str) -> Any:
    name = CAPTIONER.get(name, name)
    return CAPTIONERS[name].load(folder, make_settings(name, CAPTIONERS[name].Settings, values))


def say(name: str, folder: Path, images=IMAGES, **values: str) -> list[str]:
    captioner = load(name, folder, **values)
    return captioner.caption([captioner.prepare(image.copy()) for image in images])


def changed(folder: Path, to: Path, file: str, **values: object) -> Path:
    """A copy of a model folder with other values in one of its JSON files."""
    shutil.copytree(folder, to)
    content = json.loads((to / file).read_text(encoding="utf-8"))
    (to / file).write_text(json.dumps({**content, **values}), encoding="utf-8")
    return to


@pytest.mark.slow
@pytest.mark.parametrize("name", ["git", "opt", "t5", "coca", "llava", "qwen"])
def test_each_says_what_it_sees_in_its_own_words(model, name: str):
    assert say(name, model(name), **(ASKED if name in ("llava", "qwen") else {})) == SQUARES


@pytest.mark.slow
def test_one_image_and_many_say_the_same(model):
    for name in ("git", "coca", "llava"):
        captioner = load(name, model(name))
        ready = [captioner.prepare(image.copy()) for image in IMAGES * 2]
        assert captioner.caption(ready) == [text for image in ready for text in captioner.caption([image])]


@pytest.mark.slow
@pytest.mark.parametrize(("detail", "lead"), [("short", ""), ("detailed", "a photo of ")])
def test_florence2_answers_its_task_and_leaves_no_marks(model, detail: str, lead: str):
    assert say("florence2", model("florence2"), detail=detail) == [lead + square for square in SQUARES]


def test_git_goes_on_from_a_prompt_and_stops_at_its_limit(model):
    assert say("git", model("git"), prompt="a red", beams="1") == ["a red square"] * 2
    assert say("git", model("git"), max_tokens="2", beams="1") == ["a red", "a blue"]


def test_blip2_gives_no_prompt_back_whatever_its_language_model(model):
    for name in ("opt", "t5"):
        assert say(name, model(name), beams="1", prompt="a photo of") == SQUARES


def test_an_older_processor_file_of_blip2_without_queries_says_the_same(model, tmp_path: Path):
    old = changed(model("opt"), tmp_path / "old", "processor_config.json", num_query_tokens=None)
    assert say("opt", old) == SQUARES


def test_a_blip2_without_its_image_token_is_refused(model, tmp_path: Path):
    old = changed(model("opt"), tmp_path / "old", "config.json", image_token_index=None)
    with pytest.raises(ModelError, match=r"older form: config\.json has no image_token_index\. Download"):
        say("opt", old)


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "nf4"])
def test_large_models_can_be_stored_smaller(model, precision: str):
    captioner = load("opt", model("opt"), precision=precision)
    layer = captioner.model.language_model.model.decoder.layers[0].fc1.weight
    assert layer.dtype == {"bfloat16": torch.bfloat16, "int8": torch.int8, "nf4": torch.uint8}[precision]
    assert captioner.caption([captioner.prepare(image) for image in IMAGES]) == SQUARES


def test_microsofts_own_florence2_is_refused_and_its_code_is_not_run(model, tmp_path: Path):
    theirs = changed(model("florence2"), tmp_path / "theirs", "config.json", vision_config={"model_type": "davit"})
    with pytest.raises(ModelError, match=r"Microsoft's files, .* from florence-community"):
        say("florence2", theirs)


def test_a_model_that_brings_its_own_code_is_refused_and_the_code_is_not_run(model, tmp_path: Path):
    folder = changed(
        model("llava"), tmp_path / "own", "config.json", model_type="mine",
        auto_map={"AutoConfig": "mine.Mine", "AutoModelForImageTextToText": "mine.Mine"},
    )  # fmt: skip
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(ModelError, match="cannot be loaded"):
        say("llava", folder)
    assert not (tmp_path / "ran").exists()


def test_a_coca_lacking_a_weight_or_its_description_is_refused(model, tmp_path: Path):
    folder = tmp_path / "coca"
    shutil.copytree(model("coca"), folder)
    tensors = load_file(folder / "open_clip_model.safetensors")
    del tensors["text_decoder.ln_final.weight"]
    save_file(tensors, folder / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=r"cannot be loaded \(.*text_decoder\.ln_final\.weight"):
        say("coca", folder)
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(ModelError, match=r"incomplete: open_clip_config\.json missing"):
        say("coca", folder)


@pytest.mark.parametrize(
    ("part", "said"),
    [({}, "describes no CoCa"), ({"multimodal_cfg": {}, "text_cfg": {"hf_model_name": "x"}}, "own tok")],
)
def test_another_open_clip_model_is_refused(model, tmp_path: Path, part: dict, said: str):
    with pytest.raises(ModelError, match=said):
        say("coca", changed(model("coca"), tmp_path / "clip", "open_clip_config.json", model_cfg=part))


def test_a_vision_language_model_takes_a_template_of_the_users(model):
    template = "user: {image} {prompt} assistant:"
    assert say("llava", model("llava"), template=template, **ASKED) == SQUARES
    with pytest.raises(UserError, match=r"vlm\.template: must hold \{image\} and \{prompt\} once each"):
        say("llava", model("llava"), template="user: {prompt}")


def test_drawn_words_follow_the_seed(model):
    captioner = load("llava", model("llava"), temperature="2", top_p="1", prompt="of", max_tokens="8")
    ready = [captioner.prepare(image) for image in IMAGES * 4]
    first = captioner.caption(ready)
    assert captioner.caption(ready) == first
    assert len(set(first)) > 2


def test_images_above_the_limit_are_made_smaller_in_proportion(model):
    captioner = load("qwen", model("qwen"), max_side_px="64")
    assert captioner.prepare(Image.new("RGB", (200, 100))).size == (64, 32)
    assert captioner.prepare(Image.new("RGB", (20, 10))).size == (20, 10)


class Chat:
    """A processor that has only a chat template, as a function of the messages."""

    image_token = "<image>"

    def __init__(self, template) -> None:
        self.template = template

    def apply_chat_template(self, messages, tokenize: bool, add_generation_prompt: bool) -> str:
        return self.template(messages)


def joycaption(messages) -> str:
    """Plain text, the image's mark set by the template."""
    return "".join(f"[{m['role']}]{'<image>' * (m['role'] == 'user')}{m['content'].strip()}" for m in messages)


def plain(messages) -> str:
    """Plain text as any language model's template takes it: whatever is no text is printed."""
    return "".join(f"[{m['role']}]{m['content']!s}" for m in messages)


def parts_only(messages) -> str:
    texts = [["<image>" if part["type"] == "image" else part["text"] for part in m["content"]] for m in messages]
    return "|".join("".join(parts) for parts in texts)


@pytest.mark.parametrize(
    ("template", "asked"),
    [
        (joycaption, "[system]be brief[user]<image>what?"),
        (plain, "[system]be brief[user]<image>\nwhat?"),
        (parts_only, "be brief|<image>what?"),
    ],
)
def test_a_question_reaches_every_kind_of_chat_template_with_one_image(template, asked: str):
    assert question(Chat(template), "what?", "be brief") == asked


def test_a_chat_template_that_leaves_out_the_image_is_a_sentence():
    with pytest.raises(UserError, match=r"cannot be used \(it leaves out the image or the prompt\)\. Write your"):
        question(Chat(lambda messages: "hello"), "what?")


def test_what_a_model_thinks_is_no_caption():
    assert spoken("<think>It is red.</think>\n a red square ") == "a red square"
    assert spoken(" a red square") == "a red square"


def test_beam_search_finds_the_best_sequence_that_exhaustive_search_finds():
    """With as many beams as there are prefixes nothing is lost: 3 words, up to 5 of them."""
    torch.manual_seed(0)
    table = torch.randn(4, 4) * 2  # the next token's logits by the last token; 3 is the end
    found = beam_search(lambda ids: table[ids[:, -1]], 1, Search(beams=81, start=0, end=3, longest=5))[0]

    def mean(words: list[int]) -> float:
        path = [0, *words, *([3] if len(words) < 5 else [])]  # what the limit cuts off counts as it is
        steps = [float(table[a].log_softmax(-1)[b]) for a, b in pairwise(path)]
        return sum(steps) / len(steps)

    def grown(words: list[int]):
        yield words
        for word in range(3 if len(words) < 5 else 0):
            yield from grown([*words, word])

    assert mean(found) == max(mean(words) for words in grown([]))


def test_one_beam_takes_the_most_probable_token_each_time_and_ends_at_its_limit():
    table = torch.tensor([[0.0, 2, 1, 0], [0, 0, 2, 1], [0, 1, 0, 2], [0, 0, 0, 0]])
    assert beam_search(lambda ids: table[ids[:, -1]], 2, Search(1, 0, 3, 9)) == [[1, 2]] * 2
    assert beam_search(lambda ids: table[ids[:, -1]], 1, Search(1, 0, 3, 1)) == [[1]]
