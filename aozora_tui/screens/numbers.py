"""Whether a run is well, and its numbers, as text that is scrolled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import run_numbers
from aozora_tui.keymap import bindings
from aozora_tui.remote import links
from aozora_tui.run_state import RunState
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.data_page import wrapped
from aozora_tui.screens.words import cut, plain
from aozora_tui.text import folded
from engine.contract.health import Finding
from engine.contract.rundir import RunDir

LABEL = 14


class NumbersScreen(AozoraScreen[None]):
    """`state` is the run screen's own; `read` has it take in what the run has told since."""

    scopes: ClassVar[tuple[str, ...]] = ("numbers",)
    BINDINGS = bindings("numbers")
    DEFAULT_CSS = "NumbersScreen #numbers { height: 1fr; padding: 0 1; }"

    def __init__(self, run: RunDir, state: RunState, read: Callable[[], object]) -> None:
        super().__init__()
        self.run_dir, self.state = run, state
        self._read = read
        self.top = self._below = 0

    def body(self) -> Iterable[Widget]:
        yield Static(id="numbers", markup=False)

    def on_mount(self) -> None:
        self.call_after_refresh(self._show)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

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

    def offers(self, action: str) -> bool:
        """Pages where there are any."""
        return self._below > 0 or self.top > 0 if action == "page" else super().offers(action)

    def _height(self) -> int:
        return max(self.query_one("#numbers").size.height, 1)

    def _show(self) -> None:
        width = max(self.size.width - 2, 20)
        judged = self.state.watch is not None
        lines = [*health_lines(self.state.findings, width, begun=self.state.step > 0, judged=judged), Content()]
        for group in run_numbers.groups(self.state, self.aozora.clock(), links.folder(self.run_dir)):
            lines.append(Content.styled(group.title, "bold $primary"))
            for label, text in group.lines:
                first = True
                for part in wrapped(text, width - LABEL - 2):
                    name = f"  {label if first else '':<{LABEL}}"
                    lines.append(Content.assemble((name, "$foreground 70%"), cut(part, width - LABEL - 2)))
                    first = False
        self.top = min(self.top, max(len(lines) - self._height(), 0))
        self.set_line("#numbers", Content("\n").join(lines[self.top : self.top + self._height()]))
        below = len(lines) - self.top - self._height()
        if (below > 0) != (self._below > 0):
            self._below = below
            self.update_keys()
        self._below = below
        more = f"  {below} lines below" if below > 0 else ""
        self.set_title((f"{self.run_dir.name}  ", "bold"), f"health and numbers{more}")


def health_lines(findings: Iterable[Finding], width: int, *, begun: bool, judged: bool = True) -> list[Content]:
    """Each finding whole, with its evidence and what to try; one word where there is none. `judged`: whether all that
    the run told has been looked at."""
    found, lines = list(findings), [Content.styled("health", "bold $primary")]
    if not found:
        none = "nothing unusual" if judged else "being looked for"
        lines.append(Content(f"  {none}" if begun else "  no step yet"))
    for finding in reversed(found):
        style = "bold $error" if finding.level == "danger" else "$warning"
        text = folded(f"{plain('! ')}{finding.text}", width - 2, indent="  ")
        lines += [Content.styled(f"  {part}", style) for part in text]
        lines += [Content(f"    {part}") for part in folded(finding.remedy, width - 4, indent="")]
    return lines
