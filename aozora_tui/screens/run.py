"""One run: what it does, how it learns, what it uses. Everything shown comes from its folder, on one tick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import log_text, runs
from aozora_tui.keymap import bindings
from aozora_tui.keys.key import Key
from aozora_tui.reading import Reading
from aozora_tui.remote import links
from aozora_tui.remote.readings import readings_of
from aozora_tui.run_state import Note
from aozora_tui.screens import steer
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.meters import Meters, on_card
from aozora_tui.screens.run_words import newest, note_line, outcome
from aozora_tui.screens.words import cut, is_live, plain, state_style, state_text
from aozora_tui.terminal import ascii_only
from aozora_tui.text import age, duration, rate
from aozora_tui.widgets.chart import Chart
from aozora_tui.widgets.gauge import bar
from aozora_tui.widgets.traces import Series
from engine.contract import rundir
from engine.contract.rundir import CommandName, RunDir, State

SMOOTHINGS = (0.9, 0.97, 0.99, 0.0)
LOG_LINES = 50
TEXT_STYLES = {"live": "bold $accent", "good": "$success", "attention": "$warning", "bad": "bold $error", "plain": ""}
CONTROLS = {"stop", "save_now", "sample_now", "pause", "rate"}


class RunScreen(AozoraScreen[None]):
    """Leaving it never touches the engine."""

    scopes: ClassVar[tuple[str, ...]] = ("run",)
    BINDINGS = bindings("run")
    CSS_PATH = "run.tcss"

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run_dir = run
        self._reading, self._seen = Reading(run, self._read_more), 0
        self.state = self._reading.state
        self.word: State = "starting"
        self._log = log_text.Tail(run.log)
        self._log_lines: list[str] = []
        self._pid: int | None = None
        self._began = 0.0  # of the present start

    def body(self) -> Iterable[Widget]:
        signs = ascii_only()
        yield Static(id="progress", markup=False)
        yield Static(id="outcome", markup=False)
        with Horizontal(id="charts"):
            empty = plain("No step yet.")
            yield Chart("loss", empty_text=empty, smoothing=SMOOTHINGS[0], ascii_only=signs, id="loss")
            with Vertical(id="small-charts"):
                yield Chart("learning rate", empty_text=empty, ascii_only=signs, id="lr")
                yield Chart("gradient norm", empty_text=empty, ascii_only=signs, id="grad-norm")
        yield Meters(signs)
        with Horizontal(id="words"):
            yield Static(id="notes", markup=False)
            yield Static(id="log-tail", markup=False)

    @property
    def charts(self) -> Iterable[Chart]:
        return self.query(Chart)

    def on_screen_resume(self) -> None:
        self.tick()
        self.update_keys()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_all)

    def tick(self) -> None:
        """Read on, fold in, show what changed."""
        try:
            word = runs.state_now(self.run_dir)
        except FileNotFoundError:
            self.say(f"The folder of {self.run_dir.name} is gone: {self.key_name('run.back')} goes back", "error")
            return
        except (OSError, ValueError) as error:
            self.say(f"The run cannot be read: {error}", "error")
            return
        last = self._last_note
        self._take_in()
        arrived, self._seen = self._seen != self._reading.taken, self._reading.taken
        if word != self.word or self._last_note is not last:
            self.rest()
        if word != self.word or self._pid is None:
            self.word, info = word, rundir.read_info(self.run_dir)
            self._pid, self._began = (info.pid, info.started) if info else (None, 0.0)
            self.update_keys()
            self.refresh_bindings()
        grown = self._log.read(LOG_LINES)
        if grown is not None:
            self._log_lines = grown
        if arrived or grown is not None:
            self._show_words()
        if arrived:
            self._show_curves()
        self.rest(over=False)  # also without news: that there is none may be it
        self._show_lines()
        self._show_meters()

    def _take_in(self) -> bool:
        """Read what the engine has told since, a bounded amount of it and the rest soon; whether there was anything."""
        return self._reading.read(self.aozora.call_soon)

    def _read_more(self) -> None:
        """Days of steps are being read, or have been."""
        if self._reading.share is None:
            self.aozora.tick()
        elif self.is_current:
            self._show_lines()

    def resting(self) -> tuple[str, Kind]:
        """Whether the run is well, where it can still be helped."""
        findings = self.state.findings if is_live(self.word) else ()
        if not findings:
            return (said, "warning") if (said := self._silence()) else ("", "plain")
        worst = max(findings, key=lambda finding: (finding.level == "danger", finding.time))
        # First, for a narrow screen cuts the end.
        among = f"{len(findings)} findings ({self.key_name('run.health')}): " if len(findings) > 1 else ""
        return f"{among}{worst.text}. {worst.remedy}", "warning"

    def _silence(self) -> str:
        """Of an engine whose process is there and says nothing; "" of any other."""
        silent = self._silent()
        if silent is None:
            return ""
        log, stop = self.key_name("run.log"), self.key_name("run.stop")
        usual = f"; a step took {duration(self.state.pace)}" if self.state.pace else ""
        return f"No word from the engine for {age(silent)}{usual}. {log} shows its log, {stop} stops it"

    def _silent(self) -> float | None:
        live = is_live(self.word) and self.word != "paused"
        return self.state.silent(self.aozora.clock()) if live else None

    def offers(self, action: str) -> bool:
        """A key that can do nothing now is not offered."""
        if action == "save_now":
            return is_live(self.word) and self.state.step > 0
        if action in CONTROLS:
            return is_live(self.word)
        if action == "resume":
            return self.word in ("stopped", "crashed", "failed", "paused")
        return True

    def active_keys(self) -> list[Key]:
        keys = super().active_keys()
        if is_live(self.word):
            return keys
        there = "Go back to where this screen was opened."
        return [replace(key, label="back", help=there) if key.action == "back" else key for key in keys]

    @property
    def _last_note(self) -> Note | None:
        return self.state.notes[-1] if self.state.notes else None

    # -- commands ------------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        if self._is_live():
            steer.ask_to_stop(self, self.run_dir, begun=self.state.step > 0)

    def action_save_now(self) -> None:
        self._send("save")

    def action_sample_now(self) -> None:
        self._send("sample")

    def action_pause(self) -> None:
        self._send("resume" if self.word == "paused" else "pause")

    def action_rate(self) -> None:
        if self._is_live():
            steer.ask_for_rate(self, self.run_dir, now=self.state.factor, planned=self.state.planned_lr)

    def action_resume(self) -> None:
        if self.word == "paused":
            self._send("resume")
        else:
            steer.restart(self, self.run_dir, self.tick)

    def action_log(self) -> None:
        from aozora_tui.screens.log import LogScreen

        self.app.push_screen(LogScreen(self.run_dir))

    def action_numbers(self) -> None:
        from aozora_tui.screens.numbers import NumbersScreen

        self.app.push_screen(NumbersScreen(self.run_dir, self.state, self._take_in))

    def action_health(self) -> None:
        from aozora_tui.screens.run_health import HealthScreen

        self.app.push_screen(HealthScreen(self.run_dir, self.state, self._take_in))

    def action_charts(self) -> None:
        from aozora_tui.screens.charts import ChartsScreen

        self.app.push_screen(ChartsScreen(self.run_dir, self._reading))

    def action_compare(self) -> None:
        from aozora_tui.screens.compare import CompareScreen

        self.app.push_screen(CompareScreen([self.run_dir]))

    def action_samples(self) -> None:
        from aozora_tui.screens.samples import SamplesScreen

        self.app.push_screen(SamplesScreen(self.run_dir, self.state, self._take_in))

    def action_card(self) -> None:
        from aozora_tui.screens.card import CardScreen

        self.app.push_screen(CardScreen(self.run_dir, self.state, self._take_in))

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_y_log(self) -> None:
        for chart in self.charts:
            chart.y_log = not chart.y_log

    def action_smooth(self) -> None:
        chart = self.query_one("#loss", Chart)
        here = SMOOTHINGS.index(chart.smoothing) if chart.smoothing in SMOOTHINGS else -1
        chart.smoothing = SMOOTHINGS[(here + 1) % len(SMOOTHINGS)]
        self.say(f"Loss smoothed by {chart.smoothing}" if chart.smoothing else "Loss not smoothed")

    def action_zoom(self, factor: float) -> None:
        for chart in self.charts:
            chart.zoom(factor)

    def action_pan(self, share: float) -> None:
        for chart in self.charts:
            chart.pan(share)

    def _send(self, command: CommandName) -> None:
        if self._is_live():
            steer.send(self, self.run_dir, command)

    def _is_live(self) -> bool:
        if not is_live(self.word):
            self.say(steer.why_not(self.word, self.key_name("run.resume")), "warning")
        return is_live(self.word)

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show_all(self) -> None:
        self._show_words()
        self._show_curves()
        self._show_lines()
        self._show_meters()

    def _show_lines(self) -> None:
        state, width, word = self.state, self.size.width, "starting" if self._unheard else self.word
        parts: list[str | tuple[str, str]] = [
            (f"{cut(links.title(self.run_dir), width - 47)}  ", "bold"),
            (state_text(word), TEXT_STYLES[state_style(word)]),
        ]
        if state.steps:
            parts.append(f"  step {state.step:,}/{state.steps:,}")
        if is_live(self.word) and state.eta is not None:
            parts.append(f"  {duration(state.eta)} left")
        if (silent := self._silent()) is not None:
            parts.append((f"  silent for {age(silent)}", "$warning"))
        self.set_title(*parts)
        self.set_line("#progress", self._progress(width - 2))
        self._show_outcome()

    def _progress(self, width: int) -> Content:
        state = self.state
        read = self._reading.share
        phase = f"{self._phase() if read is None else 'reading':<9} "
        share = (None if self._unheard else state.share) if read is None else read
        words = self._progress_words() if read is None else ""
        if share is None:
            return Content.assemble((phase, "$primary"), (words, "$foreground 70%"))
        tail = f" {100 * share:5.1f} %  {words}"
        filled, rest = bar(share, max(width - len(phase) - len(tail), 8), ascii_only=ascii_only())
        return Content.assemble((phase, "$primary"), (filled, "$primary"), (rest, "$foreground 30%"), tail)

    @property
    def _unheard(self) -> bool:
        """Whether it was started again, and has not said a word since: what is known is how it ended before."""
        return is_live(self.word) and 0 < self.state.last_time < self._began

    def _phase(self) -> str:
        if self._unheard:
            return "starting"
        if self.word in ("finished", "stopped", "failed", "crashed"):
            return self.word
        return self.word if self.word == "paused" else (self.state.phase or self.word)

    def _progress_words(self) -> str:
        state, progress = self.state, self.state.progress
        if not is_live(self.word):
            return ""
        if self._unheard:
            return "waiting for the engine"
        if state.phase == "train" and state.started is not None:
            return f"micro-batch {state.micros_done}/{state.started.accumulate}"
        if progress is not None:
            return f"{progress.done:,}/{progress.total:,} {progress.unit}  {rate(progress.rate)}".rstrip()
        return {"": "waiting for the engine", "load": "reading the checkpoint"}.get(state.phase, "")

    def _show_outcome(self) -> None:
        """Under the bar: what went wrong and what to do, or where the finished file is."""
        shown = self.query_one("#outcome", Static)
        line = outcome(self.state, self.word, self.run_dir, self.size.width, self.key_name)
        if shown.content != line:
            shown.update(line)
        shown.display = bool(line.plain)

    def _show_curves(self) -> None:
        columns, total = self.state.history.steps, float(self.state.steps) or None
        for name, title, values in (
            ("loss", "loss", columns["loss"]),
            ("lr", "learning rate", columns["lr"]),
            ("grad-norm", "gradient norm", columns["grad_norm"]),
        ):
            self.query_one(f"#{name}", Chart).set_data([Series(title, columns.steps, values)], total)

    def _show_words(self) -> None:
        notes, log = self.query_one("#notes", Static), self.query_one("#log-tail", Static)
        shown = newest(self.state.notes, max(notes.size.height, 1))
        width = notes.size.width
        lines = [note_line(note, width) for note in shown]
        self.set_line("#notes", Content("\n").join(lines) if lines else Content.styled("Nothing yet.", "dim"))
        if log.display and log.size.height:
            tail = self._log_lines[-log.size.height :]
            text = "\n".join(cut(line, log.size.width) for line in tail)
            self.set_line("#log-tail", Content.styled(text or "The log is empty.", "$foreground 60%"))

    def _show_meters(self) -> None:
        live = is_live(self.word)
        if links.of(self.run_dir) is not None:
            readings = readings_of(self.state.machine, self.state.started)
        else:
            readings = self.aozora.read_gpu(self._pid) if live and on_card(self.state) else ()
        self.query_one(Meters).show(self.state, readings, live=live)
