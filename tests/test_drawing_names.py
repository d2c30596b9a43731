"""What names in prompts lead to: wildcard files and LoRA files."""

from __future__ import annotations

import pytest

from engine.drawing.lora_names import find_lora
from engine.drawing.wildcard_files import drawn_wildcards, has_wildcards
from engine.errors import UserError


@pytest.fixture
def wildcards(tmp_path):
    files = {
        "color.txt": "# colors\nred\n\ngreen\nblue\n",
        "animals/cat.txt": "a __color__ cat",
        "deep.txt": "{one|two} __animals/cat__",
        "self.txt": "x __self__",
        "empty.txt": "# nothing\n\n",
        "hair_color.txt": "black",
        "many.txt": "word " * 4000,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    return tmp_path


def test_each_seed_draws_its_own_and_always_the_same(wildcards):
    drawn = [drawn_wildcards("__color__ and __color__", seed, wildcards) for seed in range(40)]
    assert drawn == [drawn_wildcards("__color__ and __color__", seed, wildcards) for seed in range(40)]
    colors = ("red", "green", "blue")
    assert set(drawn) == {f"{one} and {other}" for one in colors for other in colors}


def test_files_in_files_and_choices_are_drawn(wildcards):
    assert drawn_wildcards("__hair_color__ hair", 1, wildcards) == "black hair"
    found = {drawn_wildcards("__deep__", seed, wildcards) for seed in range(60)}
    assert found == {f"{n} a {color} cat" for n in ("one", "two") for color in ("red", "green", "blue")}


@pytest.mark.parametrize("text", [">__<, ^__^", "under__score", "____", "a_b_c"])
def test_other_underscores_stay_text(wildcards, text):
    assert drawn_wildcards(text, 0, wildcards) == text and not has_wildcards(text)


FAULTS = {
    "__colour__": "Did you mean __color__",
    "__self__": "leads back to itself",
    "__empty__": "has no lines",
    "__latin__": "not UTF-8",
    "__animals/../../secret__": "there is no wildcard file",
    "__many__" * 6: "longer than 100,000 characters",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faulty_wildcards_are_sentences(wildcards, text):
    (wildcards.parent / "secret.txt").write_text("secret")
    with pytest.raises(UserError, match=FAULTS[text]):
        drawn_wildcards(text, 0, wildcards)


def test_without_a_folder_a_wildcard_is_a_sentence():
    with pytest.raises(UserError, match="no folder of wildcard files"):
        drawn_wildcards("__color__", 0, None)
    assert drawn_wildcards("{a|a}", 0, None) == "a"


@pytest.fixture
def loras(tmp_path):
    for name in ("one/Ship.safetensors", "one/style/ink.safetensors", "two/ship.safetensors", "two/a/x.safetensors",
                 "two/b/x.safetensors", "two/notes.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return [tmp_path / "one", tmp_path / "two"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Ship", "one/Ship"),
        ("ship", "one/Ship"),
        ("ink", "one/style/ink"),
        ("style/ink.safetensors", "one/style/ink"),
        ("STYLE\\INK", "one/style/ink"),
        ("a/x", "two/a/x"),
    ],
)
def test_a_name_leads_to_the_file(loras, tmp_path, name, place):
    assert find_lora(name, loras) == tmp_path / f"{place}.safetensors"


def test_case_tells_files_of_one_folder_apart(loras, tmp_path):
    (tmp_path / "one" / "style" / "ship.safetensors").touch()
    assert find_lora("ship", loras) == tmp_path / "one/style/ship.safetensors"


def test_missing_and_ambiguous_names_are_sentences(loras):
    with pytest.raises(UserError, match="Did you mean ink"):
        find_lora("inks", loras)
    with pytest.raises(UserError, match=r"several LoRAs are called x \(a/x, b/x\)"):
        find_lora("x", loras)
    with pytest.raises(UserError, match="No folder of LoRAs is given"):
        find_lora("x", [])
