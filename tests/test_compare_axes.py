"""Axes of a comparison: how values are written, what they change, all faults at once, and the order of drawing."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.compare.axes import AXES, Value, read_axis, read_checkpoints, told_apart
from engine.compare.cells import Plot, plot_of
from engine.compare.number_lists import numbers_of, shown
from engine.compare.plot import estimate_of
from engine.compare.settings import Axis, AxisName, CompareSettings
from engine.drawing.settings import GROUPS
from engine.errors import PresetError, Problem
from engine.tools.tool import make_settings


def settings(**values: Any) -> CompareSettings:
    """`x__kind="seed"` sets x.kind."""
    return make_settings("compare", CompareSettings, {name.replace("__", "."): value for name, value in values.items()})


def plot(**values: Any) -> Plot:
    return plot_of(settings(**values))


def problems(**values: Any) -> list[Problem]:
    with pytest.raises(PresetError) as caught:
        plot(**values)
    return list(caught.value.problems)


def loras(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1, 2,5", ["1", "2", "5"]),
        ("0.1-0.4:0.1", ["0.1", "0.2", "0.3", "0.4"]),
        ("1-3", ["1", "2", "3"]),
        ("3-1", ["3", "2", "1"]),
        ("1-9 (+4)", ["1", "5", "9"]),
        ("0-1 [5]", ["0", "0.25", "0.5", "0.75", "1"]),
        ("-0.5-0.5:0.5", ["-0.5", "0", "0.5"]),
        ("1 … 3", ["1", "2", "3"]),
        ("5\n5, 6", ["5", "6"]),
        ("0.30", ["0.3"]),
    ],
)
def test_numbers_are_exact_and_ranges_hold_their_end(text: str, wanted: list[str]):
    found, faults = numbers_of(text)
    assert (found, faults) == ([Decimal(word) for word in wanted], [])
    assert [shown(number) for number in found] == wanted


@pytest.mark.parametrize("text", ["one", "1-", "1-5:-1", "1-5:0", "1-9 [1]", "0-1:0.0001", "1e3"])
def test_a_word_that_is_no_number_is_told(text: str):
    found, faults = numbers_of(f"7, {text}")
    assert found == [Decimal(7)]
    assert len(faults) == 1
    assert text in faults[0]


def test_kinds_are_the_names_of_the_schema():
    assert set(AXES) == set(AxisName.__args__)


def test_the_groups_are_those_of_a_drawing():
    assert set(CompareSettings.model_fields) == {*GROUPS, "x", "y", "z", "strength", "grid"}


def test_num_stands_for_numbers(tmp_path: Path):
    folder = loras(tmp_path, "ink-000001", "ink-000002", "ink-000010", "ink", "ink-best")
    labels = {
        text: [value.label for value in read_checkpoints(f"{folder}/ink-NUM.safetensors{text}")[0]]
        for text in ("", ": 000001-000002", ": 000010, 000001", ": 000001 … 000002")
    }
    assert labels == {
        "": ["000001", "000002", "000010"],
        ": 000001-000002": ["000001", "000002"],
        ": 000010, 000001": ["000010", "000001"],
        ": 000001 … 000002": ["000001", "000002"],
    }
    missing = read_checkpoints(f"{folder}/ink-NUM.safetensors: 000001-000003")[1]
    assert len(missing) == 1
    assert "no file for 000003" in missing[0]


def test_a_folder_a_file_and_none_stand_on_one_axis(tmp_path: Path):
    folder = loras(tmp_path / "all", "a-2", "a-10")
    other = loras(tmp_path / "b", "a-2") / "a-2.safetensors"
    values, faults = read_checkpoints(f"none\n{folder}\n{other}\n{folder / 'a-2.safetensors'}")
    assert faults == []
    assert [value.checkpoint for value in values] == [
        "",
        *(str(folder / f"a-{n}.safetensors") for n in (2, 10)),
        str(other),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("checkpoint", "nowhere", "no such file or folder"),
        ("checkpoint", "", "is empty"),
        ("strength", "11", "from -10 to 10"),
        ("prompt", "red", "what for"),
        ("seed", "-1", "0 at least"),
        ("cfg_scale", "0.5", "a number from 1 to 30"),
        ("steps", "2.5", "a whole number"),
        ("sampler", "eular", "one of euler"),
        ("sampler", "ddim karras", "does not go with ddim"),
        ("size", "1024", "like 1024x1024"),
        ("size", "1001x1024", "multiple of 8"),
        ("base_model", "nothing.safetensors", "there is no nothing"),
        ("setting", "sampling.cfg", "is written like"),
        ("setting", "sampling.nothing = 1", "no setting 'sampling.nothing'"),
        ("setting", "preview.every_steps = 1, 2", "changes no picture"),
        ("setting", "tiling.horizontal = perhaps", "true or false"),
    ],
)
def test_each_fault_has_a_sentence(kind: AxisName, text: str, said: str):
    found = problems(y__kind=kind, y__values=text)
    assert [problem.where for problem in found] == ["y.values"]
    assert said in found[0].message


def test_what_goes_together_with_the_other_settings_is_no_fault():
    given = {"image__init": "start.png", "x__kind": "setting", "x__values": "image.mask = a.png\nb.png"}
    assert [value.label for value in plot(**given).values[0]] == ["mask a.png", "mask b.png"]
    found = problems(**{**given, "image__init": ""})
    assert [(problem.where, problem.message.partition(":")[0]) for problem in found] == [("x.values", "image.mask")]


def test_all_faults_are_told_at_once():
    found = problems(
        x__kind="seed", x__values="one", y__kind="seed", y__values="2", z__values="3", picture__count=4,
        image__mask="mask.png",
    )  # fmt: skip
    assert {problem.where for problem in found} == {"x.values", "y.kind", "z.kind", "picture.count", "image.mask"}


def test_nothing_on_any_axis_and_no_lora_for_a_strength_are_told():
    assert [problem.where for problem in problems()] == ["x.kind"]
    assert [problem.where for problem in problems(x__kind="strength", x__values="0.5, 1")] == ["loras.files"]


def test_values_change_their_settings():
    found = plot(
        picture__prompt="a red cat", picture__negative="red eyes", x__kind="prompt", x__values="red, blue",
        y__kind="size", y__values="512x768", z__kind="setting", z__values="sampling.cfg_rescale = 0.2-0.4:0.2",
    )  # fmt: skip
    presets = {cell.place: cell.preset for cell in found.cells}
    assert len(presets) == 4
    last = presets[1, 0, 1]
    assert (last.picture.prompt, last.picture.negative) == ("a blue cat", "blue eyes")
    assert (last.picture.width_px, last.picture.height_px, last.sampling.cfg_rescale) == (512, 768, 0.4)
    assert problems(picture__prompt="a cat", x__kind="prompt", x__values="red, blue")[0].where == "picture.prompt"


def test_no_two_places_have_the_same_name(tmp_path: Path):
    one, other = loras(tmp_path / "ink", "a-2"), loras(tmp_path / "oil", "a-2")
    found: list[Problem] = []
    values = read_axis(Axis(kind="checkpoint", values=f"{one}\n{other}\nnone"), "x", found)
    assert [value.label for value in values] == ["ink/a-2", "oil/a-2", "no LoRA"]
    read = read_axis(Axis(kind="base_model", values=f"{one}/a-2.safetensors\n{other}/a-2.safetensors"), "x", found)
    assert [value.label for value in read] == ["ink/a-2", "oil/a-2"]
    assert [value.label for value in told_apart([Value("step 4"), Value("step 5"), Value("step 4")])] == [
        "step 4 (1)",
        "step 5",
        "step 4 (2)",
    ]
    assert found == []


def test_a_sampler_without_other_noise_levels_takes_its_own():
    found = plot(x__kind="sampler", x__values="dpmpp_2m, ddim, euler exponential")
    by_place = {cell.place[0]: cell.preset.sampling.sigmas for cell in found.cells}
    assert by_place == {0: "karras", 1: "normal", 2: "exponential"}


def test_the_strength_is_the_checkpoints_and_without_one_the_first_loras(tmp_path: Path):
    folder = loras(tmp_path, "a", "style")
    line = f"{folder / 'style.safetensors'}: 0.5: 0.25"
    found = plot(loras__files=line, x__kind="strength", x__values="0, 1")
    lines = {cell.place[0]: cell.preset.loras.files for cell in found.cells}
    assert lines == {0: "", 1: f"{folder / 'style.safetensors'}: 1: 0.5"}
    both = plot(
        loras__files=line,
        x__kind="strength",
        x__values="0.4",
        y__kind="checkpoint",
        y__values=f"{folder}/a.safetensors",
    )
    assert both.cells[0].preset.loras.files == f"{folder / 'a.safetensors'}: 0.4: 0.4\n{line}"


def test_cells_that_show_the_same_share_a_picture(tmp_path: Path):
    folder = loras(tmp_path, "a", "b")
    found = plot(x__kind="strength", x__values="0, 0.5, 1", y__kind="checkpoint", y__values=f"none\n{folder}")
    assert len(found.cells) == 9
    assert estimate_of(found).pictures == 1 + 2 * 2


def test_models_are_loaded_once_each_and_loras_once_for_each_model(tmp_path: Path):
    folder = loras(tmp_path, "a", "b", "base-1", "base-2")
    models = "\n".join(str(folder / f"base-{n}.safetensors") for n in (1, 2))
    found = plot(
        x__kind="base_model", x__values=models, y__kind="seed", y__values="1-3", z__kind="checkpoint",
        z__values=f"{folder}/a.safetensors\n{folder}/b.safetensors",
    )  # fmt: skip

    def changes(*paths: str) -> int:
        seen = [tuple(cell.preset.get(path) for path in paths) for cell in found.cells]
        return sum(one != other for one, other in itertools.pairwise(seen))

    assert changes("model.base") == 1
    assert changes("model.base", "loras.files") == 3
