"""Runs that were ended from outside, and what is left when nothing else is recognised."""

from __future__ import annotations

import signal

from engine.failures.kinds import Facts, Kind, less_memory


def _number(name: str, otherwise: int) -> int:
    """A signal's number; Windows lacks most."""
    return int(getattr(signal, name, otherwise))


def _killed(facts: Facts) -> bool:
    return facts.how == "killed"


ENDED: dict[str, Kind] = {
    "machine_restarted": Kind(
        cause="The machine was restarted or lost power while the run was going.",
        remedy="Resume: it goes on from the last saved state, as if nothing had happened.",
        seen="the machine was started after the run's last event",
        when=lambda facts: facts.how == "killed" and facts.booted_since,
    ),
    "killed_for_memory": Kind(
        cause="The system ended the run because the computer's own memory (RAM) was used up.",
        remedy="Close other programs or add swap; fewer caption draws, smaller batches and no other run at once need less. Then resume.",
        seen="signal 9 while the kernel's count of such kills rose; Slurm's oom_kill",
        when=lambda facts: (
            facts.how == "killed"
            and (
                (facts.exit_code in (-9, 137) and facts.memory_kills > 0)
                or any(
                    words in facts.last_words
                    for words in ("oom_kill", "oom-kill", "Out Of Memory", "Out of memory: Killed")
                )
            )
        ),
        fixes=less_memory,
    ),
    "time_limit": Kind(
        cause="The run was ended because its time limit was reached.",
        remedy="Resume in a new job; a checkpoint every so many minutes loses less. Ask for more time with sbatch --time.",
        seen="Slurm's DUE TO TIME LIMIT, signal SIGXCPU",
        signs=(r"DUE TO TIME LIMIT", r"CPU time limit exceeded"),
        signals=(_number("SIGXCPU", 24),),
        when=_killed,
        fixes=lambda facts: [{"run.save_every_minutes": 30}] if not facts.preset.run.save_every_minutes else [],
    ),
    "preempted": Kind(
        cause="The cluster took the machine back or somebody cancelled the job.",
        remedy="Resume in a new job: it goes on from the last saved state.",
        seen="Slurm's CANCELLED or DUE TO PREEMPTION",
        signs=(r"DUE TO PREEMPTION", r"slurmstepd: error: \*\*\* .*CANCELLED"),
        when=_killed,
    ),
    "bus_error": Kind(
        cause="A file that the run had in memory went away or shrank, or /dev/shm is full.",
        remedy="Leave the model and cache files alone while a run uses them, check the disk and /dev/shm, then resume.",
        seen="signal SIGBUS",
        signs=(r"Fatal Python error: Bus error", r"\bBus error\b"),
        signals=(_number("SIGBUS", 7),),
        when=_killed,
    ),
    "illegal_instruction": Kind(
        cause="This processor lacks an instruction that an installed package was built for.",
        remedy="Run ./setup.sh to install other builds; very old processors (without AVX2) cannot run this PyTorch.",
        seen="signal SIGILL",
        signs=(r"Fatal Python error: Illegal instruction", r"Illegal instruction \(core dumped\)"),
        signals=(_number("SIGILL", 4),),
        when=_killed,
    ),
    "crashed": Kind(
        cause="A compiled library crashed.",
        remedy="Resume once. If it comes again run ./setup.sh, update the graphics driver, and send the report.",
        seen="signal SIGSEGV, SIGABRT or SIGFPE",
        signs=(r"Segmentation fault", r"Fatal Python error", r"terminate called after throwing", r"core dumped"),
        signals=(_number("SIGSEGV", 11), _number("SIGABRT", 6), _number("SIGFPE", 8), 3221225477),
        when=_killed,
    ),
    "terminal_closed": Kind(
        cause="The terminal that the run was started in was closed, or the connection to it was lost.",
        remedy="Resume on the page, or in tmux or with nohup: such runs outlive their terminal.",
        seen="signal SIGHUP",
        signals=(_number("SIGHUP", 1),),
        when=_killed,
    ),
    "killed": Kind(
        cause="The run was ended from outside: somebody or the system killed its process, or the machine went down.",
        remedy="Resume: it goes on from the last saved state. If nobody did it, look whether memory ran out.",
        seen="the process is gone and said nothing",
        when=_killed,
    ),
    "interrupted": Kind(
        cause="Ctrl-C was pressed twice, so the run ended at once.",
        remedy="Resume: what was saved before is whole. One Ctrl-C saves first.",
        seen="told by the run",
        signs=(r"interrupted twice",),
    ),
}

UNKNOWN: dict[str, Kind] = {
    "input": Kind(
        cause="Something in the preset or its files has to be corrected first.",
        remedy="Each message names the setting or file, and what to do; correct them on the tab Training and start again.",
        seen="exit code 2 with other messages",
        when=lambda facts: facts.how == "failed" and facts.exit_code == 2,
    ),
    "defect": Kind(
        cause="Something went wrong that Atelier does not know yet.",
        remedy="Resume once. If it comes again copy the report and send it: it tells what is needed and nothing private.",
        seen="exit code 1 with a traceback",
        when=lambda facts: facts.how == "failed" or "Traceback (most recent call last)" in facts.last_words,
    ),
}
