"""Pins are read as pip reads them; a package with missing or cut files is found and forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import installed

REQUIREMENTS = """# a comment
torch==2.13.0                   # why
pyright[nodejs]==1.1.414
numpy==2.4.6 ; python_version >= "3.11" # arrays
numpy==2.2.6 ; python_version < "3.11"
"""


def package(site: Path, name: str, content: str = "whole = True\n") -> Path:
    """Write a package as pip leaves it behind."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (site / name).mkdir()
    (site / name / "odd, name.py").write_text(content)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    rows = [f'"{name}/odd, name.py",sha256=x,{len(content)}', f"{name}/__pycache__/gone.pyc,,", f"{info.name}/RECORD,,"]
    (info / "RECORD").write_text("\n".join(rows) + "\n")
    return info


@pytest.mark.parametrize(("python", "numpy"), [((3, 10), "2.2.6"), ((3, 11), "2.4.6"), ((3, 13), "2.4.6")])
def test_pins_depend_on_the_python_version(tmp_path: Path, python: tuple[int, int], numpy: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(REQUIREMENTS)
    assert installed.pinned(file, python) == {"torch": "2.13.0", "pyright": "1.1.414", "numpy": numpy}


def test_missing_and_differing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"torch": "2.13.0+cpu", "numpy": "2.0.0"}

    def version(name: str) -> str:
        if name not in have:
            raise installed.metadata.PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(installed.metadata, "version", version)
    wanted = {"torch": "2.13.0", "numpy": "2.4.6", "toml": "0.10.2"}
    assert installed.differing(wanted) == ["numpy is 2.0.0, not 2.4.6", "toml is missing"]


def test_a_whole_package_is_left_alone(tmp_path: Path) -> None:
    info = package(tmp_path, "whole")
    assert installed.mend(tmp_path) == []
    assert info.is_dir()


@pytest.mark.parametrize("damage", ["file gone", "file cut short", "no RECORD", "no METADATA"])
def test_a_damaged_package_is_forgotten_and_others_stay(tmp_path: Path, damage: str) -> None:
    package(tmp_path, "whole")
    info = package(tmp_path, "damaged")
    code = tmp_path / "damaged" / "odd, name.py"
    if damage == "file gone":
        code.unlink()
    elif damage == "file cut short":
        code.write_text("who")
    else:
        (info / damage.removeprefix("no ")).unlink()
    assert installed.incomplete(tmp_path) == [info]
    assert installed.mend(tmp_path) == ["damaged-1.0.dist-info"]
    assert installed.incomplete(tmp_path) == []
    assert (tmp_path / "whole-1.0.dist-info").is_dir()


def test_what_an_interrupted_pip_left_behind_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "~orch").mkdir()
    (tmp_path / "~oml.py").write_text("")
    assert sorted(installed.mend(tmp_path)) == ["~oml.py", "~orch"]
    assert list(tmp_path.iterdir()) == []
