"""setup.sh and the doors on made-up machines: a stub plays Python and pip (stub_python.py), the shell is real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOORS = ("setup.sh", "gui.sh", "train.sh", "requirements.txt", "requirements-dev.txt", "engine/installed.py")
TOOLS = "bash env dirname cat awk cmp tail grep sed rm mkdir mv cp df tee uname sleep"
CPU = ["pip", "torch==2.13.0+cpu"]
REQUIREMENTS = ["pip", "requirements.txt"]
REAL = f'"{sys.executable}" -E -S'  # without site-packages Python starts twice as fast
STUB = f'[ "$1" = -c ] && exec {REAL} "$@"; exec {REAL} "{ROOT}/tests/stub_python.py" "$0" "$@"'
INDEX = "https://download.pytorch.org/whl"


@dataclass
class Machine:
    """A folder with Atelier's doors, and a PATH that holds only the named programs."""

    folder: Path
    home: Path
    programs: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, cwd: Path | None = None, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *self.command(words)],
            cwd=cwd or self.folder.parent,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", *self.command(words)],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def command(self, words: tuple[str, ...]) -> list[str]:
        return [str(self.folder / words[0]), *words[1:]]

    def asked(self) -> list[list[str]]:
        """What the stub was asked, without the doctor; then forgotten."""
        log = self.home / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [words for words in map(json.loads, lines) if words != ["-m", "engine", "doctor"]]

    def has(self, path: str, text: str = "") -> None:
        """Put a file into the made-up /proc, /sys, /opt."""
        file = self.home / "system" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def program(self, name: str, script: str) -> None:
        file = self.programs / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "a place" / "Atelier ü"
    for name in DOORS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in TOOLS.split():
        found = shutil.which(tool)
        assert found, tool
        (programs / tool).symlink_to(found)
    environment = {
        "PATH": str(programs),
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "STUB_LOG": str(tmp_path / "log"),
        "ATELIER_SYSTEM_ROOT": str(tmp_path / "system"),
    }
    made = Machine(folder, tmp_path, programs, environment)
    made.program("python3", STUB)
    return made


def set_up(machine: Machine, *words: str) -> list[list[str]]:
    result = machine.run("setup.sh", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    return machine.asked()


def test_the_first_set_up_makes_everything_and_ends_with_the_doctor(machine: Machine) -> None:
    result = machine.run("setup.sh")
    assert result.returncode == 0, result.stderr
    assert machine.asked() == [["venv"], CPU, REQUIREMENTS]
    assert result.stdout.rstrip().endswith("the doctor was here")


@pytest.mark.slow
def test_a_second_set_up_asks_for_nothing_and_takes_under_two_seconds(machine: Machine) -> None:
    set_up(machine)
    began = time.monotonic()
    assert set_up(machine) == []
    assert set_up(machine, "--if-needed") == []
    assert time.monotonic() - began < 4


SMI = 'case "$*" in *compute_cap*) echo "{}" ;; esac'
MACHINES: dict[str, tuple[dict[str, str], str, str]] = {  # files, what nvidia-smi answers, torch
    "nothing": ({}, "", "torch==2.13.0+cpu"),
    "nvidia driver that does not answer": ({"proc/driver/nvidia/version": "NVRM"}, "", "torch===2.13.0"),
    "ampere": ({}, "8.6, 580.95.05", "torch===2.13.0"),
    "pascal": ({}, "6.1, 580.95.05", "torch==2.13.0+cu126"),
    "ada with an old driver": ({}, "8.9, 550.54.14", "torch==2.13.0+cu126"),
    "blackwell with an old driver": ({}, "12.0, 570.1", "torch===2.13.0"),
    "an old and a new card": ({}, "6.1, 580.1\n8.9, 580.1", "torch===2.13.0"),
    "nvidia-smi without a card": ({}, "No devices were found", "torch==2.13.0+cpu"),
    "radeon": (
        {"sys/class/kfd/kfd/topology/nodes/1/properties": "simd_count 192\ngfx_target_version 110000\n"},
        "",
        "torch==2.13.0+rocm7.2",
    ),
    "graphics in an AMD processor": (
        {"sys/class/kfd/kfd/topology/nodes/1/properties": "gfx_target_version 100306\n"},
        "",
        "torch==2.13.0+cpu",
    ),
    "rocm without a kernel to ask": ({"opt/rocm/.info/version": "7.2"}, "", "torch==2.13.0+rocm7.2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_torch_is_picked_for_the_machine(machine: Machine, name: str) -> None:
    files, smi, torch = MACHINES[name]
    for path, text in files.items():
        machine.has(path, text)
    if smi:
        machine.program("nvidia-smi", SMI.format(smi))
    machine.program("uname", "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac")
    asked = set_up(machine)
    assert asked[1][1] == torch


@pytest.mark.slow
def test_a_chosen_build_wins_over_the_machine_and_is_kept(machine: Machine) -> None:
    machine.program("nvidia-smi", SMI.format("8.6, 580.95.05"))
    assert CPU in set_up(machine, "--torch", "cpu")
    assert set_up(machine) == []
    assert set_up(machine, "--if-needed") == []


@pytest.mark.slow
def test_another_build_starts_a_fresh_environment(machine: Machine) -> None:
    set_up(machine)
    both = ["torch==2.13.0+rocm7.2", "torchvision==0.28.0+rocm7.2", f"{INDEX}/rocm7.2"]
    assert set_up(machine, "--torch=rocm") == [["venv"], ["pip", *both], REQUIREMENTS]


def test_without_a_cpu_wheel_at_hand_torchs_own_index_is_asked(machine: Machine) -> None:
    first = ["pip", "torch==2.13.0+cpu"]
    second = ["pip", "torch==2.13.0+cpu", "torchvision==0.28.0+cpu", f"{INDEX}/cpu"]
    result = machine.run("setup.sh", environment={"STUB_LACKS": "torch==2.13.0+cpu"})
    assert machine.asked() == [["venv"], first, second]
    assert result.returncode == 1


def test_a_machine_without_a_gpu_never_gets_the_cuda_build_in_silence(machine: Machine) -> None:
    result = machine.run("setup.sh", environment={"STUB_LACKS": "torch==2.13.0+cpu"})
    assert not [words for words in machine.asked() if "torch==2.13.0" in words or "torch===2.13.0" in words]
    assert "./setup.sh --torch cuda" in result.stderr
    assert "setup.log" in result.stderr
    assert not (machine.folder / ".venv/ready.txt").exists()


@pytest.mark.slow
def test_a_failed_package_is_named_with_a_remedy_and_the_next_set_up_goes_on(machine: Machine) -> None:
    set_up(machine)
    (machine.folder / "requirements.txt").write_text("toml==0.10.3\n")
    real = machine.folder / ".venv/bin/python"
    kept = real.read_text()
    full = 'case "$*" in *requirements*) echo "No space left on device"; exit 1 ;; esac'
    real.write_text(f"#!/bin/sh\n{full}\n{STUB}\n")
    result = machine.run("setup.sh")
    assert result.returncode == 1
    assert "The disk is full. Make room" in result.stderr
    real.write_text(kept)
    machine.asked()
    assert set_up(machine) == [REQUIREMENTS]


@pytest.mark.slow
def test_changed_requirements_are_installed_into_the_same_environment(machine: Machine) -> None:
    set_up(machine)
    with (machine.folder / "requirements.txt").open("a") as file:
        file.write("# one more\n")
    assert set_up(machine, "--if-needed") == [REQUIREMENTS]


@pytest.mark.slow
def test_what_tests_need_is_added_once(machine: Machine) -> None:
    set_up(machine)
    assert set_up(machine, "--dev") == [REQUIREMENTS, ["pip", "requirements-dev.txt"]]
    assert set_up(machine, "--dev") == []
    assert set_up(machine) == []


@pytest.mark.slow
def test_a_set_up_killed_in_the_middle_is_finished_by_the_next(machine: Machine) -> None:
    killed = machine.start("setup.sh", STUB_SLEEP="60")
    log = machine.home / "log"
    deadline = time.monotonic() + 20
    while not log.exists() or "torch" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=20)
    machine.asked()
    assert set_up(machine) == [CPU, REQUIREMENTS]


@pytest.mark.slow
def test_a_package_with_missing_or_cut_files_is_put_back(machine: Machine) -> None:
    set_up(machine)
    site = machine.folder / ".venv/lib/python3.11/site-packages"
    (site / "torch.py").write_text("")
    (site / "toml.py").unlink()
    assert set_up(machine) == [CPU, REQUIREMENTS]
    assert (site / "toml.py").exists()


@pytest.mark.slow
def test_an_environment_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    set_up(machine)
    (machine.folder / ".venv/bin/python").unlink()
    assert set_up(machine, "--if-needed") == [["venv"], CPU, REQUIREMENTS]


@pytest.mark.slow
def test_two_set_ups_at_once_do_the_work_once(machine: Machine) -> None:
    both = [machine.start("setup.sh", STUB_SLEEP="0.5") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(machine.asked()) == sorted([["venv"], CPU, REQUIREMENTS])
    assert sum("waiting for it" in output for output in outputs) == 1


def test_without_a_fitting_python_the_packages_are_named(machine: Machine) -> None:
    machine.program("python3", 'case $1 in --version) echo "Python 3.9.2" ;; *) exit 1 ;; esac')
    machine.program("apt-get", "exit 1")
    result = machine.run("setup.sh")
    assert result.returncode == 1
    assert "3.10 to 3.13" in result.stderr and "Python 3.9.2" in result.stderr
    assert "sudo apt install python3 python3-venv" in result.stderr


def test_without_the_module_venv_its_package_is_named(machine: Machine) -> None:
    machine.program("python3", f'case "$*" in *ensurepip*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac')
    result = machine.run("setup.sh")
    assert result.returncode == 1
    assert f"python3.{sys.version_info.minor}-venv" in result.stderr


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (["--fast"], {}, "--fast: there is no such option."),
        (["--torch", "tpu"], {}, "choose cpu, cuda or rocm (got 'tpu')"),
        (["--torch"], {}, "choose cpu, cuda or rocm"),
        ([], {"PYTHON": "/nowhere/python"}, "PYTHON=/nowhere/python: there is no such program."),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(
    machine: Machine, words: list[str], environment: dict[str, str], sentence: str
) -> None:
    result = machine.run("setup.sh", *words, environment=environment)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert not (machine.folder / ".venv").exists()


@pytest.mark.slow
def test_an_unhappy_doctor_fails_the_set_up_but_does_not_stop_the_doors(machine: Machine) -> None:
    assert machine.run("setup.sh", environment={"STUB_DOCTOR": "2"}).returncode != 0
    shutil.rmtree(machine.folder / ".venv")
    assert machine.run("setup.sh", "--if-needed", environment={"STUB_DOCTOR": "2"}).returncode == 0


def test_gui_sh_sets_up_once_and_hands_its_options_on(machine: Machine) -> None:
    gui = str(machine.folder / "gui.py")
    assert machine.run("gui.sh", "--port", "7999").returncode == 0
    assert machine.asked() == [["venv"], CPU, REQUIREMENTS, [gui, "--port", "7999"]]
    assert machine.run("gui.sh", "--no-browser").returncode == 0
    assert machine.asked() == [[gui, "--no-browser"]]


@pytest.mark.slow
def test_train_sh_takes_paths_from_the_callers_folder(machine: Machine) -> None:
    set_up(machine)
    elsewhere = machine.home / "my presets"
    elsewhere.mkdir()
    (elsewhere / "mine.json").write_text("{}")
    engine = ["-m", "engine", "train"]
    cases = [
        (["mine.json"], [f"{elsewhere}/mine.json"]),
        (["presets/demo.json", "--set", "adapter.rank=4"], ["presets/demo.json", "--set", "adapter.rank=4"]),
        (["mine.json", "--run", "out"], [f"{elsewhere}/mine.json", "--run", f"{elsewhere}/out"]),
        (["/there/other.json", "--run", "/there/run"], ["/there/other.json", "--run", "/there/run"]),
        ([], []),
    ]
    for words, expected in cases:
        assert machine.run("train.sh", *words, cwd=elsewhere).returncode == 0
        assert machine.asked() == [[*engine, *expected]]
    assert machine.run("train.sh", "presets/demo.json", "--run", "runs/x", cwd=machine.folder).returncode == 0
    assert machine.asked() == [[*engine, "presets/demo.json", "--run", "runs/x"]]


def test_all_doors_and_requirements_name_the_same_torch() -> None:
    pins = set()
    for name in ("setup.sh", "requirements.txt", "launchers/gui.bat"):
        text = (ROOT / name).read_text(encoding="utf-8")
        torch = re.search(r"\b(?:TORCH=|torch==)(\d+\.\d+\.\d+)", text)
        torchvision = re.search(r"\b(?:TORCHVISION=|torchvision==)(\d+\.\d+\.\d+)", text)
        assert torch and torchvision, name
        pins.add((torch[1], torchvision[1]))
    assert len(pins) == 1


def test_every_line_of_the_requirements_is_pinned_and_the_first_of_a_package_says_why() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        told: set[str] = set()
        for line in (ROOT / name).read_text(encoding="ascii").splitlines():
            if line and not line.startswith("#"):
                package = line.partition("==")[0]
                assert re.match(r"[a-z-]+(\[[a-z]+\])?==\d", line), line
                assert package in told or "# " in line, line
                told.add(package)
