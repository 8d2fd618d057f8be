"""In which order the runs are listed, and how much of the disk they take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from textual import work
from textual.message import Message
from textual.worker import Worker, get_current_worker

from aozora_tui import disk_use
from aozora_tui.disk_use import Stamp, Use
from aozora_tui.run_order import Order
from aozora_tui.screens.home_lists import HomeLists

CYCLE: tuple[Order, ...] = ("newest", "name", "state", "loss", "step", "size")
_SECONDS = 0.3  # between two messages of the thread: sorting a thousand lines anew for each run would be no help


class HomeOrder(HomeLists):
    """Folders are looked through in a thread: the selected run's always, the others' only to sort them by it."""

    class Weighed(Message):
        """The thread knows what some runs take."""

        def __init__(self, uses: Mapping[str, tuple[Stamp, Use]]) -> None:
            super().__init__()
            self.uses = uses

    def __init__(self) -> None:
        super().__init__()
        self._weigher: Worker[None] | None = None

    def action_sort(self) -> None:
        """The next order; those that are not in the turn are in the palette."""
        at = CYCLE.index(self._order) + 1 if self._order in CYCLE else 0
        self.sort_by(CYCLE[at % len(CYCLE)])

    def sort_by(self, order: Order) -> None:
        """The cursor stays on its run."""
        self._order = order
        self._show_runs()
        self.weigh()
        self.rest()

    def weigh(self) -> None:
        """Have looked at what is not known, the selected run first."""
        selected = self.runs_list.key if self.runs_list.has_focus else None
        wanted = self._uses.unknown([selected] if selected else [])
        busy = self._weigher is not None and not self._weigher.is_finished
        if busy and not wanted:
            return
        if self._order == "size":
            wanted += self._uses.unknown(self._in_sight("runs")) + self._uses.unknown(self._runs.runs, fresh=False)
        if wanted:
            self._weigher = self._look_through(list(dict.fromkeys(wanted)))

    @work(thread=True, exclusive=True, group="weigh", exit_on_error=False)
    def _look_through(self, keys: Sequence[str]) -> None:
        """What was found is told also if another one takes over."""
        worker, found, told = get_current_worker(), dict[str, tuple[Stamp, Use]](), time.monotonic()
        for key in keys:
            seen = disk_use.stamp(Path(key))
            use = disk_use.of(Path(key), lambda: worker.is_cancelled)
            if worker.is_cancelled:
                break
            found[key] = (seen, use)
            if len(found) == 1 or time.monotonic() - told > _SECONDS:
                self.post_message(self.Weighed(found))
                found, told = {}, time.monotonic()
        if found:
            self.post_message(self.Weighed(found))

    def on_home_order_weighed(self, event: Weighed) -> None:
        for key, (seen, use) in event.uses.items():
            self._uses.take(key, seen, use)
        if self._order == "size":
            self._show_runs()
        else:
            self.head_runs()

    def use_told(self) -> str:
        use = self._uses.get(self.runs_list.key or "") if self.runs_list.has_focus else None
        return f"this one {use}" if use is not None else ""

    def _read_more(self) -> None:
        super()._read_more()
        self.weigh()

    def on_rows_moved(self) -> None:
        super().on_rows_moved()
        self.head_runs()
        self.weigh()

    def on_descendant_focus(self) -> None:
        super().on_descendant_focus()
        self.head_runs()
        self.weigh()
