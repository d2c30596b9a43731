"""What a training folder holds, and a sentence for everything that is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REFERENCE
from PIL import Image

from engine.data.folders import natural_order, repeats_and_name
from engine.data.scan import CaptionReading, Scan, scan
from engine.errors import Problem

FOLDER_NAMES = json.loads((REFERENCE / "steps.json").read_text(encoding="utf-8"))["folder_names"]


def picture(path: Path, caption: str | bytes | None = None, size_px: tuple[int, int] = (40, 30)) -> Path:
    """A small image at `path`, with a .txt file beside it where `caption` is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}.get(path.suffix.lower())
    Image.new("RGB", size_px, (9, 9, 9)).save(path, kind or path.suffix[1:].upper())
    if caption is not None:
        path.with_suffix(".txt").write_bytes(caption.encode() if isinstance(caption, str) else caption)
    return path


def look(folder: Path, extension: str = ".txt") -> Scan:
    return scan(folder, CaptionReading(extension))


def only(problems: tuple[Problem, ...]) -> str:
    """The one sentence there is, with the folder or file it is about."""
    assert len(problems) == 1, [str(problem) for problem in problems]
    return str(problems[0])


def captions_of(found: Scan) -> dict[str, str]:
    return {item.path.name: item.caption for subset in found.subsets for item in subset.items}


def test_all_lines_are_read_where_they_are_asked_for_and_told_where_not(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", "one\n\n two \nthree")
    assert captions_of(scan(tmp_path, CaptionReading(all_lines=True))) == {"a.png": "one\ntwo\nthree"}
    found = look(tmp_path)
    assert captions_of(found) == {"a.png": "one"}
    assert "1 caption file with several lines" in only(found.warnings)


def test_a_second_caption_is_for_the_second_encoder_only(tmp_path: Path):
    for name in ("a", "b"):
        picture(tmp_path / "1_x" / f"{name}.png", "first")
    (tmp_path / "1_x" / "a.txt2").write_text("second")
    found = scan(tmp_path, CaptionReading(second_extension=".txt2"))
    assert [item.second_caption for item in found.subsets[0].items] == ["second", None]
    assert "1 of 2 images without a .txt2 file" in only(found.warnings)
    assert [item.second_caption for item in look(tmp_path).subsets[0].items] == [None, None]


@pytest.mark.parametrize(("name", "meaning"), FOLDER_NAMES.items())
def test_folder_names_mean_what_they_mean_in_the_reference(name: str, meaning):
    expected = None if meaning == "ignored" else (meaning["num_repeats"], meaning["class_tokens"])
    assert repeats_and_name(name) == expected


def test_every_leaf_at_any_depth_is_a_subset(tmp_path: Path):
    picture(tmp_path / "10_cat" / "a.png")
    picture(tmp_path / "animals" / "wild" / "3_big dog" / "b.png")
    picture(tmp_path / "animals" / "5" / "c.png", "named")
    found = look(tmp_path)
    assert [(s.name, s.repeats, s.class_token, len(s.items)) for s in found.subsets] == [
        ("10_cat", 10, "cat", 1),
        ("animals/5", 5, "", 1),
        ("animals/wild/3_big dog", 3, "big dog", 1),
    ]
    assert (found.problems, found.warnings, found.broken) == ((), (), ())


def test_the_given_folder_may_be_the_subset_itself(tmp_path: Path):
    picture(tmp_path / "7_zkt" / "a.png")
    subset = look(tmp_path / "7_zkt").subsets[0]
    assert (subset.name, subset.repeats, subset.class_token, subset.folder) == ("7_zkt", 7, "zkt", tmp_path / "7_zkt")


def test_regularization_is_marked(tmp_path: Path):
    picture(tmp_path / "1_cat" / "a.png")
    assert scan(tmp_path, regularization=True).subsets[0].is_regularization


def test_hidden_and_system_files_and_folders_are_passed_over(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png")
    for name in (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", "thumbs"):
        picture(tmp_path / "1_x" / name / "hidden.png")
        picture(tmp_path / name / "9_y" / "hidden.png")
    picture(tmp_path / "1_x" / "._a.png")
    for name in ("Thumbs.db", ".DS_Store", "notes.md"):
        (tmp_path / "1_x" / name).write_bytes(b"?")
    found = look(tmp_path)
    assert list(captions_of(found)) == ["a.png"]
    assert found.warnings == ()


@pytest.mark.parametrize(
    "suffix", [".png", ".PNG", ".Jpg", ".jpeg", ".webp", ".WebP", ".bmp", ".tif", ".Tiff", ".avif"]
)
def test_every_suffix_is_read_in_any_letter_case(tmp_path: Path, suffix: str):
    picture(tmp_path / "1_x" / f"a{suffix}", "here", (44, 22))
    item = look(tmp_path).subsets[0].items[0]
    assert (item.size_px, item.caption, item.caption_path) == ((44, 22), "here", tmp_path / "1_x" / "a.txt")


def test_sizes_are_after_exif_rotation(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "1_x" / "a.jpg"
    path.parent.mkdir()
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    assert look(tmp_path).subsets[0].items[0].size_px == (30, 40)


def test_items_come_in_natural_order(tmp_path: Path):
    for name in ("b.png", "img10.png", "img9.png", "img1.png"):
        picture(tmp_path / "1_x" / name)
    assert list(captions_of(look(tmp_path))) == ["b.png", "img1.png", "img9.png", "img10.png"]
    assert sorted(["10_a", "9_b", "a9", "a10"], key=natural_order) == ["9_b", "10_a", "a9", "a10"]


def test_hundreds_of_files_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.data.scan._SLOW_SECONDS_PER_FILE", 0.0)
    first = picture(tmp_path / "1_x" / "0.png")
    for number in range(1, 300):
        (tmp_path / "1_x" / f"{number}.png").write_bytes(first.read_bytes())
        (tmp_path / "1_x" / f"{number}.txt").write_text(f"number {number}", encoding="utf-8")
    items = look(tmp_path).subsets[0].items
    assert [item.caption for item in items] == ["x", *(f"number {number}" for number in range(1, 300))]


@pytest.mark.parametrize(
    "name",
    ["图片 一", "🐈 cat", unicodedata.normalize("NFD", "zoë"), "  two  blanks ", "a%20'\"$;&(b)", "-rf", "x" * 200],
)
def test_names_of_any_kind_are_read(tmp_path: Path, name: str):
    picture(tmp_path / "1_名前 🐈" / f"{name}.png", "found")
    found = look(tmp_path)
    assert captions_of(found) == {f"{name}.png": "found"}
    assert found.subsets[0].class_token == "名前 🐈"


def test_a_name_that_is_no_text_is_named_readably(tmp_path: Path):
    path = picture(tmp_path / "1_x" / "a.png")
    picture(tmp_path / "1_x" / "b.png")
    os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.png")  # noqa: PTH104
    found = look(tmp_path)
    assert r"caf\xe9.png: has a name that is not valid UTF-8. Rename the file." in only(found.broken)
    assert list(captions_of(found)) == ["b.png"]


def test_linked_folders_are_read_once_even_in_circles(tmp_path: Path):
    picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "2_x").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "data")
    assert [subset.name for subset in look(tmp_path / "data").subsets] == ["2_x"]


def test_links_that_lead_to_themselves_do_not_stop_the_search(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png")
    (tmp_path / "1_x" / "loop").symlink_to(tmp_path / "1_x" / "loop")
    (tmp_path / "1_x" / "b.png").symlink_to(tmp_path / "1_x" / "b.png")
    found = look(tmp_path)
    assert list(captions_of(found)) == ["a.png"]
    assert "b.png" in only(found.broken)


# Captions


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_captions_with_a_mark_or_in_utf8_need_no_warning(tmp_path: Path, encoding: str):
    picture(tmp_path / "1_x" / "a.png", "ein Kätzchen 图".encode(encoding))
    found = look(tmp_path)
    assert captions_of(found) == {"a.png": "ein Kätzchen 图"}
    assert found.warnings == ()


def test_a_latin1_caption_is_read_and_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", "Kätzchen".encode("latin-1"))
    found = look(tmp_path)
    assert captions_of(found) == {"a.png": "Kätzchen"}
    assert "1 caption file not in UTF-8, read as Windows-1252: a.txt." in only(found.warnings)


def test_an_empty_caption_file_means_an_empty_caption_and_is_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", b"")
    picture(tmp_path / "1_x" / "b.png", b" \n\t\n")
    found = look(tmp_path)
    assert captions_of(found) == {"a.png": "", "b.png": ""}
    assert "2 caption files with nothing in it, trained with an empty caption: a.txt, b.txt." in only(found.warnings)


def test_without_any_caption_file_the_class_is_the_caption_and_nothing_is_said(tmp_path: Path):
    picture(tmp_path / "1_zkt cat" / "a.png")
    found = look(tmp_path)
    item = found.subsets[0].items[0]
    assert (item.caption, item.caption_path, found.warnings) == ("zkt cat", None, ())


def test_a_missing_caption_among_others_is_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", "here")
    picture(tmp_path / "1_x" / "b.png")
    assert "1 of 2 images without a .txt file, so 'x', from the folder's name, is used: b.png." in only(
        look(tmp_path).warnings
    )


def test_no_caption_and_no_class_is_named(tmp_path: Path):
    picture(tmp_path / "5" / "a.png")
    assert "so an empty caption is used: a.png" in only(look(tmp_path).warnings)


def test_captions_under_another_suffix_are_pointed_to_once_with_counts(tmp_path: Path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "1_x" / f"{name}.png", "unread")
    picture(tmp_path / "1_x" / "d.png")
    sentence = only(look(tmp_path, ".caption").warnings)
    assert "4 of 4 images without a .caption file" in sentence
    assert "3 .txt files of these names lie there. Set captions.extension to .txt." in sentence


def test_two_images_of_one_stem_are_both_used_and_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", "shared")
    picture(tmp_path / "1_x" / "a.jpg")
    found = look(tmp_path)
    assert captions_of(found) == {"a.jpg": "shared", "a.png": "shared"}
    assert "share a caption file (a.txt): a.jpg and a.png. All are used" in only(found.warnings)


def test_an_image_suffix_is_no_caption_suffix(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png")
    assert "captions.extension: is an image's (got .PNG)" in only(look(tmp_path, ".PNG").problems)


# Faults


def test_a_missing_folder_is_named_with_the_part_that_exists(tmp_path: Path):
    sentence = only(look(tmp_path / "no" / "such").problems)
    assert sentence.startswith(f"data.folder: there is no such folder (got {tmp_path / 'no' / 'such'})")
    assert f"The part that exists is {tmp_path}." in sentence


def test_a_whole_disk_is_never_searched():
    assert "is the whole disk, which is never searched (got /)" in only(look(Path("/")).problems)


def test_a_file_instead_of_a_folder_is_named(tmp_path: Path):
    path = picture(tmp_path / "a.png")
    assert f"is a file, not a folder (got {path})" in only(look(path).problems)
    assert "is a file, not a folder" in only(look(path / "below").problems)


def test_a_path_that_no_system_takes_is_named():
    assert "cannot be opened" in only(look(Path("x" * 300)).problems)
    assert "cannot be opened" in only(look(Path("a\0b")).problems)


def test_a_folder_without_images_is_told_what_to_hold(tmp_path: Path):
    assert "holds no images" in only(look(tmp_path).problems)
    (tmp_path / "10_cat").mkdir()
    assert "like 10_cat" in only(look(tmp_path).problems)
    found = scan(tmp_path, regularization=True)
    assert found.problems[0].where == "data.regularization_folder"


@pytest.mark.parametrize(("name", "remedy"), [("cat", "10_cat"), ("0_cat", "10_cat"), ("1.5_cat", "10_cat")])
def test_folders_without_repeats_are_a_problem_with_name_count_and_new_name(tmp_path: Path, name: str, remedy: str):
    picture(tmp_path / name / "a.png")
    picture(tmp_path / name / "b.png")
    sentence = only(look(tmp_path).problems)
    assert sentence.startswith(
        f"{tmp_path / name}: holds 2 images, but its name gives no repeats. Rename it to {remedy},"
    )


def test_images_in_the_training_folder_itself_are_to_be_put_into_a_subset(tmp_path: Path):
    picture(tmp_path / "photos" / "a.png")
    assert "holds 1 image, but its name gives no repeats. Put them into a sub-folder named 10_photos" in only(
        look(tmp_path / "photos").problems
    )


def test_folders_without_repeats_are_a_warning_beside_subsets(tmp_path: Path):
    picture(tmp_path / "10_cat" / "a.png")
    picture(tmp_path / "dog" / "b.png")
    found = look(tmp_path)
    assert found.problems == ()
    assert "Rename it to 10_dog" in only(found.warnings)
    assert "Until then they are left out." in only(found.warnings)


def test_many_folders_without_repeats_are_summed_up(tmp_path: Path):
    for number in range(30):
        picture(tmp_path / f"class{number}" / "a.png")
    problems = look(tmp_path).problems
    assert len(problems) == 11
    assert "20 more folders with 20 images" in problems[-1].message


def test_broken_files_are_named_and_the_rest_is_used(tmp_path: Path):
    picture(tmp_path / "1_x" / "good.png")
    (tmp_path / "1_x" / "empty.png").touch()
    (tmp_path / "1_x" / "text.png").write_text("no image")
    (tmp_path / "1_x" / "cut.png").write_bytes((tmp_path / "1_x" / "good.png").read_bytes()[:20])
    (tmp_path / "1_x" / "dead.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "1_x" / "pipe.png")  # opening it would wait for ever
    found = look(tmp_path)
    assert list(captions_of(found)) == ["good.png"]
    reasons = {Path(problem.where).name: problem.message for problem in found.broken}
    assert {name: message.split(".")[0] for name, message in reasons.items()} == {
        "cut.png": "ends in the middle of its header; the file is cut off",
        "empty.png": "is empty (0 bytes)",
        "text.png": "is not an image, whatever its name says",
        "dead.png": "is a link to a file that is not there, or no file at all",
        "pipe.png": "is a link to a file that is not there, or no file at all",
    }


def test_a_folder_of_broken_files_only_is_a_problem(tmp_path: Path):
    (tmp_path / "1_x").mkdir()
    (tmp_path / "1_x" / "a.png").touch()
    found = look(tmp_path)
    assert "has no usable image: the only image in it cannot be read" in only(found.problems)
    assert "is left out: its only image cannot be read" in only(found.warnings)


def test_an_image_too_large_to_decode_is_broken_not_a_crash(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png")
    path = picture(tmp_path / "1_x" / "large.png")
    content = bytearray(path.read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    assert "large.png: is too large to decode (got 30000 × 30000 px" in only(look(tmp_path).broken)


def test_images_of_formats_that_are_not_read_are_counted(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png")
    (tmp_path / "1_x" / "b.HEIC").touch()
    (tmp_path / "1_x" / "c.gif").touch()
    assert "files that are not read here (1 .gif, 1 .heic)" in only(look(tmp_path).warnings)


def test_a_year_as_repeats_is_questioned(tmp_path: Path):
    picture(tmp_path / "2024_holiday" / "a.png")
    assert "its name means 2,024 repeats of each image" in only(look(tmp_path).warnings)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of our own, looked at without the rights of root (which may read everything)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "1_x").mkdir()
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.chown(folder / "1_x", 65534, 65534)
            os.seteuid(65534)
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        (folder / "1_x").chmod(0o755)
        shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_named(unprivileged: Path):
    picture(unprivileged / "1_x" / "a.png")
    picture(unprivileged / "1_x" / "b.png").chmod(0)
    assert "b.png: cannot be read (Permission denied)" in only(look(unprivileged).broken)


def test_a_caption_that_may_not_be_read_is_named(unprivileged: Path):
    picture(unprivileged / "1_x" / "a.png", "x").with_suffix(".txt").chmod(0)
    assert "a.txt: cannot be read (Permission denied), so its image a.png has no caption" in only(
        look(unprivileged).broken
    )


def test_a_folder_that_may_not_be_opened_is_named(unprivileged: Path):
    (unprivileged / "1_x").chmod(0)
    assert "may not be opened by this user" in only(look(unprivileged / "1_x").problems)
    found = look(unprivileged)
    assert "1_x: cannot be opened (Permission denied)" in only(found.warnings)
    assert "holds no images" in only(found.problems)
