"""Starts one engine process a GPU on this machine and ends them together.

    python -m launchers.several --gpus 2 PRESET.json [--set section.name=value …] [--run FOLDER]

Each process is told its place by the variables that torchrun sets too, so `torchrun`, `accelerate launch` and Slurm
(slurm.sh) start the same engine. When one process dies, the others cannot go on: they are ended, and the run's log says
which one it was.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launchers import local

GRACE_SECONDS = 20.0  # for the others to notice by themselves, and for rank 0 to say so


def start(run_folder: Path, gpus: int) -> int:
    """Start the processes of a run and return the id of the one that watches them, at once. Raises OSError."""
    command = [sys.executable, "-m", "launchers.several", "--gpus", str(gpus), str(run_folder.resolve())]
    return local.start(run_folder, command=command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, watch, and return the exit code of the first process, or of the one that failed."""
    parser = argparse.ArgumentParser(prog="python -m launchers.several", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, required=True, help="how many processes, one GPU each")
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.gpus < 1:
        parser.error(f"--gpus must be at least 1 (got {chosen.gpus})")
    port = free_port()
    processes = [_start_one(rank, chosen.gpus, port, rest) for rank in range(chosen.gpus)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: _pass_on(processes, received))
    return watch(processes)


def _start_one(rank: int, count: int, port: int, rest: Sequence[str]) -> subprocess.Popen[bytes]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    environment = {**local.environment(os.environ), "MASTER_ADDR": "127.0.0.1"}
    environment |= {name: str(value) for name, value in place.items()}
    return subprocess.Popen([sys.executable, "-m", "engine", "train", *rest], cwd=local.ROOT, env=environment)


def watch(processes: Sequence[subprocess.Popen[bytes]], grace_seconds: float = GRACE_SECONDS) -> int:
    """Wait for all; once one has ended the others get `grace_seconds`, then are killed. Returns the exit code."""
    told, deadline = False, float("inf")
    while True:
        running = [process for process in processes if process.poll() is None]
        ended = [(process.returncode, rank) for rank, process in enumerate(processes) if process.returncode is not None]
        failed = sorted(found for found in ended if found[0])  # a killed one before those that ended because of it
        if failed and not told:
            print(_sentence(*failed[0], len(processes)), file=sys.stderr, flush=True)
            told = True
        if not running:
            break
        if ended and deadline == float("inf"):
            deadline = time.monotonic() + grace_seconds
        if time.monotonic() > deadline:
            _pass_on(running, signal.SIGKILL)
        time.sleep(0.2)
    first = processes[0].returncode
    return 1 if first < 0 else first


def _sentence(code: int, rank: int, count: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return (
        f"Process {rank + 1} of {count} {how}, so the others end too. What was saved is whole; resume the run "
        "folder to go on from the last state."
    )


def _pass_on(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
