"""The two lists of the first screen: what they show, and the thread that reads what is out of sight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.containers import Container, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from aozora_tui.disk_use import DiskUses
from aozora_tui.keymap import bindings
from aozora_tui.run_list import Looked, RunList, look
from aozora_tui.run_notes import told
from aozora_tui.run_order import ORDERS, Order, ordered
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.home_filter import FilterLine
from aozora_tui.screens.home_lines import (
    NAMES,
    RUN_COLUMNS,
    Known,
    RunLines,
    matches,
    only_name,
    profile_columns,
    profile_line,
    run_layout,
)
from aozora_tui.screens.home_profiles import Facts, Shelf, Stamp, facts_of, stamp
from aozora_tui.screens.home_rows import StillRows
from aozora_tui.screens.home_shares import Shares
from aozora_tui.screens.rows import Line, Rows
from aozora_tui.screens.words import FAINT, counted, is_live, plain
from aozora_tui.text import printable
from engine.contract import places
from engine.contract.rundir import RunDir

DEMO = "demo.toml"
NOTHING_FOUND = "None has that in its name or its base."
NO_RUN_FOUND = "None has that in its name, its base, its tags or its note."
_CHUNK = 25  # files that the thread reads between two looks at whether they are still wanted


class HomeLists(AozoraScreen[None]):
    """What is in sight is read at once, a few dozen files at the most; the rest in a thread."""

    scopes: ClassVar[tuple[str, ...]] = ("home", "list")
    BINDINGS = bindings("home")
    AUTO_FOCUS = "#profiles"

    class Read(Message):
        """What the thread has read; `last`: there is no more."""

        def __init__(
            self, facts: Mapping[str, tuple[Stamp, Facts]], looked: Mapping[str, Looked | None], *, last: bool = False
        ) -> None:
            super().__init__()
            self.facts, self.looked, self.last = facts, looked, last

    class Shared(Message):
        """The thread knows more of how much the profiles in sight train."""

    def __init__(self) -> None:
        super().__init__()
        self._shelf, self._runs, self._shares = Shelf(), RunList(places.runs_folder()), Shares()
        self._listed: dict[str, list[str]] = {"profiles": [], "runs": []}  # what passes the filter, by the list's id
        self._run_lines, self._run_layout = RunLines(), run_layout(80)
        self._order: Order = "newest"
        self._uses = DiskUses()
        self._reading = self._begun = self._on_runs = False

    def body(self) -> Iterable[Widget]:
        with Container(id="home"):
            yield FilterLine("filter")
            with Vertical(id="profiles-part"):
                yield Static("Profiles", classes="heading", id="profiles-heading", markup=False)
                yield StillRows(NAMES, empty_text="No profile.", id="profiles")
            with Vertical(id="runs-part"):
                yield Static("Runs", classes="heading", id="runs-heading", markup=False)
                yield StillRows(RUN_COLUMNS, empty_text=self._no_runs(), id="runs")

    @property
    def profiles(self) -> Rows:
        return self.query_one("#profiles", Rows)

    @property
    def runs_list(self) -> Rows:
        return self.query_one("#runs", Rows)

    @property
    def filter(self) -> FilterLine:
        return self.query_one(FilterLine)

    @property
    def first_start(self) -> bool:
        """Whether nothing was done here yet."""
        return not self._runs.runs and not self._shelf.own

    def on_mount(self) -> None:
        self.set_title(("Aozora ", "bold $accent"), " SDXL fine-tuning")

    def on_screen_resume(self) -> None:
        if self._runs.folder != places.runs_folder():
            self._runs = RunList(places.runs_folder())
        self._shares.forget_missing()
        self._shelf.list_again(places.profiles_folder(), self.aozora.recipes)
        self.tick()
        if not self._begun:
            self._begun = True
            self._choose_beginning()
        self.update_keys()

    def reload_profiles(self) -> None:
        """Something has changed in the folder."""
        self._shelf.list_again(places.profiles_folder(), self.aozora.recipes)
        self._show_profiles(fit=True)
        self._share_out()

    def tick(self) -> None:
        """Look at the runs again, and let the thread read what nobody has read yet."""
        seen = self._in_sight("runs") or list(self._runs.runs)[: self.app.size.height]
        try:
            self._runs.refresh(seen, self.aozora.clock())
        except OSError as error:
            self.say(f"The folder of runs cannot be read: {error}", "error")
            return
        self._show_runs()
        self._show_profiles(fit=True)
        self._share_out()
        self.rest(over=False)
        self.call_after_refresh(self._read_more)  # what is in sight shall be there first

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _show_runs(self) -> None:
        words, now = self.filter.words, self.aozora.clock()
        matching = [key for key in self._runs.runs if not words or self._run_matches(key, words)]
        self._listed["runs"] = found = self._in_order(matching)
        unread = [key for key in self._in_sight("runs") if self._runs.get(key) is None]
        if unread and self._runs.read(unread, now):
            self._listed["runs"] = found = self._in_order(key for key in matching if key in self._runs.runs)
        by_size = self._order == "size"
        layout = run_layout(self.app.size.width - 2, tagged=self._runs.has_tags, weighed=by_size)
        weights = [self._uses.bytes(key) if by_size else None for key in found]
        lines = [
            self._run_lines.get(key, self._runs.summary(key), now, weight, layout)
            for key, weight in zip(found, weights, strict=True)
        ]
        rows, self._run_layout = self.runs_list, layout
        rows.empty_text = self._no_runs() if not self.filter.words else NO_RUN_FOUND
        changed, rows.columns = layout.columns != rows.columns, layout.columns
        rows.set_lines(self.with_marks(lines))
        if changed:
            rows.refresh()
        self.head_runs()

    def head_runs(self) -> None:
        """How many there are, how they are sorted, and what the selected one takes."""
        live, total = len(self._runs.live()), len(self._runs.runs)
        sorted_by = f"  {ORDERS[self._order]}" if self._order != "newest" and total else ""
        self._show_heading("runs", total, f"{counted(live, 'run')} live" if live else "", sorted_by, self.use_told())

    def use_told(self) -> str:
        """What the selected run takes of the disk, as far as that is known."""
        return ""

    def _in_order(self, keys: Iterable[str]) -> list[str]:
        return ordered(
            keys,
            self._order,
            name=lambda key: Path(key).name,
            summary=self._runs.summary,
            weight=self._uses.bytes,
        )

    def with_marks(self, lines: Sequence[Line]) -> Sequence[Line]:
        """The lines of runs; marked ones show it."""
        return lines

    def _show_profiles(self, *, fit: bool = False) -> None:
        """`fit`: how wide the columns are may change."""
        words, entries = self.filter.words, self._shelf.entries
        self._listed["profiles"] = found = [key for key in entries if not words or self._profile_matches(key, words)]
        seen = self._in_sight("profiles")
        if self.aozora.begun:
            self._shelf.read(seen)
        newest = [run for key in seen if (run := self._last_run(key)) is not None and self._runs.get(run) is None]
        self._runs.read(newest, self.aozora.clock())
        width = self.app.size.width - 2
        if self.aozora.begun:
            lines = [profile_line(self._known(key), width) for key in found]
            columns = profile_columns(lines, width)
        else:
            lines, columns = [only_name(self._shelf.entries[key]) for key in found], NAMES
        rows = self.profiles
        changed = len(columns) != len(rows.columns) or (fit and columns != rows.columns)
        rows.columns = columns if changed else rows.columns
        rows.empty_text = "No profile." if not self.filter.words else NOTHING_FOUND
        rows.set_lines(lines)
        if changed:
            rows.refresh()
        self._show_heading("profiles", len(self._shelf.entries), "")

    def _show_heading(self, name: str, total: int, news: str, sorted_by: str = "", use: str = "") -> None:
        count = f"{len(self._listed[name]):,} of {total:,}" if self.filter.words else f"{total:,}" if total else ""
        text = Content.assemble(
            name.capitalize(),
            (f"  {count}{sorted_by}", FAINT),
            (f"   {news}" if news else "", "bold $accent"),
            (f"   {use}" if use else "", FAINT),
        )
        self.set_line(f"#{name}-heading", text)

    def _known(self, key: str) -> Known:
        facts, run = self._shelf.get(key), self._last_run(key)
        return Known(self._shelf.entries[key], facts, self._shares.get(facts), self._runs.summary(run) if run else None)

    def _last_run(self, key: str) -> str | None:
        """The newest run called after a profile; one's own takes them from a recipe of the same name."""
        entry = self._shelf.entries[key]
        if entry.recipe and str(places.profiles_folder() / entry.path.name) in self._shelf.entries:
            return None
        return self._runs.newest_of(entry.path)

    def _in_sight(self, name: str) -> list[str]:
        """The entries on the screen, and those around the cursor."""
        rows, keys = self.query_one(f"#{name}", Rows), self._listed[name]
        top, height = round(rows.scroll_y), rows.size.height or self.app.size.height
        near = slice(max(rows.cursor - 1, 0), rows.cursor + 2)
        known: Mapping[str, object] = self._runs.runs if name == "runs" else self._shelf.entries
        return [key for key in dict.fromkeys([*keys[top : top + height], *keys[near]]) if key in known]

    def _profile_matches(self, key: str, words: Sequence[str]) -> bool:
        facts = self._shelf.get(key)
        return matches(words, Path(key).stem, facts.base if facts else "")

    def _run_matches(self, key: str, words: Sequence[str]) -> bool:
        looked = self._runs.get(key)
        if looked is None:
            return matches(words, Path(key).name)
        summary = looked.summary
        return matches(words, Path(key).name, looked.base, told(summary.tags), printable(summary.note))

    # -- what nobody has read yet --------------------------------------------------------------------------------------

    def _read_more(self) -> None:
        if self._shelf.unread(self._in_sight("profiles")):
            self._show_profiles(fit=True)
        profiles, runs = self._shelf.unread(), self._runs.unread()
        if (profiles or runs) and not self._reading:
            self._reading = True
            self._read_rest(profiles, [self._runs.runs[key] for key in runs], self.aozora.clock())
        if wanted := self._shares.unknown(map(self._shelf.get, self._in_sight("profiles"))):
            self._find_shares(wanted)

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read_rest(self, profiles: Sequence[str], runs: Sequence[RunDir], now: float) -> None:
        worker = get_current_worker()
        for start in range(0, len(profiles), _CHUNK):
            if worker.is_cancelled:
                return
            some = map(Path, profiles[start : start + _CHUNK])
            self.post_message(self.Read({str(path): (stamp(path), facts_of(path)) for path in some}, {}))
        for start in range(0, len(runs), _CHUNK):
            if worker.is_cancelled:
                return
            self.post_message(self.Read({}, {str(run.path): look(run, now) for run in runs[start : start + _CHUNK]}))
        self.post_message(self.Read({}, {}, last=True))

    def on_home_lists_read(self, event: Read) -> None:
        for key, (seen, facts) in event.facts.items():
            self._shelf.take(key, seen, facts)
        for key, looked in event.looked.items():
            if self._runs.get(key) is None:
                self._runs.take(key, looked)
        if event.last:
            self._reading = False
        if event.last or self.filter.words:
            self._show_runs()
            self._show_profiles(fit=event.last)

    @work(thread=True, exclusive=True, group="shares", exit_on_error=False)
    def _find_shares(self, wanted: Sequence[Facts]) -> None:
        worker = get_current_worker()
        for facts in wanted:
            if worker.is_cancelled:
                return
            self._shares.find(facts)
        self.post_message(self.Shared())

    def on_home_lists_shared(self) -> None:
        self._show_profiles(fit=True)

    # -- moving --------------------------------------------------------------------------------------------------------

    def on_rows_moved(self) -> None:
        if any(self._runs.get(key) is None for key in self._in_sight("runs")):
            self._show_runs()
        if self._shelf.unread(self._in_sight("profiles")):
            self._show_profiles()
        self.rest(over=False)

    def on_descendant_focus(self) -> None:
        if not self.typing:
            self._on_runs = self.runs_list.has_focus
        self.update_keys()
        self.rest(over=False)

    def on_resize(self) -> None:
        self._show_runs()
        self._show_profiles(fit=True)
        self._share_out()
        self.rest(over=False)
        self.update_keys()

    def on_filter_line_changed(self) -> None:
        self._show_runs()
        self._show_profiles()
        self.rest()
        self.update_keys()

    def on_filter_line_left(self) -> None:
        """To the list that was left, or to the other if only that has something."""
        first, second = (self.runs_list, self.profiles) if self._on_runs else (self.profiles, self.runs_list)
        (second if second.lines and not first.lines else first).focus()

    def _choose_beginning(self) -> None:
        """Whoever comes back to a run that goes on has come for it: enter opens it. Who is new here finds the demo."""
        live = next(
            (key for key in self._runs.runs if (known := self._runs.summary(key)) and is_live(known.state)), None
        )
        if live is not None:
            self.runs_list.select(live)
            self.runs_list.focus()
        elif self.first_start:
            self.profiles.select(str(self.aozora.recipes / DEMO))

    def _no_runs(self) -> str:
        demo, start = self.key_name("home.demo"), self.key_name("home.start")
        return plain(f"No run yet. Press {demo} to start the demo, or {start} on a profile.")

    def _share_out(self) -> None:
        """As many rows for the profiles as they need, two fifths of the screen at most; the rest is for the runs."""
        needed = len(self._shelf.entries) + 2
        self.query_one("#profiles-part").styles.height = max(min(needed, self.app.size.height * 2 // 5), 4)
