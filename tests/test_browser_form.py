"""The form in a real browser: what is shown is what is read, and faults are named beside their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import BrowserContext, Page, expect

from engine.errors import PresetError
from engine.preset import BY_PATH, ROOT, SETTINGS, Preset, load
from engine.settings import Setting
from tests.browser import Server, new_page
from tests.pages import WAIT_MS, entry, first_visit, load_preset, open_page, tab, until
from tests.setting_rows import ROWS
from ui.form import field_id, slider_step
from ui.last import own_presets, remember

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def home(cleared_home: Path) -> Path:
    return cleared_home


@pytest.fixture
def server(page_server: Server, home: Path) -> Server:
    return page_server


def other_value(item: Setting) -> object:
    """An allowed value that is not the default, and awkward where that is possible."""
    if item.type is bool:
        return not item.default
    if item.choices:
        return item.choices[-1]
    if item.kind == "color":
        return "#12ab9f"
    if item.kind == "lines":
        return "one <b>{a|b}</b> ${x} --n bad --w 512\n\ntwo, 日本語"
    if item.path == "captions.extension":
        return ".caption"
    if item.type is str:
        return f"some {item.name} 'é\" ✓"
    if item.kind == "rate":
        return 0.000123
    if item.type is float:
        return 0.0357 if slider_step(item) == 0.01 else (item.low or 0) + 1.2345 if item.high != 0.99999 else 0.98765
    return int(item.low or 0) + int(item.multiple_of or 1) * 3


def presets_with_everything_changed() -> list[Preset]:
    """As few presets as possible in which each setting has another value than its default somewhere."""
    waiting = dict.fromkeys(item.path for item in SETTINGS)
    made: list[Preset] = []
    while waiting:
        preset, taken = Preset().changed({"captions.cache_text": False, "data.cache_latents": False}), set[str]()
        for path in waiting:
            row = ROWS[path]
            for wanted in ({path: other_value(BY_PATH[path])}, {**row.needs, path: row.value}):
                try:
                    changed = preset.changed(wanted)
                except PresetError:
                    continue
                if all(changed.get(earlier) == preset.get(earlier) for earlier in taken):
                    preset, taken = changed, taken | {path}
                    break
        changed_now = {path for path in waiting if preset.get(path) != BY_PATH[path].default}
        if not changed_now:
            break
        waiting = {path: None for path in waiting if path not in changed_now}
        made.append(preset)
    assert len(waiting) < 0.05 * len(SETTINGS), f"no valid other value was found for {sorted(waiting)}"
    return made


def test_an_edit_is_asked_once_and_a_tab_without_news_asks_nothing(home: Path, server: Server, page: Page) -> None:
    faulty = load(ROOT / "presets" / "demo.json").model_dump()
    faulty["adapter"]["rank"] = 0
    remember(faulty, "basic", "")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or "") if request.method == "POST" else None)

    def questions(what: str) -> int:  # of the form: the tab Run looks too
        return sum(rf"ask\":\"{what}\"" in text and r"\"form\":" in text for text in asked)

    open_page(page, server.url)
    page.click("#plan-sentence a[data-field]")  # to a field whose tab was not opened yet
    rank = entry(page, "adapter.rank")
    expect(rank).to_be_focused(timeout=WAIT_MS)
    looks = questions("look")
    rank.evaluate(TYPED, ["3", "31", "32"])  # as fast as a hand types: on a slow machine playwright's own calls are not
    expect(page.locator("#plan-sentence")).to_contain_text("rank 32", timeout=WAIT_MS)
    assert questions("look") == looks + 1

    for count in (1, 2):
        for _ in range(2):
            tab(page, "presets")
            expect(page.locator("#preset-changes")).to_contain_text("Loading changes", timeout=WAIT_MS)
            tab(page, "training")
        assert questions("presets") == count
        rank.fill("33")
        expect(page.locator("#plan-sentence")).to_contain_text("rank 33", timeout=WAIT_MS)


TYPED = """(entry, texts) => texts.forEach((text) => {
  entry.value = text;
  entry.dispatchEvent(new Event("input", { bubbles: true }));
})"""
FOCUSED = """() => {
  const entry = document.activeElement;
  if (!entry || entry === document.body) return null;
  const isSeen = (part) => {
    const style = getComputedStyle(part);
    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  };
  const marked = [entry, entry.parentElement, entry.closest("label")].filter(Boolean).some(isSeen);
  return { name: entry.id || entry.outerHTML.slice(0, 160), marked, tab: entry.getAttribute("role") === "tab" };
}"""


def test_every_tab_is_walked_by_keyboard_and_the_focus_is_always_seen(home: Path, server: Server, page: Page) -> None:
    open_page(page, server.url)
    names = ("data", "captions", "training", "run", "sample", "compare", "tools", "queue", "presets")
    unseen: dict[str, str] = {}
    page.locator("#tab-data-button").focus()
    for name in names:
        for _ in range(len(names)):
            if page.evaluate("() => document.activeElement.id") == f"tab-{name}-button":
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(f"#tab-{name}-button")).to_have_attribute("aria-selected", "true", timeout=WAIT_MS)
        walked = set[str]()
        while True:
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused is None or focused["name"] in walked or len(walked) > 25:
                break
            walked.add(focused["name"])
            if not focused["marked"]:
                unseen[focused["name"]] = name
        assert len(walked) > 2, (name, walked)
        page.locator(f"#tab-{name}-button").focus()
    assert unseen == {}

    page.locator("#tab-training-button").press("Enter")  # help as a tooltip: comes with the focus, goes with Escape
    tips, rank = page.locator("#help-tips"), page.locator(f"#{field_id('adapter.rank')}")
    tips.press("Space")
    help_text = rank.locator(".info-text")
    expect(help_text).to_be_hidden()
    rank.locator("input").first.focus()
    expect(help_text).to_be_visible()
    assert rank.locator("input").first.get_attribute("aria-describedby") == help_text.get_attribute("id")
    page.keyboard.press("Escape")
    expect(help_text).to_be_hidden()


def test_every_setting_comes_back_from_the_page_as_it_was_put_there(home: Path, server: Server, page: Page) -> None:
    presets = presets_with_everything_changed()
    for number, preset in enumerate(presets):
        preset.model_copy(update={"about": "a <note>"}).save(own_presets() / f"all {number}.json")
    open_page(page, server.url)
    for number, preset in enumerate(presets):
        load_preset(page, f"all {number}")
        page.fill("#preset-name", f"again {number}")
        page.click("#preset-save-as")
        expect(page.locator("#preset-message")).to_contain_text(f"again {number}", timeout=WAIT_MS)
        again = load(own_presets() / f"again {number}.json")
        assert again.values() == preset.values()
        assert again.about == "a <note>"


def test_a_recipe_shows_what_it_changes_and_is_undone_and_a_file_comes_in_and_goes_out(
    home: Path, server: Server, page: Page
) -> None:
    open_page(page, server.url)
    tab(page, "presets")
    page.select_option("#preset-choice", label="product")
    expect(page.locator("#preset-changes")).to_contain_text("Loading changes", timeout=WAIT_MS)
    expect(page.locator("#preset-about")).to_contain_text("80_name")
    page.click("#preset-load")
    expect(page.locator("#preset-changes")).to_contain_text("holds these settings already", timeout=WAIT_MS)
    page.click("#preset-undo")
    expect(page.locator("#preset-message")).to_contain_text("as before", timeout=WAIT_MS)
    expect(page.locator("#preset-changes")).to_contain_text("Loading changes", timeout=WAIT_MS)

    theirs = home / "theirs.json"
    theirs.write_text(json.dumps({"sdxl": True, "network_dim": 48, "netwerk": 3}), encoding="utf-8")
    page.locator("#preset-import").set_input_files(str(theirs))
    expect(page.locator("#preset-receipt")).to_contain_text("netwerk", timeout=WAIT_MS)
    expect(page.locator("#preset-choice option:checked")).to_have_text("theirs (yours)", timeout=WAIT_MS)
    assert load(own_presets() / "theirs.json").adapter.rank == 48
    with page.expect_download(timeout=WAIT_MS) as download:
        page.click("#preset-export")
    demo = load(ROOT / "presets" / "demo.json")
    content = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert content["network_dim"] == demo.adapter.rank and content["output_name"] == demo.run.name


def test_no_request_leaves_this_machine_and_no_text_becomes_html(home: Path, server: Server, page: Page) -> None:
    subset = home / "pictures" / "2_thing"
    subset.mkdir(parents=True)
    picture = next((ROOT / "demo" / "images").glob("*/*.png"))
    attack = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>${x}{{y}}"
    for name in ("a", "b"):
        (subset / f"{name}.png").write_bytes(picture.read_bytes())
        (subset / f"{name}.txt").write_text(attack, encoding="utf-8")
    (subset / "<i>broken<i>.png").write_bytes(b"")
    with Image.open(picture) as plain:
        told = PngInfo()
        told.add_itxt("parameters", attack)
        plain.save(subset / "a.png", pnginfo=told)
    preset = load(ROOT / "presets" / "demo.json").model_copy(update={"about": attack, "author": attack})
    preset.save(own_presets() / "<b>hostile<b>.json")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    open_page(page, server.url)
    entry(page, "data.folder").fill(str(home / "pictures"))
    mine = page.locator(".pictures figure", has_text=attack)
    expect(mine).to_have_count(2, timeout=WAIT_MS)
    until(lambda: mine.locator("img").first.evaluate("image => image.naturalWidth > 0"), "a thumbnail")
    for name in ("training", "run", "presets", "data"):
        tab(page, name)
        page.wait_for_timeout(300)
    expect(mine).to_have_count(2)
    tab(page, "presets")
    page.select_option("#preset-choice", label="<b>hostile<b> (yours)")
    expect(page.locator("#preset-about")).to_contain_text(f"by {attack}", timeout=WAIT_MS)
    page.click("#preset-load")
    expect(page.locator("#preset-message")).to_contain_text("“<b>hostile<b>” is in the form now", timeout=WAIT_MS)
    assert page.title() == "Atelier"
    assert requests
    hosts = {urlsplit(url).hostname for url in requests if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    assert hosts == {"127.0.0.1"}, json.dumps(sorted(requests), indent=1)


@pytest.fixture(scope="module")
def shown(page_server: Server, context: BrowserContext) -> Iterator[Page]:
    """One page for the tests below, from a first visit on. Loading it takes longer than they do."""
    with first_visit(page_server), new_page(context) as opened:
        open_page(opened, page_server.url)
        yield opened


def basic_form(page: Page) -> None:
    """The form on its basic level, all of it."""
    tab(page, "training")
    page.fill("#find-setting", "")
    page.get_by_label("Basic", exact=True).click()


def test_the_first_visit_shows_the_demo_ready_to_start(shown: Page) -> None:
    demo = load(ROOT / "presets" / "demo.json")
    tab(shown, "training")
    expect(entry(shown, "model.base")).to_have_value(demo.model.base)
    expect(shown.locator("#plan-sentence")).to_contain_text(f"rank {demo.adapter.rank}", timeout=WAIT_MS)
    expect(shown.locator("#plan-sentence .blocked")).to_have_count(0)


def test_a_fault_is_named_beside_its_field_while_typing_and_start_names_all(shown: Page, page_server: Server) -> None:
    basic_form(shown)
    rank, rate = shown.locator(f"#{field_id('adapter.rank')}"), shown.locator(f"#{field_id('optimizer.unet_rate')}")
    rank.locator("input").fill("0")
    expect(rank.locator(".problem-text")).to_contain_text("from 1 to 1024 (got 0)", timeout=WAIT_MS)
    rate.locator("input").fill("fast")
    expect(rate.locator(".problem-text")).to_contain_text("'fast'", timeout=WAIT_MS)

    shown.click("#start")
    message = shown.locator("#start-message")
    expect(message).to_contain_text("Rank", timeout=WAIT_MS)
    expect(message).to_contain_text("Learning rate, UNet")
    assert not (page_server.folder / "home" / "runs").exists()

    rank.locator("input").fill("4")
    rate.locator("input").fill("2e-4")
    expect(shown.locator("#plan-sentence")).to_contain_text("rank 4", timeout=WAIT_MS)
    expect(rank.locator(".problem-text")).to_be_hidden()
    top = shown.locator("#rate-chart svg.chart text.y").last  # the picture of the learning rate follows the form
    expect(top).to_have_text("2e-4", timeout=WAIT_MS)


def test_levels_and_conditions_show_and_hide_fields(shown: Page) -> None:
    basic_form(shown)
    vae, steps = shown.locator(f"#{field_id('model.vae')}"), shown.locator(f"#{field_id('run.steps')}")
    expect(vae).to_be_hidden()
    shown.get_by_label("Advanced", exact=True).click()
    expect(vae).to_be_visible(timeout=WAIT_MS)

    expect(steps).to_be_hidden()
    entry(shown, "run.length").select_option("steps")
    expect(steps).to_be_visible(timeout=WAIT_MS)
    expect(shown.locator(f"#{field_id('run.epochs')}")).to_be_hidden()


def test_a_setting_is_found_by_its_kohya_name_and_sections_tell_what_was_changed(shown: Page) -> None:
    basic_form(shown)
    warmup, rank = shown.locator(f"#{field_id('captions.token_warmup')}"), shown.locator(f"#{field_id('adapter.rank')}")
    expect(warmup).to_be_hidden()
    shown.fill("#find-setting", "token_warmup steps")
    expect(warmup).to_be_visible(timeout=WAIT_MS)  # an expert's setting is found on the basic level
    expect(rank).to_be_hidden()
    shown.fill("#find-setting", "")
    expect(rank).to_be_visible()

    count = shown.locator('#section-list [data-section="noise"] i')
    expect(count).to_have_text("")
    shown.get_by_label("Advanced", exact=True).click()
    entry(shown, "noise.offset").fill("0.1")
    expect(count).to_have_text("1", timeout=WAIT_MS)
    shown.click('#section-list [data-section="sharing"]')
    expect(shown.locator("#section-sharing")).to_be_in_viewport()


def test_the_form_is_kept_when_the_page_is_loaded_again(shown: Page, page_server: Server) -> None:
    basic_form(shown)
    rank = shown.locator(f"#{field_id('adapter.rank')} input")
    rank.fill("48")
    expect(shown.locator("#plan-sentence")).to_contain_text("rank 48", timeout=WAIT_MS)
    open_page(shown, page_server.url)
    tab(shown, "training")
    expect(rank).to_have_value("48", timeout=WAIT_MS)


def test_a_changed_field_goes_back_by_key_and_the_page_speaks_chinese_when_asked(shown: Page) -> None:
    basic_form(shown)
    rank = shown.locator(f"#{field_id('adapter.rank')}")
    rank.locator("input").fill("7")
    back = rank.get_by_role("button", name="Rank: back to 16, as in the preset")
    expect(back).to_be_visible(timeout=WAIT_MS)

    shown.select_option("#language-choice", "zh")
    expect(shown.locator("#start")).to_have_text("开始训练", timeout=WAIT_MS)
    expect(shown.locator("#plan-sentence")).to_contain_text("秩 7", timeout=WAIT_MS)
    tab(shown, "training")
    shown.fill("#find-setting", "alpha size of the adapter")  # also found by its English words
    expect(rank).to_be_hidden()
    shown.fill("#find-setting", "size of the adapter")
    expect(rank).to_contain_text("网络的大小")
    rank.locator(".reset").press("Enter")
    expect(rank.locator("input")).to_have_value("16", timeout=WAIT_MS)
    expect(rank.locator(".reset")).to_have_count(0, timeout=WAIT_MS)
