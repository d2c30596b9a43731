"""What the engine tells, on the page: in Chinese where that is spoken, settings by their labels, names left alone."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from engine.errors import PresetError, UserError
from engine.forecast import forecast_here
from engine.forecast_words import rows
from engine.plan import make_plan
from engine.preset import BY_PATH, ROOT, Preset, load
from tests.engine_sentences import notes, sentences
from tests.test_preset import BROKEN
from tests.test_ui_problems import TABLE, faulty
from ui import form
from ui.check import check
from ui.language import read_part, speaking
from ui.told import PHRASES, SENTENCES, fault, retold

PUT_TOGETHER = {  # of pieces, in the source
    "a number above {1}", "{#1} more folders", "Time: about {1}.", "This is {1}; {2}, {3}.",
    "Shorten it (character {1}).", "Simplify it (character {1}).",
}  # fmt: skip
ENGLISH = re.compile(r"[A-Za-z]{2,}(?: [a-z]{2,}){2}")  # three words
SHIPPED = sorted((ROOT / "presets").glob("*.json"))


def english_in(message: str) -> list[str]:
    """What of a message stays English in Chinese, without names, labels and what was entered."""
    with speaking("zh"):
        told = retold(message)
    return ENGLISH.findall(re.sub(r"“[^”]*”|`[^`]*`|（当前为 .*?）|'[^']*'", "", told))


@pytest.mark.slow
def test_every_sentence_of_the_engine_is_there_in_chinese() -> None:
    filled = [re.sub(r"\{(\d+)\}", r"7\1", text) for text in (*sentences(), *notes())]
    assert len(filled) > 900
    assert [text for text in filled if english_in(text)] == [], "write them into ui/languages/zh_told.json"


@pytest.mark.parametrize("path", ["/a/b.safetensors", "/my files/ü/b.safetensors", "C:\\my files\\b.c"])
def test_the_file_before_a_sentence_stays_whatever_its_name(path: str) -> None:
    with speaking("zh"):
        assert retold(f"{path}: there is no such file.") == f"{path}: 没有这个文件。"


@pytest.mark.slow
def test_what_every_broken_rule_and_faulty_form_says_is_chinese() -> None:
    said: list[str] = []
    for values, _ in BROKEN.values():
        with pytest.raises(PresetError) as caught:
            Preset().changed(values)
        said += [problem.message for problem in caught.value.problems]
    for values, _ in TABLE:
        found = check(form.read_all(faulty(values)))
        said += [problem.message for problem in (*found.problems, *found.warnings)]
    assert len(said) > 100
    assert [text for text in dict.fromkeys(said) if english_in(text)] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_notes_of_shipped_presets_are_chinese(path: Path) -> None:
    assert english_in(load(path).about) == []


def test_the_forecast_is_chinese() -> None:
    demo = load(ROOT / "presets" / "demo.json")
    for changes in ({}, {"run.accumulation": 2, "data.regularization_folder": ""}, {"validation.share": 0.2}):
        preset = demo.changed(changes)
        plan = make_plan(preset)
        for _, words in rows(preset, plan, forecast_here(preset, plan)):
            assert english_in(words) == [], words


@pytest.mark.slow
@pytest.mark.parametrize("part", [SENTENCES, PHRASES])
def test_no_translation_is_stale_and_both_languages_have_the_same_places(part: str) -> None:
    for english, chinese in read_part("zh", part).items():
        assert set(re.findall(r"\{#?(\d+)\}", english)) == set(re.findall(r"\{(\d+)\}", chinese)), english
    entries = read_part("zh", part).keys() - PUT_TOGETHER
    stale = [english for english in entries if not any(words in _source() for words in _threes(english))]
    assert stale == [], f"take them out of ui/languages/zh_{part}.json"


def _threes(english: str) -> list[str]:
    """Any three words in a row, or all where there are fewer, between the places of a sentence."""
    found: list[str] = []
    for piece in re.split(r"\{#?\d+\}", english.rstrip(".")):
        words = piece.split()
        found += [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]
    return [words for words in found if len(words) > 1] or [""]


@cache
def _source() -> str:
    """All texts of the programs that tell something, and the shipped presets' notes."""
    found = [load(path).about for path in SHIPPED]
    for folder in ("engine", "captioning", "launchers", "ui"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_settings_are_called_by_their_labels_and_names_are_left_alone() -> None:
    said = "is 0. Set adapter.conv_rank to 4 (see /a/adapter.rank, adapter.rank/b and my adapter.nothing)."
    assert retold(said) == said.replace("adapter.conv_rank", "“Conv rank”")
    with speaking("zh"):
        told = retold("there is no such folder (got my images and 3 more/of it). Check the path.")
        assert told == "没有这个文件夹（当前为 my images and 3 more/of it）。请检查路径。"
        assert retold("no sentence of ours") == "no sentence of ours"
        assert retold("holds 12 images, but its name gives no repeats. Rename it to 10_x, no more.").startswith(
            "含有 12 张图像，但其名称没有给出重复次数。"
        )
        assert fault(UserError("is not running.", "run.name")) == f"{BY_PATH['run.name'].zh}: 没有在运行。"
    assert retold("<b>{x}</b>") == "<b>{x}</b>"


def test_what_tools_are_about_to_do_is_chinese() -> None:
    said = (
        "This is a training folder: 2 folders named like 10_name; 24 images, 20 with captions (.txt) beside them, "
        "4 without. Atelier can train it as it is.",
        "3 images to /a/b c, 2 of them enlarged; 1 left out as too small.",
        "1 caption to write, 3 kept.",
        "had no effect there either: max_train_steps = 1600 decides; called output_dir today",
    )
    told = (
        "这是训练文件夹：2 个文件夹，命名如 10_name；24 张图像，20 张在旁边有标注（.txt）, 4 张没有标注。"
        "Atelier 可以直接训练它。",
        "3 张图像写到 /a/b c, 其中 2 张放大；1 张太小而略去。",
        "将写出 1 条标注，保留 3 条。",
        "原来也不起作用：由 max_train_steps = 1600 决定；现在叫 output_dir",
    )
    with speaking("zh"):
        assert tuple(map(retold, said)) == told
