"""Plays Python for setup.sh: makes environments, "installs" packages and answers the doctor without doing any of it.

Called by a shell script named python3: `stub_python.py PROGRAM ARGUMENTS` (`-c` goes to the real Python). What it was
asked is appended, a JSON list a line, to $STUB_LOG. $STUB_LACKS names requirements that cannot be found, $STUB_SLEEP
the seconds that an install takes, $STUB_DOCTOR the doctor's exit code.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main(program: Path, words: list[str]) -> int:
    site = program.parent.parent / "lib/python3.11/site-packages"
    if words[:2] == ["-m", "venv"]:
        return make_venv(program, Path(words[-1]))
    if words[:2] == ["-m", "pip"]:
        return pip(site, words[2:])
    if words[:2] == ["-m", "engine"] or words[0].endswith("gui.py"):
        return say(words)
    if words[0] == "-I":
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from engine import installed

        broken = installed.mend(site) if "--mend" in words else [info.name for info in installed.incomplete(site)]
        print(" ".join(broken))
        return 0
    raise ValueError(f"setup.sh asked Python something new: {words}")


def make_venv(program: Path, folder: Path) -> int:
    say(["venv"])
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    shutil.copy(program, folder / "bin/python")
    install(folder / "lib/python3.11/site-packages", "pip", "1.0")
    return 0


def pip(site: Path, words: list[str]) -> int:
    if words[0] != "install":
        return 0
    asked = [word for word in words[1:] if "==" in word]
    options = [word for word in words if "://" in word] + [Path(word).name for word in words if word.endswith(".txt")]
    say(["pip", *asked, *options])
    time.sleep(float(os.environ.get("STUB_SLEEP", "0")))
    for requirement in asked:
        if requirement in os.environ.get("STUB_LACKS", "").split():
            print(f"ERROR: No matching distribution found for {requirement}")
            return 1
    for requirement in asked:
        name, _, version = requirement.replace("===", "==").partition("==")
        install(site, name, version)
    if "requirements.txt" in options:
        install(site, "toml", "0.10.2")
    return 0


def install(site: Path, name: str, version: str) -> None:
    for old in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text("whole = True\n")
    (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{name}.py,,13\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


def say(words: list[str]) -> int:
    with Path(os.environ["STUB_LOG"]).open("a") as log:
        log.write(json.dumps(words) + "\n")
    if words[:3] == ["-m", "engine", "doctor"]:
        print("the doctor was here")
        return int(os.environ.get("STUB_DOCTOR", "0"))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
