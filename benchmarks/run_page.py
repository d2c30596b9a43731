"""What the Run tab costs the page's program with a long run: opening it, and one look after each new step.

    python -m benchmarks.run_page [--steps 100000]

Aims: opened in less than 1 s, a look in less than 50 ms of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from engine import event_log, events
from engine.preset import Preset
from engine.run import create
from ui import run_list
from ui.run_answers import look

_LOOKS = 9


def _step(number: int) -> events.Step:
    return events.Step(number, 1 + number // 1000, 0.5 + 1 / number, {"unet": 1e-4, "text": 5e-5}, 1.0, 0.5, 4, 10**9)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        run_list.know_folder(folder)
        run = create(Preset(), Path(folder) / "long")
        log = event_log.EventLog(run.events)
        log.emit(events.Started("long", steps, 1 + steps // 1000, 1000, 0, 1, "cpu"))
        for number in range(1, steps + 1):
            log.emit(_step(number))
        begun = time.process_time()
        answer = look(str(run.path), "", {})
        print(f"opened in {time.process_time() - begun:.2f} s, {len(json.dumps(answer)) / 1000:.0f} kB sent")
        costs = []
        for number in range(steps + 1, steps + 1 + _LOOKS):
            log.emit(_step(number))
            seen = {name: part["digest"] for name, part in answer["parts"].items()}
            begun = time.process_time()
            look(str(run.path), "", seen)
            costs.append(time.process_time() - begun)
        print(f"a look after a step: median {statistics.median(costs) * 1000:.0f} ms of processor time")


if __name__ == "__main__":
    main()
