"""The previews of a run: a grid by prompt and step, and one prompt's pictures large, side by side, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.widget import Widget

from aozora_tui import runs
from aozora_tui.keymap import bindings
from aozora_tui.keys.key import Key
from aozora_tui.preview_pictures import Job, Painted
from aozora_tui.previews import Preview
from aozora_tui.run_state import RunState
from aozora_tui.screens import steer
from aozora_tui.screens.base import Kind
from aozora_tui.screens.samples_page import Grid, Page, Words, compose, grid_of, grid_page, large_page, visible_part
from aozora_tui.screens.samples_work import SamplesWork
from aozora_tui.screens.words import cut, is_live
from aozora_tui.text import printable
from aozora_tui.widgets.wall import Wall
from engine.contract.rundir import RunDir

MOST_ZOOM = 16.0
PAN = 0.25  # of what is seen


class SamplesScreen(SamplesWork):
    """Leaving it touches neither the run nor its files."""

    scopes: ClassVar[tuple[str, ...]] = ("samples",)
    BINDINGS = bindings("samples")
    DEFAULT_CSS = "SamplesScreen Wall { margin: 0 1; }"

    def __init__(self, run: RunDir, state: RunState, read: Callable[[], object]) -> None:
        super().__init__(run, state, read)
        self.first = (-1, 0)  # the step and the prompt at the upper left of the grid; -1: so that it is full
        self.large = self.beside = False
        self.zoom, self.centre = 1.0, (0.5, 0.5)
        self._page = Page()
        self._before: dict[int, Painted] = {}

    def body(self) -> Iterable[Widget]:
        yield Wall(id="wall")

    @property
    def wall(self) -> Wall:
        return self.query_one(Wall)

    @property
    def follows(self) -> bool:
        return not self.large

    def on_mount(self) -> None:
        self.read()
        self.take_samples()
        self.step = self.newest

    def on_wall_resized(self) -> None:
        self._before.clear()
        self._show()

    def tick(self) -> None:
        self.read()
        if self.take_samples():
            self._show()
            self.rest(over=False)

    def resting(self) -> tuple[str, Kind]:
        current = self.current
        if current is None or current.path is None:
            return "", "plain"
        found = next((self.kept.get(job) for job in self._page.jobs if job.path == current.path), None)
        return (f"{printable(current.path.name)} {found.fault}.", "warning") if found and found.fault else ("", "plain")

    def offers(self, action: str) -> bool:
        if action == "sample_now":
            return self._is_live()
        if action in ("pan", "fit"):
            return self.large and self.zoom > 1
        if action == "weights":
            return len(self.shown.weights) > 1 and not (self.large and self.beside)
        return bool(self.shown.drawn) or action == "back"

    def active_keys(self) -> list[Key]:
        keys = super().active_keys()
        return [replace(key, label="all") if key.action == "one" else key for key in keys] if self.large else keys

    def _is_live(self) -> bool:
        try:
            return is_live(runs.state_now(self.run_dir))
        except (OSError, ValueError):
            return False

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Everything, as far as its pictures are there; the others are asked for."""
        self._show_title()
        if self.wall.room[0] < 8 or self.wall.room[1] < 4:
            return
        self._page = self._plan()
        self._draw()
        self.want([*self._page.jobs, *self._soon()])
        self.update_keys()

    def _plan(self) -> Page:
        room = self.wall.room
        if not self.shown.drawn:
            return Page(words=self._nothing())
        if self.large:
            return self._large(self._panes(self.step), room)
        grid = self._grid(room)
        self.first = self._followed(grid)
        page = grid_page(
            self.shown,
            grid,
            first=self.first,
            cursor=(self.step, self.row),
            weights=self.weights,
            paint=self.paint,
            room=room,
        )
        self._before.clear()
        return page

    def _nothing(self) -> list[Words]:
        if self.state.started is None:
            return [Words(0, 1, "The run has not begun yet.", "dim")]
        how = f"{self.key_name('samples.draw')} draws the profile's prompts now." if self._is_live() else ""
        return [Words(0, 1, "No preview has been drawn.", "dim"), Words(0, 2, how, "dim")]

    def _large(self, panes: Sequence[Preview], room: tuple[int, int]) -> Page:
        part, self.centre = visible_part(self.zoom, self.centre)
        return large_page(self.prompt, panes, paint=self.paint, part=part, room=room, slow=self.slow)

    def _grid(self, room: tuple[int, int]) -> Grid:
        shape = next(iter(self.shown.drawn.values())).size
        return grid_of(room, shape, len(self.shown.prompts), slow=self.slow)

    def _followed(self, grid: Grid) -> tuple[int, int]:
        """The upper left so that the cursor is seen. It moves by half a grid, because each move sends every picture."""
        column, row = self.first
        steps, half = len(self.shown.steps), max(grid.across // 2, 1)
        if column < 0:
            column = self.step - grid.across + 1
        elif not column <= self.step < column + grid.across:
            column = self.step - grid.across + half if self.step >= column + grid.across else self.step - half + 1
        column = min(max(column, 0), max(steps - 1, 0))
        if not row <= self.row < row + grid.down:
            row = self.row - grid.down + 1 if self.row >= row + grid.down else self.row
        return column, max(row, 0)

    def _panes(self, step: int) -> list[Preview]:
        """What is shown of a step: one picture, or all there are of it beside the untouched model's."""
        at = self.shown.steps[step]
        found = self.shown.at(self.prompt, at, self.weights)
        if not self.beside:
            return [found] if found else []
        base = self.shown.base(self.prompt)
        every = self.shown.all_at(self.prompt, at)
        return [*([base] if base and at else []), *every]

    def _soon(self) -> list[Job]:
        """The next ones when one goes through the steps."""
        if not self.large:
            return []
        near = [each for each in (self.step - 1, self.step + 1) if 0 <= each < len(self.shown.steps)]
        pages = [self._large(panes, self.wall.room) for each in near if (panes := self._panes(each))]
        return [job for page in pages for job in page.jobs]

    def _draw(self) -> None:
        room = self.wall.room
        self.wall.show(compose(self._page, room, self.kept.get, self._before))
        if self.large:
            found = {index: self.kept.get(place.job) for index, place in enumerate(self._page.places) if place.job}
            self._before.update({index: result for index, result in found.items() if result is not None})

    def _show_title(self) -> None:
        parts = [f"{cut(self.run_dir.name, max(self.size.width - 52, 12))}  "]
        if self.shown.drawn:
            step = self.shown.steps[self.step]
            at = f"step {step:,}" if step else "base model"
            parts.append(f"prompt {self.row + 1} of {len(self.shown.prompts)}  {at}, ")
            parts.append(f"{self.step + 1} of {len(self.shown.steps)}")
        self.set_title((parts[0], "bold"), "samples  ", "".join(parts[1:]))

    def came(self, jobs: Sequence[Job]) -> None:
        if any(job in self._page.jobs for job in jobs):
            self._draw()
            self.rest(over=False)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        """From a part to the whole picture, from there to the grid, then to the run."""
        if self.large and self.zoom > 1:
            self.action_fit()
        elif self.large:
            self.action_one()
        else:
            self.app.pop_screen()

    def action_one(self) -> None:
        if self.current is None:
            self._say_none()
            return
        self.large, self.zoom, self.centre = not self.large, 1.0, (0.5, 0.5)
        self._before.clear()
        self.kept.forget_faults()
        self._show()

    def action_step(self, by: int) -> None:
        """Through the steps; of one prompt over those that have no picture of it."""
        to = self.step + by
        while self.large and 0 <= to < len(self.shown.steps) and not self._panes(to):
            to += 1 if by > 0 else -1
        self._go(to if self.large else min(max(to, 0), len(self.shown.steps) - 1), self.row)

    def action_prompt(self, by: int) -> None:
        row = min(max(self.row + by, 0), max(len(self.shown.prompts) - 1, 0))
        self._go(self.step, row)

    def action_end(self, which: int) -> None:
        self._go(0 if which < 0 else len(self.shown.steps) - 1, self.row)

    def action_beside(self) -> None:
        """Side by side with the untouched model, and with the other weights where both have drawn."""
        if not self.shown.drawn:
            return
        base = self.shown.base(self.prompt)
        if base is None and len(self.shown.weights) < 2 and not self.beside:
            self.say("Nothing to put beside it: the base was not drawn (preview.at_start).", "warning")
            return
        self.beside = not self.beside
        if not self.large:
            self.beside = True
            self.action_one()
            return
        self._before.clear()
        self._show()

    def action_weights(self) -> None:
        known = self.shown.weights
        if len(known) < 2:
            said = f"Every preview was drawn with the {known[0]} weights." if known and known[0] else ""
            self.say(said or "There are no previews of other weights.", "warning")
            return
        if self.large and self.beside:
            self.say("All weights that drew it are shown.")
            return
        self.weights = known[(known.index(self.weights) + 1) % len(known)]
        self.say(f"Drawn with the {self.weights} weights")
        self._show()

    def action_zoom(self, factor: float) -> None:
        if not self.large:
            self.action_one()
        if self.large:
            self.zoom = min(max(self.zoom * factor, 1.0), MOST_ZOOM)
            self._show()

    def action_fit(self) -> None:
        self.zoom, self.centre = 1.0, (0.5, 0.5)
        self._show()

    def action_pan(self, right: int, down: int) -> None:
        self.centre = self.centre[0] + right * PAN / self.zoom, self.centre[1] + down * PAN / self.zoom
        self._show()

    def action_sample_now(self) -> None:
        try:
            word = runs.state_now(self.run_dir)
        except (OSError, ValueError) as error:
            self.say(f"The run cannot be read: {error}", "error")
            return
        if is_live(word):
            steer.send(self, self.run_dir, "sample")
        else:
            self.say(steer.why_not(word, self.key_name("run.resume")), "warning")

    def _go(self, step: int, row: int) -> None:
        if not self.shown.drawn or not 0 <= step < len(self.shown.steps):
            return
        if self.large and not self._panes_at(step, row):
            return
        self.step, self.row = step, row
        self._show()
        self.rest(over=False)

    def _panes_at(self, step: int, row: int) -> bool:
        prompt, at = self.shown.prompts[row], self.shown.steps[step]
        return self.shown.at(prompt, at, self.weights) is not None

    def _say_none(self) -> None:
        self.say(
            "There is no picture of this prompt at this step." if self.shown.drawn else "No preview yet.", "warning"
        )
