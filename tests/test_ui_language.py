"""The page in two languages: nothing is left out or stale, and each request is answered in its own language."""

from __future__ import annotations

import asyncio
import json
import re
import string
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.preset import BY_PATH, ROOT, load
from tests import page_sentences
from ui import app, data_page, language, page_language, theme, words
from ui.check import check
from ui.language import LanguageOfRequest, catalogue, chosen, say, speaking, spoken

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("kind", ["helps", "choices", "drawn", "said", "told"])
def test_every_sentence_of_the_page_is_there_in_chinese(kind: str) -> None:
    found = getattr(page_sentences, kind)()
    named = page_sentences.shown_choices() - page_sentences.choices()
    missing = {text for text in found if text not in catalogue("zh") and not page_sentences.is_a_name(text)}
    missing -= named if kind == "drawn" else set()
    assert sorted(missing) == [], "write them into ui/languages/zh_*.json"


def test_no_translation_is_stale_and_none_is_there_twice() -> None:
    used = set().union(*(getattr(page_sentences, kind)() for kind in ("helps", "choices", "drawn", "said", "told")))
    used |= page_sentences.shown_choices()
    parts = [language.read_part("zh", part) for part in language.PARTS]
    assert sorted(set().union(*parts) - used) == [], "take them out of ui/languages/zh_*.json"
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_both_languages_have_the_same_places_for_values() -> None:
    told = {**catalogue("zh")}
    helps = page_sentences.helps()  # these are never filled in; they may speak of {n}
    wrong = [english for english in told if english not in helps and places(english) != places(told[english])]
    assert wrong == []
    assert [english for english, chinese in told.items() if chinese != chinese.strip("\n") or not chinese] == []


def test_every_label_is_chinese_or_a_name() -> None:
    latin = {path: item.zh for path, item in page_sentences.all_settings().items() if not CHINESE.search(item.zh)}
    assert all(name[0].isupper() and len(name.split()) <= 2 for name in latin.values()), latin


@pytest.mark.parametrize(
    ("cookie", "preferred", "expected"),
    [
        ("", "", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("", "de-DE,de;q=0.9,zh;q=0.5,en;q=0.3", "zh"),
        ("", "en-GB,zh;q=0.9", "en"),
        ("", "zh;q=0, en", "en"),
        ("", "fr;q=x, *", "en"),
        ("atelier_language=zh", "en", "zh"),
        ("other=1; atelier_language=en", "zh-CN", "en"),
        ("atelier_language=<script>", "zh", "zh"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_browsers(cookie: str, preferred: str, expected: str) -> None:
    assert chosen(cookie, preferred) == expected


def test_each_request_has_its_own_language() -> None:
    heard: list[str] = []

    async def listen(scope, receive, send) -> None:
        await asyncio.sleep(0)
        heard.append(spoken())

    async def ask(header: bytes) -> None:
        await LanguageOfRequest(listen)({"type": "http", "headers": [(b"accept-language", header)]}, None, None)

    async def both() -> None:
        await asyncio.gather(ask(b"zh"), ask(b"en"), ask(b"zh"))

    with ThreadPoolExecutor(1) as thread:  # in this one the browser tests' loop may be running
        thread.submit(asyncio.run, both()).result()
    assert (sorted(heard), spoken()) == (["en", "zh", "zh"], "en")


@pytest.mark.slow
def test_the_page_is_sent_in_the_language_of_the_request_and_its_values_stay() -> None:
    blocks = app.build()
    blocks.head = theme.head()
    blocks.config = blocks.get_config_file()
    with speaking("zh"):
        told = blocks.config
    fields = {item["props"].get("elem_id"): item["props"] for item in told["components"]}
    drawn = fields["training"]["value"]
    assert f">{BY_PATH['adapter.rank'].zh}<" in drawn and ">网络的大小" in drawn
    assert '<option value="epochs" selected>轮</option><option value="steps">步</option>' in drawn
    assert ">每 N 轮保存<" in drawn  # the unit is in the name
    assert ">开始训练<" in fields["plan-bar"]["value"]
    assert 'atelierLanguage = "zh"' in str(told["head"]) and "\\u64a4\\u9500" in str(told["head"])
    assert [item["id"] for item in told["components"]] == [item["id"] for item in blocks.config["components"]]
    english = {item["props"].get("elem_id"): item["props"] for item in blocks.config["components"]}
    assert ">Start training<" in english["plan-bar"]["value"] and 'atelierLanguage = "en"' in str(blocks.config["head"])


def test_what_is_said_while_the_page_runs_follows_the_request_and_text_of_users_is_left_alone() -> None:
    assert (words.duration(200), words.plural(1, "image"), words.place("adapter.rank")) == (
        "3 min 20 s",
        "1 image",
        "Rank",
    )
    with speaking("zh"):
        assert (words.duration(200), words.plural(2, "image")) == ("3 分 20 秒", "2 张图像")
        assert words.place("adapter.rank") == BY_PATH["adapter.rank"].zh
        assert "请选择训练文件夹" in data_page.folders(None)
        assert say("“{title}” is in the form now.", title="Save {x}") == "“Save {x}”已加载到表单。"
        assert say("no such sentence") == "no such sentence"


def test_fixed_html_is_told_by_its_texts() -> None:
    content = '<h4 title="Save">Load</h4> <a href="Load" data-x="Save">Save &amp; Load</a><b> Load </b>'
    assert page_language.fixed_html(content, lambda text: {"Load": "<加载>", "Save": "保存"}.get(text, text)) == (
        '<h4 title="保存">&lt;加载&gt;</h4> <a href="Load" data-x="Save">Save &amp; Load</a><b> &lt;加载&gt; </b>'
    )


def test_scripts_get_exactly_what_they_say() -> None:
    given = json.loads(theme.words("zh").partition("atelierWords = ")[2].rstrip(";"))
    assert set(given) == set(theme.script_sentences()) and len(given) > 50
    assert given["{count} caption"] == "{count} 条标注"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "UNet，秩 16、卷积秩 16，16 张图像 × 10 次重复 + 160 张正则化图像 ÷ 批量 4 = 每轮 81 步，共 2 轮，"),
        ({"adapter.text_encoder_1": True, "adapter.text_encoder_2": True}, "UNet 和两个文本编码器，秩 16"),
        ({"adapter.algorithm": "lokr", "run.accumulation": 2}, "UNet，LoKr、秩 16、卷积秩 16，"),
        ({"run.length": "steps", "run.steps": 1600}, " ÷ 批量 4 = 每轮 81 步，共 1,600 步（19.8 轮），"),
    ],
)
def test_the_sentence_of_the_run_is_told_in_chinese(changes: dict[str, object], told: str) -> None:
    preset = load(ROOT / "presets" / "demo.json").changed({**changes, "captions.cache_text": False})
    with speaking("zh"):
        found = check(preset.model_dump()).sentence
    assert told in found and found.endswith("。") and not re.search(r"[a-z]{3,} [a-z]{3,}", found)


def test_whatever_the_page_shows_goes_through_say() -> None:
    assert page_sentences.unsaid() == [], "say(…) it, or word(…) it where it stands in a table"
