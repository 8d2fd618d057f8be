"""Measures what watching a run costs, over a pseudo-terminal of 120x40: bytes, processor time, memory, and how soon.

    python scripts/watch_cost.py [--seconds 60]

Nothing is trained: a made-up run is written to, as an engine would. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEPS = 300
TICKS = os.sysconf("SC_CLK_TCK")
STARTS = 7


def environment(folder: Path) -> None:
    for part in ("DATA", "CACHE", "RUNS", "PROFILES", "CONFIG"):
        os.environ[f"AOZORA_{part}"] = str(folder / part.lower())
    for name in ("NO_COLOR", "COLORTERM", "STY", "TMUX", "COLUMNS", "LINES", "AOZORA_TICK", "AOZORA_SLOW_LINK"):
        os.environ.pop(name, None)
    os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT), AOZORA_ASCII="0")


def on(run: str, keys: str = "") -> Any:
    """A terminal with the app on that run, once it has drawn what it opens with, and then what the keys do."""
    import in_terminal

    terminal = in_terminal.Terminal([sys.executable, "-m", "aozora_tui", "watch", run])
    terminal.wait_for("gradient norm")
    for key in keys:
        time.sleep(1.5)
        terminal.press(key)
    time.sleep(1.5)
    return terminal


def processor(pid: int) -> float:
    """Seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> dict[str, float]:
    """MB now and at most."""
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) / 1000 for line in lines if line[0] in ("VmRSS:", "VmHWM:")}


def watch(terminal: Any, seconds: int, each: Callable[[int], None]) -> str:
    """Bytes and processor time a second, `each` being called once in every one."""
    time.sleep(2)
    sent, used, began = len(terminal.received), processor(terminal.pid), time.monotonic()
    for number in range(seconds):
        each(number)
        time.sleep(max(began + number + 1 - time.monotonic(), 0))
    took = time.monotonic() - began
    sent, used = len(terminal.received) - sent, processor(terminal.pid) - used
    return f"{sent / took:,.0f} | {100 * used / took:.2f} % | {memory(terminal.pid)['VmRSS']:.0f}"


def first_frame(run: str, shown: bytes) -> float:
    """Seconds until the last of what it opens with has been sent."""
    import in_terminal

    began = time.monotonic()
    terminal = in_terminal.Terminal([sys.executable, "-m", "aozora_tui", "watch", run])
    while shown not in terminal.received:
        time.sleep(0.002)
    took = time.monotonic() - began
    terminal.close()
    return took


def last_frame(run: str) -> tuple[float, dict[str, float]]:
    """The same until nothing more comes; and the memory that it took."""
    import in_terminal

    began = at = time.monotonic()
    terminal = in_terminal.Terminal([sys.executable, "-m", "aozora_tui", "watch", run])
    sent = 0
    while time.monotonic() < max(at + 1.5, began + 3):
        if len(terminal.received) > sent:
            sent, at = len(terminal.received), time.monotonic()
        time.sleep(0.002)
    took = memory(terminal.pid)
    terminal.close()
    return at - began, took


def starts(long: str, short: str) -> list[str]:
    from statistics import median

    frames = [first_frame(short, short.encode()) for _ in range(STARTS + 1)][1:]
    whole = [last_frame(long) for _ in range(STARTS)]
    most = max(room["VmHWM"] for _, room in whole)
    return [
        "| start | seconds, median | least | memory at most, MB |",
        "|---|---|---|---|",
        f"| first frame of a run of {STEPS} steps | {median(frames):.2f} | {min(frames):.2f} | |",
        f"| last frame of a run of 250,000 steps | {median(took for took, _ in whole):.2f} "
        f"| {min(took for took, _ in whole):.2f} | {most:.0f} |",
    ]


def watching(seconds: int) -> list[str]:
    import fake_run

    from engine.contract import events, places

    lines = ["| watched | bytes a second | of a core | memory, MB |", "|---|---|---|---|"]
    cases = (("run screen", ""), ("four charts", "c"), ("numbers", "n"), ("log, ten lines a second", "l"))
    for place, (name, keys) in enumerate(cases):
        run = fake_run.make(places.runs_folder(), f"live-2023111{place}-221320")
        at = fake_run.trained(run, STEPS)
        run.log.write_text("begun\n")

        def each(number: int, run: Any = run, at: float = at, name: str = name) -> None:
            if name.startswith("log"):
                with run.log.open("a") as file:
                    file.writelines(f"{number}.{line}: the loader says {number * 31 + line:x}\n" for line in range(10))
            else:
                fake_run.add(run, fake_run.step(STEPS + 1 + number, at=at + 26 * (number + 1)))

        with fake_run.engine_alive(run):
            terminal = on(run.name, keys)
            lines.append(f"| {name} | {watch(terminal, seconds, each)} |")
            if not keys:
                terminal.press("?")
                cost = watch(terminal, seconds // 4, lambda number: each(number + seconds))
                lines.append(f"| the same behind the help | {cost} |")
            terminal.close()
    fake_run.add(run, events.Finished(time=at, step=STEPS, reason="finished", seconds=9))
    terminal = on(run.name)
    lines.append(f"| a finished run | {watch(terminal, seconds, lambda _: None)} |")
    terminal.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="that each screen is watched")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui")]
    with tempfile.TemporaryDirectory() as folder:
        environment(Path(folder))
        import fake_run
        import long_run

        from engine.contract import events, places

        short = fake_run.make(places.runs_folder(), "short-20231114-221320")
        at = fake_run.trained(short, STEPS)
        fake_run.add(short, events.Finished(time=at, step=STEPS, reason="finished", seconds=9))
        long = fake_run.make(places.runs_folder(), "long-20231114-221320")
        long_run.write(long)
        told = [*starts(long.name, short.name), "", *watching(args.seconds)]
    sys.stdout.write("\n".join(told) + "\n")


if __name__ == "__main__":
    main()
