"""What is wrong with a run now, and all that it warned of: each whole, with its step, its time and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.run_state import RunState, Told
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.data_page import wrapped
from aozora_tui.screens.words import counted, plain
from aozora_tui.text import printable, sentence
from engine.contract.health import Finding
from engine.contract.rundir import RunDir

FAINT = "$foreground 70%"


class HealthScreen(AozoraScreen[None]):
    """`state` is the run screen's own; `read` has it take in what the run has told since."""

    scopes: ClassVar[tuple[str, ...]] = ("health",)
    BINDINGS = bindings("health")
    DEFAULT_CSS = "HealthScreen #health { height: 1fr; padding: 0 1; }"

    def __init__(self, run: RunDir, state: RunState, read: Callable[[], object]) -> None:
        super().__init__()
        self.run_dir, self.state = run, state
        self._read = read
        self.top = self._below = 0

    def body(self) -> Iterable[Widget]:
        yield Static(id="health", markup=False)

    def on_mount(self) -> None:
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)
        self.update_keys()

    def tick(self) -> None:
        self._read()
        self._show()

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_scroll(self, by: int) -> None:
        self.top = max(self.top + by, 0)
        self._show()

    def action_page(self, by: int) -> None:
        self.action_scroll(by * max(self._height() - 1, 1))

    def action_jump(self, to: int) -> None:
        self.top = 0 if to == 0 else 1 << 30
        self._show()

    def offers(self, action: str) -> bool:
        """Pages where there are any."""
        return self._below > 0 or self.top > 0 if action == "page" else super().offers(action)

    def _height(self) -> int:
        return max(self.query_one("#health").size.height, 1)

    def _show(self) -> None:
        lines = health_lines(self.state, max(self.size.width - 2, 20))
        self.top = min(self.top, max(len(lines) - self._height(), 0))
        self.set_line("#health", Content("\n").join(lines[self.top : self.top + self._height()]))
        below = len(lines) - self.top - self._height()
        if (below > 0) != (self._below > 0):
            self._below = below
            self.update_keys()
        self._below = below
        more = f"  {counted(below, 'line')} below" if below > 0 else ""
        self.set_title((f"{self.run_dir.name}  ", "bold"), f"findings and warnings{more}")


def health_lines(state: RunState, width: int) -> list[Content]:
    """What holds now first; then every warning, the newest first."""
    lines = [Content.styled("Now", "bold $primary")]
    for finding in reversed(state.findings):
        lines += _finding(finding, width)
    if not state.findings:
        lines.append(Content("  nothing unusual" if state.step else "  no step yet"))
    lines += [
        Content(),
        Content.styled("Warnings" + (f"  {state.warnings:,}" if state.warnings else ""), "bold $primary"),
    ]
    for told in reversed(state.told):
        lines += _warning(told, width)
    if not state.told:
        lines.append(Content("  none"))
    if (older := state.warnings - len(state.told)) > 0:
        lines.append(Content.styled(f"  and {older:,} before these: they are in events.jsonl", FAINT))
    return lines


def _finding(finding: Finding, width: int) -> list[Content]:
    style = "bold $error" if finding.level == "danger" else "$warning"
    where = f"since step {finding.since_step:,}, found at {_clock(finding.time)}"
    return _entry(f"! {finding.text}", style, where, finding.remedy, width)


def _warning(told: Told, width: int) -> list[Content]:
    where = (
        f"at step {told.step:,}, {_clock(told.time)}" if told.step else f"before the first step, {_clock(told.time)}"
    )
    return _entry(f"! {told.text}", "$warning", where, told.remedy, width)


def _entry(text: str, style: str, where: str, remedy: str, width: int) -> list[Content]:
    said = " ".join(printable(" ".join(text.split())).replace("..", ".").split())
    lines = [Content.styled(f"  {part}", style) for part in wrapped(plain(sentence(said)), width - 2, indent="  ")]
    lines.append(Content.styled(f"    {where}", FAINT))
    return lines + [Content(f"    {part}") for part in wrapped(printable(remedy), width - 4) if part]


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
