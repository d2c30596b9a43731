"""The doctor's judgement on made-up machines: what is fine, what is slow, what cannot work, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine import doctor, machine
from engine.machine import Facts, Gpu, Package, Torch

GIB = 1024**3
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
ROCM = ("gfx908", "gfx90a", "gfx1030", "gfx1100")
RTX_4070 = Gpu("NVIDIA GeForce RTX 4070", "sm_89", 12 * GIB)
GTX_1060 = Gpu("NVIDIA GeForce GTX 1060", "sm_61", 6 * GIB)
RX_7900 = Gpu("AMD Radeon RX 7900 XTX", "gfx1100", 24 * GIB)

GOOD = Facts(
    python=(3, 12, 4),
    system="Linux x86_64",
    torch=Torch("2.13.0+cu130", "cuda", "13.0", CU130, (RTX_4070,)),
    nvidia_driver="580.95.05",
    nvidia_card=True,
    amd_driver=False,
    bitsandbytes=Package("0.50.2", note="AdamW8bit works on cuda"),
    torchvision=Package("0.28.0"),
    packages_pinned=16,
    packages_differing=(),
    ram_total_bytes=32 * GIB,
    ram_available_bytes=20 * GIB,
    disk_free_bytes=200 * GIB,
)
CPU_ONLY = replace(GOOD, torch=Torch("2.13.0+cpu"), nvidia_driver=None, nvidia_card=False)


def findings(facts: Facts) -> dict[str, doctor.Line]:
    """The lines that are not fine, by name."""
    return {line.name: line for line in doctor.examine(facts) if line.mark != "ok"}


@pytest.mark.parametrize("facts", [GOOD, CPU_ONLY], ids=["good GPU", "no GPU"])
def test_a_healthy_machine_has_nothing_to_mend(facts: Facts) -> None:
    assert findings(facts) == {}
    assert not any(line.remedy for line in doctor.examine(facts))


CASES = {
    "python too new": (replace(GOOD, python=(3, 14, 0)), "Python", "fail", "PYTHON="),
    "a package missing": (replace(GOOD, packages_differing=("toml is missing",)), "packages", "fail", "./setup.sh"),
    "another version": (replace(GOOD, packages_differing=("toml is 1, not 2",)), "packages", "warn", "./setup.sh"),
    "torch broken": (replace(GOOD, torch=Torch(error="OSError: libc")), "torch", "fail", "./setup.sh"),
    "card too new for the build": (
        replace(GOOD, torch=replace(GOOD.torch, cuda="12.6", kernels=CU126, gpus=(Gpu("RTX 5090", "sm_120", GIB),))),
        "torch",
        "fail",
        "--torch cuda",
    ),
    "card too old for the build": (
        replace(GOOD, torch=replace(GOOD.torch, gpus=(GTX_1060,))),
        "torch",
        "fail",
        "--torch cuda",
    ),
    "card too old for any build": (
        replace(GOOD, torch=replace(GOOD.torch, gpus=(Gpu("Tesla K80", "sm_37", GIB),))),
        "torch",
        "fail",
        "--torch cpu",
    ),
    "a second card too old": (
        replace(GOOD, torch=replace(GOOD.torch, gpus=(RTX_4070, GTX_1060))),
        "torch",
        "warn",
        "--torch cuda",
    ),
    "AMD card unknown to the build": (
        replace(CPU_ONLY, torch=Torch("2.13.0+rocm7.2", "rocm", None, ROCM, (Gpu("780M", "gfx1103", GIB),))),
        "torch",
        "fail",
        "--torch cpu",
    ),
    "CPU build beside an NVIDIA card": (
        replace(CPU_ONLY, nvidia_driver="580.1", nvidia_card=True),
        "torch",
        "warn",
        "./setup.sh --torch cuda",
    ),
    "CPU build beside an AMD card": (replace(CPU_ONLY, amd_driver=True), "torch", "warn", "./setup.sh --torch rocm"),
    "GPU that does not answer": (
        replace(GOOD, torch=replace(GOOD.torch, gpus=())),
        "torch",
        "fail",
        "./setup.sh --torch cpu",
    ),
    "driver too old": (replace(GOOD, nvidia_driver="550.54.14"), "driver", "fail", "580 or newer"),
    "driver gone": (replace(GOOD, nvidia_driver=None), "driver", "fail", "restart"),
    "card without a driver": (replace(CPU_ONLY, nvidia_card=True), "driver", "warn", "Install NVIDIA's driver"),
    "bitsandbytes broken": (
        replace(GOOD, bitsandbytes=Package(error="RuntimeError: x")),
        "bitsandbytes",
        "warn",
        "all others work",
    ),
    "torchvision broken": (replace(GOOD, torchvision=Package(error="x")), "torchvision", "fail", "./setup.sh"),
    "little RAM": (replace(GOOD, ram_available_bytes=3 * GIB), "RAM", "warn", "Close other programs"),
    "no RAM": (replace(GOOD, ram_available_bytes=GIB // 2), "RAM", "fail", "Close other programs"),
    "little disk": (replace(GOOD, disk_free_bytes=5 * GIB), "disk", "warn", "another disk"),
    "no disk": (replace(GOOD, disk_free_bytes=GIB // 10), "disk", "fail", "Make room"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_off_is_marked_with_its_remedy(case: str) -> None:
    facts, name, mark, remedy = CASES[case]
    found = findings(facts)
    assert list(found) == [name]
    assert found[name].mark == mark
    assert remedy in found[name].remedy


def test_an_old_driver_is_enough_for_an_older_cuda() -> None:
    torch = Torch("2.13.0+cu126", "cuda", "12.6", CU126, (GTX_1060,))
    assert findings(replace(GOOD, torch=torch, nvidia_driver="535.1")) == {}


def test_an_amd_card_that_the_build_knows_is_fine() -> None:
    torch = Torch("2.13.0+rocm7.2", "rocm", None, ROCM, (RX_7900,))
    facts = replace(CPU_ONLY, torch=torch, amd_driver=True)
    assert findings(facts) == {}
    assert "RX 7900 XTX (24 GiB, gfx1100)" in doctor.torch_line(facts).text


def test_a_torchvision_without_its_compiled_operators_is_fine_and_said() -> None:
    line = doctor.torchvision_line(replace(GOOD, torchvision=Package("0.28.0", note="declared")))
    assert (line.mark, line.text) == ("ok", "0.28.0 (declared)")


@pytest.mark.parametrize(
    ("kernels", "card", "runs"),
    [
        (["sm_86"], "sm_86", True),
        (["sm_80"], "sm_86", True),  # same generation, newer card
        (["sm_89"], "sm_86", False),  # same generation, older card
        (["sm_80"], "sm_90", False),  # another generation
        (["compute_80"], "sm_120", True),  # portable code, compiled by the driver
        (["compute_90"], "sm_86", False),
        (["sm_90a"], "sm_90", False),  # only for exactly that
        (["compute_90a"], "sm_100", False),
        (["gfx1030"], "gfx1030", True),
        (["gfx1030"], "gfx1031", False),
        (["gfx90a"], "gfx90a", True),
        ([], "sm_86", False),
    ],
)
def test_kernels_run_on_cards_as_nvidia_and_amd_define_it(kernels: list[str], card: str, runs: bool) -> None:
    assert doctor.carries_kernels(kernels, card) is runs


def test_the_exit_code_and_the_json_say_whether_training_can_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for facts, code in ((GOOD, 0), (replace(GOOD, disk_free_bytes=5 * GIB), 0), (replace(GOOD, python=(3, 9, 0)), 2)):
        monkeypatch.setattr(doctor, "probe", lambda facts=facts: facts)
        assert doctor.main(["--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert told["works"] is (code == 0)
        assert [line["name"] for line in told["lines"]] == [line.name for line in doctor.examine(facts)]


def test_a_remedy_stands_below_its_line_in_plain_ascii_too() -> None:
    lines = doctor.examine(replace(GOOD, bitsandbytes=Package(error="broken")))
    assert "\n! bitsandbytes  does not work (broken)\n                → Run ./setup.sh" in doctor.render(lines)
    assert doctor.render(lines, ascii_only=True).isascii()


def test_an_nvidia_card_is_seen_without_its_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (("0", "0x8086", "0x030000"), ("1", "0x10de", "0x040300"), ("2", "0x10de", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert machine._nvidia_card(tmp_path)
    (tmp_path / "2" / "class").unlink()
    assert not machine._nvidia_card(tmp_path)


def test_this_machine_can_train() -> None:
    facts = machine.probe()
    failed = [line for line in doctor.examine(facts) if line.mark == "fail"]
    assert failed == []
    assert facts.bitsandbytes.error is None
