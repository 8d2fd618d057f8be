"""One page between a profile and its run: what it will take, what is wrong, what has changed since the last run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from aozora_tui import runs
from aozora_tui.keymap import bindings
from aozora_tui.screens import steer
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.start_text import page, title
from aozora_tui.screens.words import FAINT, counted, same
from aozora_tui.text_file import Stamp, stamp_of
from engine.contract.atomic import Interrupted
from engine.contract.problems import ProfileError
from engine.contract.profile import read_text

if TYPE_CHECKING:
    from aozora_tui.screens.start_look import LastRun, Look
    from engine.contract.check import Checked
    from engine.contract.rundir import RunDir


class Page(VerticalScroll, inherit_bindings=False):
    """Scrolled by the screen's keys."""


class StartScreen(AozoraScreen[bool]):
    """Gives True if the run is to be started. `text` is the profile as it will run, `path` its file, beside which
    relative names in it begin. `mend` opens the profile at a field; without it the page is left to whoever asked."""

    scopes: ClassVar[tuple[str, ...]] = ("start",)
    BINDINGS = bindings("start")
    AUTO_FOCUS = "#start-page"
    _trouble = ""  # why the file cannot be read any more

    def __init__(self, path: Path, text: str, *, mend: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self.path, self.text, self.mend = path, text, mend
        self.seen: Look | None = None
        self._asking = False  # torch
        self._stamp = self._stamp_now()

    def body(self) -> Iterable[Widget]:
        with Page(id="start-page"):
            yield Static(id="start-text", markup=False)

    def on_mount(self) -> None:
        self._show()
        self._gather()

    def tick(self) -> None:
        """What somebody else wrote into the file meanwhile is what a run would get."""
        if (stamp := self._stamp_now()) == self._stamp:
            return
        self._stamp = stamp
        try:
            text = read_text(self.path)
        except ProfileError as error:
            self.seen = None
            self.workers.cancel_node(self)
            self._trouble = str(error.problems[0])
            self._show()
            return
        self._trouble = ""
        if text != self.text:
            self.text, self.seen, self._asking = text, None, False
            self._gather()
            self._show()
            self.say(f"{self.path.name} was changed by another program: checking it again")
        elif self.seen is None:
            self._gather()

    def _stamp_now(self) -> Stamp | None:
        try:
            return stamp_of(self.path)
        except OSError:
            return None

    def resting(self) -> tuple[str, Kind]:
        if self._trouble:
            return self._trouble, "error"
        look = self.seen
        if look is None:
            return f"Checking {self.path.name} ...", "plain"
        if look.wrong:
            return f"{counted(len(look.wrong), 'problem')} to mend before it can start", "error"
        if self._asking:
            return "Asking torch about the optimizer ...", "plain"
        return "Enter starts the run; it goes on without the app, and without this terminal.", "good"

    def offers(self, action: str) -> bool:
        if action == "go":
            return self._ready
        if action == "page":
            return self.query_one(Page).max_scroll_y > 0
        return action != "mend" or self.mend is not None

    def action_go(self) -> None:
        look = self.seen
        if look is not None and look.wrong and self.mend is not None:
            self.action_mend()
        elif self._ready and look is not None and look.last is not None and look.last.saved is not None:
            self._ask_which(look.last)
        elif self._ready:
            self.dismiss(True)
        else:
            self.rest()

    def _ask_which(self, last: LastRun) -> None:
        """A run that was broken off is perhaps what is meant."""
        from aozora_tui.screens.ask import Answer, Ask

        name, step = last.summary.name, last.saved
        lines = [f"{name} is {last.summary.state}; its last checkpoint is of step {step:,} of {last.summary.steps:,}."]
        answers = [Answer("r", f"resume it at step {step:,}", "resume"), Answer("n", "start anew", "anew")]
        if last.changes:
            since = counted(len(last.changes), "setting")
            lines.append(f"Resumed, it goes on with the settings that it began with: {since} changed since.")
            answers.reverse()

        def answered(answer: str | None) -> None:
            if answer == "anew":
                self.dismiss(True)
            elif answer == "resume" and last.run is not None:
                self._resume(last.run)

        self.app.push_screen(Ask("Resume the last run, or start anew?", lines, answers), answered)

    def _resume(self, run: RunDir) -> None:
        try:
            runs.resume(run, engine_command=self.aozora.engine_command)
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
            return
        self.dismiss(False)
        self.app.call_later(self.aozora.watch_run, run)

    def action_mend(self) -> None:
        """Go to the field of the first problem."""
        if self.mend is not None:
            wrong = self.seen.wrong if self.seen else []
            field, mend = wrong[0].path if wrong else "", self.mend
            self.dismiss(False)
            self.app.call_later(mend, field) if field else self.app.call_later(mend)

    def action_back(self) -> None:
        self.dismiss(False)

    def action_scroll(self, by: int) -> None:
        self.query_one(Page).scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        shown = self.query_one(Page)
        shown.scroll_relative(y=by * max(shown.size.height - 1, 1), animate=False)

    def action_jump(self, to: int) -> None:
        shown = self.query_one(Page)
        shown.scroll_to(y=0 if to == 0 else shown.max_scroll_y, animate=False)

    def on_resize(self) -> None:
        self._show()

    @property
    def _ready(self) -> bool:
        return self.seen is not None and not self.seen.wrong and not self._asking

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _gather(self) -> None:
        from aozora_tui.screens.start_look import gather, with_pictures

        worker = get_current_worker()
        look = gather(self.text, self.path, self.aozora.read_gpu(None))
        imported = look.profile is not None and look.profile.optimizer.kind == "imported"
        ask = imported and not look.wrong
        self.app.call_from_thread(self._gathered, look, ask=ask)
        with contextlib.suppress(Interrupted):
            look = with_pictures(look, self.path, lambda: worker.is_cancelled)
            self.app.call_from_thread(self._gathered, look, ask=ask)
        if ask and (checked := steer.check_for_start(self, self.path)) is not None:
            self.app.call_from_thread(self._asked, checked)

    def on_unmount(self) -> None:
        self.workers.cancel_node(self)

    def _gathered(self, look: Look, *, ask: bool) -> None:
        self.seen, self._asking = look, ask
        self._show()

    def _asked(self, checked: Checked) -> None:
        """What torch said."""
        self._asking = False
        if self.seen is not None:
            self.seen = replace(self.seen, more=checked.problems)
        self._show()

    def _show(self) -> None:
        if not self.is_attached:
            return
        self.set_title(("Start ", FAINT), (f"{self.path.stem}   ", "bold"), (title(self.seen), FAINT))
        if self.seen is not None:
            width = max(self.app.size.width - 4, 40)  # and the scrollbar, with a blank before it
            text, line = page(self.seen, width), self.query_one("#start-text", Static)
            if not same(line.content, text):
                line.update(text)
        self.rest()
        self.call_after_refresh(self.update_keys)  # whether there is more to see is known then
