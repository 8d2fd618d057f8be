"""A profile and a run as one line of a list, and how wide its columns are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aozora_tui.run_notes import told
from aozora_tui.runs import RunSummary
from aozora_tui.screens.home_profiles import Entry, Facts
from aozora_tui.screens.rows import GAP, Column, Line
from aozora_tui.screens.words import cut, state_style, state_text
from aozora_tui.text import age, printable, size
from aozora_tui.widgets.scale import short

WIDE = 96  # columns of a list; from there on there is room for whose a profile is, and for what it covers in numbers
RUN_COLUMNS = (
    Column("run", 0),
    Column("state", 12),
    Column("step", 13, right=True),
    Column("loss", 7, right=True),
    Column("age", 7, right=True),
)
NAMES = (Column("profile", 0),)
_TITLES = ("profile", "", "base", "learns", "plan", "steps", "last run")
_LEAST = (14, 6, 10, 12, 4, 6, 8)
_MOST = (60, 6, 36, 24, 11, 10, 12)
_READABLE = 16  # columns that a name has at least, as long as others can go: the plan, then what it learns
_FIRST_TO_GO = (4, 3)
_NARROW_RUNS = 72
_TAGS, _SIZE = Column("tags", 20), Column("size", 9, right=True)
_NARROW_MOST = (24, 0, 20, 13, 11, 9, 12)


@dataclass(frozen=True)
class RunLayout:
    """`room`: columns that a name has."""

    columns: tuple[Column, ...]
    room: int

    def shows_tags(self, summary: RunSummary) -> bool:
        """Whether the line has all the tags: in a column of their own, or behind the name where that leaves room."""
        tags = told(summary.tags)
        return len(tags) <= _TAGS.width if _TAGS in self.columns else len(summary.name) + 1 + len(tags) <= self.room


@dataclass(frozen=True)
class Known:
    """What a line says of a profile: `facts` None is not read yet; `share` of the UNet's parameters that learn, from 0
    to 1, if it is known; `last` is its newest run."""

    entry: Entry
    facts: Facts | None = None
    share: float | None = None
    last: RunSummary | None = None


def age_of(summary: RunSummary, now: float) -> str:
    """How long ago the run was last heard of; `now` in Unix seconds."""
    seen = now - summary.last_event if summary.last_event else summary.age
    return "" if summary.state == "unreadable" else age(max(seen, 0))


def run_line(path: str, summary: RunSummary, seen: str, weight: int | None, layout: RunLayout) -> Line:
    """`path` names the line, `seen` is its age, `weight` its bytes on the disk."""
    style, tags = state_style(summary.state), told(summary.tags)
    behind = tags and _TAGS not in layout.columns and layout.shows_tags(summary)
    cells = {
        "run": (f"{summary.name} {tags}" if behind else summary.name, "live" if style == "live" else "plain"),
        "tags": (tags, "dim"),
        "state": (state_text(summary.state), style),
        "step": (f"{summary.step:,}/{summary.steps:,}" if summary.steps else "", "plain"),
        "loss": (_loss(summary.loss) if summary.loss is not None else "", "plain"),
        "size": (size(weight) if weight is not None else "", "plain"),
        "age": (seen, "dim"),
    }
    return Line(path, tuple(cells[column.title] for column in layout.columns))


def _loss(loss: float) -> str:
    """Half a number is a wrong number: a loss that has run away is shortened."""
    return f"{loss:.4f}" if abs(loss) < 100 else short(loss)


def run_layout(width: int, *, tagged: bool = False, weighed: bool = False) -> RunLayout:
    """For a list of `width`: a name is worth more than the loss and the age, and where runs are sorted by their size
    that is worth more than these. `tagged`: some run has a tag."""
    name, state, step, loss, seen = RUN_COLUMNS
    if width >= WIDE:
        columns = (name, *((_TAGS,) if tagged else ()), state, step, loss, *((_SIZE,) if weighed else ()), seen)
    elif width >= _NARROW_RUNS:
        columns = (name, state, step, loss, _SIZE if weighed else seen)
    else:
        columns = (name, state, _SIZE if weighed else step)
    # Beside the cursor's sign, a bar to scroll with, and what marks a run.
    return RunLayout(columns, width - sum(column.width + GAP for column in columns) - 4)


class RunLines:
    """Made anew only if they would be other ones: there may be thousands, and they are asked for each second."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[RunSummary, tuple[str, int | None, RunLayout], Line]] = {}

    def get(self, path: str, summary: RunSummary | None, now: float, weight: int | None, layout: RunLayout) -> Line:
        """`summary` None: it was not read yet. `now` in Unix seconds, `weight` in bytes."""
        if summary is None:
            return unread_run(path, layout)
        given, made = (age_of(summary, now), weight, layout), self._made.get(path)
        if made is None or made[0] is not summary or made[1] != given:
            self._made[path] = made = (summary, given, run_line(path, summary, given[0], weight, layout))
        return made[2]


def unread_run(path: str, layout: RunLayout) -> Line:
    """One of which only the name is known so far."""
    return Line(path, ((printable(Path(path).name), "plain"), *((("", "plain"),) * (len(layout.columns) - 1))))


def profile_line(known: Known, width: int) -> Line:
    """What it learns, how and for how long, or what keeps it from that. Cells as in `profile_columns`."""
    wide = width >= WIDE
    entry, facts = known.entry, known.facts or Facts()
    style = _style(entry)
    state = (state_text(known.last.state), state_style(known.last.state)) if known.last else ("", "plain")
    if entry.recipe and known.last is None and not wide:
        state = ("recipe", "dim")
    cells = [
        (printable(entry.path.stem), style),
        ("recipe" if entry.recipe else "yours", style),
        (f"! {facts.trouble}", "bad") if facts.trouble else (printable(facts.base), style),
        (_learns(facts, known.share, wide=wide), style),
        (facts.plan, style),
        (f"{facts.steps:,}" if facts.steps else "", style),
        state,
    ]
    return Line(entry.key, tuple(cells[index] for index in _shown(width)))


def only_name(entry: Entry) -> Line:
    """All that is known of a profile without reading it. A cell as in `NAMES`."""
    return Line(entry.key, ((printable(entry.path.stem), _style(entry)),))


def profile_columns(lines: Sequence[Line], width: int) -> tuple[Column, ...]:
    """As wide as what is in them, within limits; the name takes what is left of `width`."""
    wide, at = width >= WIDE, _shown(width)
    most = _MOST if wide else _NARROW_MOST
    longest = [max((len(line.cells[place][0]) for line in lines), default=0) for place in range(len(at))]
    widths = {index: min(max(longest[place], _LEAST[index]), most[index]) for place, index in enumerate(at)}
    spare = width - 2 - GAP * len(at) - sum(widths.values())
    if spare < 0:  # of the two that are names, the base is the one that is cut
        widths[2] = max(widths[2] + spare, _LEAST[2])
    widths[0] = 0
    return tuple(Column(_TITLES[index], widths[index], right=index == 5) for index in at)


def _shown(width: int) -> list[int]:
    """The columns that a list of `width` has room for; it depends on nothing else, so that lines and titles agree."""
    at = [index for index in range(len(_TITLES)) if index != 1 or width >= WIDE]
    for index in _FIRST_TO_GO:
        if width - 2 - GAP * len(at) - sum(_LEAST[place] for place in at[1:]) < _READABLE:
            at.remove(index)
    return at


def matches(words: Collection[str], *texts: str) -> bool:
    """Whether each of the words, in small letters, is somewhere in the texts."""
    within = "\n".join(texts).lower()
    return all(word in within for word in words)


def _style(entry: Entry) -> str:
    return "dim" if entry.recipe else "plain"


def _learns(facts: Facts, share: float | None, *, wide: bool) -> str:
    if share is None:
        return facts.learns
    percent = f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"
    if facts.vague or (wide and share < 1):
        return percent if facts.vague and not wide else f"{cut(facts.learns, 16)}  {percent}"
    return facts.learns
