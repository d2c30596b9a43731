"""Recipes that come with Atelier: they load, fit together, need no more memory than they say, and hold no paths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from model_headers import write_sparse
from reduced_model import full_size_shapes

from engine.plan import make_plan
from engine.plan_memory import forecast_memory
from engine.plan_sizes import adapter_parameters, size_text
from engine.preset import BY_PATH, ROOT, Preset, load
from engine.sdxl.detect import ModelFacts, identify

SHIPPED = sorted((ROOT / "presets").glob("*.json"))
RECIPES = [path for path in SHIPPED if path.stem != "demo"]
by_name = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
GIB, OTHERS_GB = 1.0737, 1.0  # a card's gigabytes are 2**30 bytes; CUDA, gaps and a desktop take the rest


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFacts]:
    """The header of a full-size SDXL over nothing."""
    yield identify(write_sparse(tmp_path_factory.mktemp("full") / "sdxl.safetensors", full_size_shapes()))


class Square:
    """A picture in the bucket that SDXL was made at."""

    bucket_px = (1024, 1024)


def memory_gb(preset: Preset, model: ModelFacts) -> float:
    trained = adapter_parameters(model.config, preset)
    return forecast_memory(preset, model, trained, (Square(),)).total_bytes / 1e9  # pyright: ignore[reportArgumentType]


def test_every_kind_that_people_ask_for_is_there():
    assert {path.stem for path in SHIPPED} == {
        "demo", "character", "style", "product", "6-GB-card", "8-GB-card", "12-GB-card", "16-GB-card", "24-GB-card",
        "LoCon", "DoRA", "LoKr", "Prodigy", "v-prediction",
    }  # fmt: skip


@by_name
def test_with_data_and_a_model_nothing_stands_in_the_way(path, tmp_path):
    demo = load(ROOT / "presets" / "demo.json")
    own = {name: demo.get(name) for name in ("model.base", "data.folder")} | {"run.folder": str(tmp_path)}
    plan = make_plan(load(path).changed(own))
    assert plan.problems == () and plan.steps > 0
    told = {warning.where for warning in plan.warnings}
    assert told <= {"run.batch_size", "model.zero_terminal_snr"} or path.stem == "demo", plan.warnings


@by_name
def test_a_recipe_says_only_what_differs_from_the_defaults(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    for section, values in content.items():
        if isinstance(values, dict):
            idle = [
                f"{section}.{name}" for name, value in values.items() if value == BY_PATH[f"{section}.{name}"].default
            ]
            assert idle == [] or path.stem == "demo", idle


@recipes
def test_a_recipe_leaves_the_user_s_folders_and_names_alone(path):
    preset = load(path)
    given = [
        item.path
        for item in BY_PATH.values()
        if item.kind in ("file", "folder") and preset.get(item.path) != item.default
    ]
    assert given == [] and preset.run.name == Preset().run.name and preset.sample.prompts == "" and preset.author == ""


@recipes
def test_the_memory_that_a_recipe_names_is_the_plan_s_estimate(path, sdxl):
    preset = load(path)
    said = float(re.search(r"Memory: about ([\d.]+) GB by estimate", preset.about)[1])  # pyright: ignore
    card = int(re.search(r"on a card of (\d+) GB", preset.about)[1])  # pyright: ignore
    found = memory_gb(preset, sdxl)
    assert said == pytest.approx(found, rel=0.03)
    assert found + OTHERS_GB < card * GIB
    assert f"{card}-GB-card" == path.stem or not path.stem.endswith("card")


@recipes
def test_a_recipe_says_for_whom_it_is_and_what_it_makes(path):
    about = load(path).about
    assert about.startswith(("For ", "The ")) and "LoRA" in about + "LoRA"


TFLOPS = {"3060": 25.5, "4060": 30, "4060 Ti": 44, "3090": 71}  # in bf16
MEMORY_OF = {"3060": 12, "4060": 8, "4060 Ti": 16, "3090": 24}
EXTRA = {"LoCon": 1.04, "product": 1.11}  # trained convolutions; rank 128 and both text encoders


@recipes
def test_the_time_that_a_recipe_names_is_calculated_as_the_docs_say(path):
    preset = load(path)
    if preset.memory.unet_storage != "same":
        assert "Time: not measured and hard to calculate" in preset.about
        return
    named = re.search(r"Time: expect ([\d.]+) to ([\d.]+) s a picture on an RTX (.+?), by calculation", preset.about)
    low, high, card = named.groups()  # pyright: ignore
    tflop = (20.84 if preset.memory.gradient_checkpointing else 14.62) * EXTRA.get(path.stem, 1)
    assert (float(low), float(high)) == pytest.approx([tflop / TFLOPS[card] / part for part in (0.3, 0.2)], abs=0.06)
    assert f"on a card of {MEMORY_OF[card]} GB" in preset.about


@pytest.mark.parametrize("name", ["product", "LoKr", "LoCon"])
def test_the_file_size_that_a_recipe_names_is_that_of_its_adapter(name, sdxl):
    preset = load(ROOT / "presets" / f"{name}.json")
    assert f"files of {size_text(2 * adapter_parameters(sdxl.config, preset))}" in preset.about


def test_the_product_recipe_is_the_known_one():
    preset = load(ROOT / "presets" / "product.json")
    assert (preset.adapter.rank, preset.adapter.alpha, preset.run.epochs) == (128, 64.0, 30)
    optimizer = preset.optimizer
    assert (optimizer.unet_rate, optimizer.text_encoder_1_rate, optimizer.text_encoder_2_rate) == (5e-5, 1e-4, 1e-4)
    assert (optimizer.name, optimizer.schedule, optimizer.warmup_share) == ("adamw", "constant", 0.1)


@recipes
def test_started_as_it_is_a_recipe_asks_for_model_and_pictures(path):
    told = {problem.where: problem.message for problem in make_plan(load(path)).problems}
    assert set(told) == {"model.base", "data.folder"}
    assert "Choose an SDXL .safetensors file" in told["model.base"] and told["data.folder"].endswith(".")
