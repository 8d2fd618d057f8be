"""Which runs are compared, and the thread that reads them."""

from __future__ import annotations

from collections.abc import Sequence

from textual import work
from textual.message import Message
from textual.worker import get_current_worker

from aozora_tui.compared_runs import ComparedRun, distinct, labels
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.widgets.run_marks import MOST_RUNS
from engine.contract.rundir import RunDir


class LoadingRuns(AozoraScreen[None]):
    """Runs are read one after the other, and shown as soon as they have been. With one alone, others are asked for at
    once."""

    class Loaded(Message):
        """All that a run had told has been read."""

        def __init__(self, compared: ComparedRun) -> None:
            super().__init__()
            self.compared = compared

    def __init__(self, chosen: Sequence[RunDir]) -> None:
        super().__init__()
        self._first_chosen = list(chosen)
        self.compared: list[ComparedRun] = []
        self.names: list[str] = []

    @property
    def loaded(self) -> list[ComparedRun]:
        """Those that have been read."""
        return [each for each in self.compared if each.loaded]

    def show(self) -> None:
        """All of it, as it is now."""
        raise NotImplementedError

    def on_chosen(self) -> None:
        """They are others now."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.choose(self._first_chosen)
        if len(self._first_chosen) == 1:
            self.call_after_refresh(self.action_runs)

    def on_screen_resume(self) -> None:
        self.tick()
        self.call_after_refresh(self.show)
        self.update_keys()

    def on_unmount(self) -> None:
        for each in self.compared:
            each.dropped = True

    def tick(self) -> None:
        """Follow those that have been read; say how far the others are."""
        news = [each.follow() for each in self.loaded]
        if any(news):
            self.show()
        self.rest(over=False)

    def resting(self) -> tuple[str, Kind]:
        waiting = next((at for at, each in enumerate(self.compared) if not each.loaded), None)
        if waiting is not None:
            number, share = len(self.loaded) + 1, self.compared[waiting].share
            return f"Loading {number} of {len(self.compared)}: {self.names[waiting]}, {100 * share:.0f} %", "plain"
        if not self.compared:
            return f"Nothing to compare: {self.key_name('compare.runs')} adds runs", "plain"
        return "", "plain"

    def choose(self, chosen: Sequence[RunDir]) -> None:
        """Compare these. Those that stay keep their colours, and are not read again."""
        chosen = distinct(chosen)[:MOST_RUNS]
        wanted = {run.path for run in chosen}
        kept = {each.run.path: each for each in self.compared if each.run.path in wanted}
        for each in self.compared:
            each.dropped = each.run.path not in wanted
        taken = {each.place for each in kept.values()}
        free = iter(place for place in range(MOST_RUNS) if place not in taken)
        self.compared = [kept.get(run.path) or ComparedRun(run, next(free)) for run in chosen]
        self.names = labels(chosen)
        self.on_chosen()
        if waiting := [each for each in self.compared if each.run.path not in kept]:
            self._load(waiting)

    def action_runs(self) -> None:
        from aozora_tui.screens.pick_runs import PickRuns

        picker = PickRuns([each.run for each in self.compared])

        def answered(_: str | None) -> None:
            self.choose(picker.chosen)
            self.show()

        self.app.push_screen(picker, answered)

    @work(thread=True, group="load", exit_on_error=False)
    def _load(self, waiting: Sequence[ComparedRun]) -> None:
        worker = get_current_worker()
        for each in waiting:
            each.load(until=lambda: worker.is_cancelled)
            if worker.is_cancelled:
                return
            self.post_message(self.Loaded(each))

    def on_loading_runs_loaded(self, event: Loaded) -> None:
        event.compared.loaded = True
        if self.is_current:
            self.show()
            self.rest(over=False)
