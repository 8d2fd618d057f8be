"""What is drawn on the screen of curves: the three of them, where the cursor is, and what was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aozora_tui.screens import curve_points as edit
from aozora_tui.screens.curve_kinds import KINDS, Drawing, Kind, kind_at
from aozora_tui.screens.curve_points import Grain, Pace, Points
from aozora_tui.widgets.curve_picture import Line
from aozora_tui.widgets.scale import nice_step, settle
from engine.contract.problems import Problem, errors
from engine.contract.sections import Point, Profile

READINGS = 40  # places of the cursor on a curve without points
SHRINK_BELOW = 0.4  # of the axis, that the curve no longer reaches
NO_POINTS = "This shape has no points yet: turn it into points first."


@dataclass(frozen=True)
class State:
    """What undo brings back. `cursors` are indices of points, or of places on a curve that has none."""

    tab: int
    drawings: tuple[Drawing, ...]
    cursors: tuple[int, ...] = (0,) * len(KINDS)


class Sketch:
    """Methods that edit return what there is to say about it, nothing if it went as asked."""

    def __init__(self, profile: Profile, path: str) -> None:
        self._profile = profile
        self._before = tuple(kind.drawing(profile) for kind in KINDS)
        in_order = [replace(one, points=tuple(sorted(one.points, key=lambda point: point.at))) for one in self._before]
        self.state = State(kind_at(path), tuple(in_order))
        self._past: list[State] = []
        self._future: list[State] = []
        self._group: tuple[Any, ...] = ()
        self._logs = [False] * len(KINDS)
        self._ranges: dict[tuple[int, bool], tuple[float, float]] = {}
        # The highest that each axis was: a key's step follows no curve downwards, or it would never get it to 0.
        self._tops = [0.0] * len(KINDS)
        self.snap = False

    # -- what it is now ------------------------------------------------------------------------------------------------

    @property
    def tab(self) -> int:
        return self.state.tab

    @property
    def kind(self) -> Kind:
        return KINDS[self.tab]

    @property
    def drawing(self) -> Drawing:
        return self.state.drawings[self.tab]

    @property
    def points(self) -> Points:
        """Of a shape that is not drawn: none."""
        return self.drawing.points if self.is_drawn else ()

    @property
    def is_drawn(self) -> bool:
        return self.kind.is_drawn(self.drawing)

    @property
    def cursor(self) -> int:
        return self.state.cursors[self.tab]

    @property
    def log(self) -> bool:
        return self._logs[self.tab]

    @property
    def grain(self) -> Grain:
        return self.kind.grain(self._profile)

    @property
    def at(self) -> float:
        """Where the cursor is, on the points' axis."""
        if self.points:
            return self.points[self.cursor].at
        return self.grain.last * self.cursor / READINGS

    @property
    def profile(self) -> Profile:
        """The profile as it would be, but for what has no effect."""
        made = self._profile
        for kind, drawing in zip(KINDS, self.state.drawings, strict=True):
            made = kind.applied(made, drawing)
        return made

    @property
    def changed(self) -> bool:
        return bool(self.written)

    @property
    def written(self) -> dict[str, Any]:
        """Plain values by path, None for a default; empty if nothing has changed."""
        found: dict[str, Any] = {}
        for kind, before, now in zip(KINDS, self._before, self.state.drawings, strict=True):
            found |= kind.written(before, now)
        return found

    def problems(self) -> list[Problem]:
        """Of the curve that is shown, errors first."""
        return self.kind.problems(self.profile)

    def forbidding(self) -> list[Problem]:
        """What is wrong with what would be written."""
        written = self.written
        found = [problem for kind in KINDS for problem in kind.problems(self.profile)]
        return [problem for problem in errors(found) if problem.path.partition("[")[0] in written]

    def range(self, lines: Sequence[Line]) -> tuple[float, float]:
        """The y axis: it stays as long as the curve fits, so that a key does not repaint everything."""
        upward = self.kind.upward(self._profile)
        values = [y for line in lines for y in line.ys] + [point.value * upward for point in self.points]
        high = max(values, default=0.0) or upward
        previous = self._ranges.get((self.tab, self.log))
        if self.log:
            least = min((value for value in values if value >= high * edit.LOG_SPAN), default=high)
            found = settle(previous, least, high, log=True)
        elif previous and SHRINK_BELOW * previous[1] <= high <= previous[1]:
            found = previous
        else:
            step = nice_step(high * 1.05, 10)
            found = (0.0, step * -int(-high * 1.05 // step))
        self._ranges[self.tab, self.log] = found
        self._tops[self.tab] = max(self._tops[self.tab], found[1] / upward)
        return found

    # -- looking -------------------------------------------------------------------------------------------------------

    def switch(self, by: int) -> None:
        self._group = ()
        self.state = replace(self.state, tab=(self.tab + by) % len(KINDS))

    def walk(self, by: int) -> None:
        self._group = ()
        self._go(min(max(self.cursor + by, 0), self._places - 1))

    def jump(self, to: int) -> None:
        """To the first place, or with -1 to the last."""
        self._group = ()
        self._go(0 if to == 0 else self._places - 1)

    def go_near(self, at: float) -> None:
        """To the place that is nearest to `at`."""
        self._group = ()
        places = [point.at for point in self.points] or [
            self.grain.last * index / READINGS for index in range(READINGS + 1)
        ]
        self._go(min(range(len(places)), key=lambda index: abs(places[index] - at)))

    def toggle_log(self) -> None:
        self._logs[self.tab] = not self.log

    # -- editing -------------------------------------------------------------------------------------------------------

    def change(self, by: int, *, coarse: bool) -> str:
        return self._edit("change", lambda points, at: (edit.raised(points, at, by, self._pace(), coarse=coarse), at))

    def slide(self, by: int, *, coarse: bool) -> str:
        before = self.points
        said = self._edit(
            "slide",
            lambda points, at: (edit.slid(points, at, by, self.grain, coarse=coarse, snap=self.snap), at),
        )
        return said or ("There is no room that way." if self.points == before else "")

    def insert(self) -> str:
        if not self.is_drawn and not self.kind.drawn_word:
            self._draw(Drawing(self.drawing.shape, self.kind.begun()), 0)
            return "A factor of 1 everywhere: shape it, the weight follows."
        found = edit.inserted(self.points, self.cursor, self.grain) if self.points else None
        if self.points and found is None:
            return "There is no room for another point."
        return self._edit("", lambda points, at: found or (points, at))

    def remove(self) -> str:
        if self.is_drawn and len(self.points) == 1 and self.kind.drawn_word:
            return "The last point stays: choose another shape to be without."
        return self._edit("", lambda points, at: (edit.removed(points, at), max(min(at, len(points) - 2), 0)))

    def put(self, point: Point) -> str:
        """Replace the point under the cursor. Raises ValueError where another one is already."""
        return self._edit("", lambda points, at: edit.put(points, at, point))

    def toggle_snap(self) -> str:
        """Turned on, it takes the point under the cursor along."""
        self.snap = not self.snap
        if not self.snap or not self.points:
            return "" if self.snap else "Points move freely again."
        return self._edit("", lambda points, at: (edit.snapped(points, at, self.grain, self._pace()), at))

    def cycle(self, by: int) -> None:
        """The next shape; a drawn one only if there are points."""
        drawn = self.kind.drawn_word
        words = [word for word in self.kind.words if word != drawn or self.drawing.points]
        here = words.index(self.drawing.shape) if self.drawing.shape in words else -by
        was_drawn = self.is_drawn
        self._draw(Drawing(words[(here + by) % len(words)], self.drawing.points), None, group=("cycle", self.tab))
        if self.is_drawn != was_drawn:
            self._go(0)

    def into_points(self) -> str:
        """Points that follow the shape; of the loss weight, that follow what is effective."""
        kind, drawing = self.kind, self.drawing
        if self.is_drawn and drawing.shape == (kind.drawn_word or "none"):
            return "These are points already."
        if drawing.shape == kind.drawn_word:
            made = Drawing(drawing.shape, kind.begun())
        else:
            try:
                made = kind.into_points(self.profile, relative=self.log)
            except ValueError as error:
                return f"Nothing to turn into points: {error}."
        at = self.at
        self._draw(made, min(range(len(made.points)), key=lambda index: abs(made.points[index].at - at)))
        return f"{len(made.points)} points follow the shape." if kind.drawn_word else self._baked(len(made.points))

    def undo(self) -> str:
        return "" if self._step(self._past, self._future) else "Nothing to undo here."

    def redo(self) -> str:
        return "" if self._step(self._future, self._past) else "Nothing to redo here."

    @staticmethod
    def _baked(count: int) -> str:
        return f"{count} points follow the weight; the shape under them is none now, so they are all of it."

    @property
    def _places(self) -> int:
        return len(self.points) or READINGS + 1

    def _pace(self) -> Pace:
        return Pace(self._tops[self.tab] or 1.0, self.log, self.snap)

    def _go(self, place: int) -> None:
        cursors = (*self.state.cursors[: self.tab], place, *self.state.cursors[self.tab + 1 :])
        self.state = replace(self.state, cursors=cursors)

    def _edit(self, group: str, change: Callable[[Points, int], tuple[Points, int]]) -> str:
        """`change` of the points and the cursor. Keys of one `group` on one point are one step of undo."""
        if not self.is_drawn:
            return NO_POINTS
        points, place = change(self.points, self.cursor)
        at = (group, self.tab, self.cursor) if group else ()
        if points != self.points or place != self.cursor:
            self._draw(Drawing(self.drawing.shape, points), place, group=at)
        return ""

    def _draw(self, drawing: Drawing, place: int | None, *, group: tuple[Any, ...] = ()) -> None:
        if not group or group != self._group:
            self._past.append(self.state)
        self._future.clear()
        self._group = group
        drawings = (*self.state.drawings[: self.tab], drawing, *self.state.drawings[self.tab + 1 :])
        self.state = replace(self.state, drawings=drawings)
        if place is not None:
            self._go(place)

    def _step(self, source: list[State], target: list[State]) -> bool:
        before, self._group = self.state, ()
        while source and source[-1].drawings == before.drawings:  # grouped keys may come back to where they began
            source.pop()
        if not source:
            return False
        after = source.pop()
        target.append(before)
        changed = [before.drawings[tab] != after.drawings[tab] for tab in range(len(KINDS))]
        self.state = replace(after, tab=changed.index(True))
        return True
