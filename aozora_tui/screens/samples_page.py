"""Where pictures and words stand on the samples screen: many small ones, or one prompt's large. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aozora_tui.preview_pictures import WHOLE, Job, Paint, Painted, Part, fitted
from aozora_tui.previews import Preview, Previews, Prompt, settings_words
from aozora_tui.screens.data_page import wrapped
from aozora_tui.screens.words import cursor_sign, plain
from aozora_tui.widgets.wall import Canvas, text_cells

GAP = 2  # columns between two pictures
LABELS = 2  # lines over and under a picture of the grid
FOOT = 2  # lines at the bottom of the grid
LEAST_ROWS = 7  # of a picture in the grid, in lines, if there is more than one prompt
ACROSS_NARROW, ACROSS_WIDE, WIDE = 3, 4, 100  # so many pictures side by side at least; on a slow link, at most
BESIDE = 36  # columns of the words next to a picture
SLOW_ROOM = (40, 20)  # of a large picture over a slow link


@dataclass(frozen=True)
class Place:
    """Of a picture that is there to be shown: `job` fills at most the `size` at column `x` and row `y`. `label` stands
    under it, or above it."""

    x: int
    y: int
    size: tuple[int, int]
    job: Job | None
    name: str
    label: str
    label_y: int
    style: str = ""


@dataclass(frozen=True)
class Words:
    x: int
    y: int
    text: str
    style: str = ""


@dataclass(frozen=True)
class Page:
    places: Sequence[Place] = ()
    words: Sequence[Words] = ()

    @property
    def jobs(self) -> list[Job]:
        return [place.job for place in self.places if place.job is not None]


@dataclass(frozen=True)
class Grid:
    """So many pictures of that size, in columns and rows of cells, side by side and one under the other."""

    across: int
    down: int
    size: tuple[int, int]


def grid_of(room: tuple[int, int], shape: tuple[int, int], prompts: int, *, slow: bool) -> Grid:
    """For pictures of that `shape`, width and height. It does not depend on how many steps there are, so that a new
    one moves nothing."""
    width, height = max(room[0], 8), max(room[1] - FOOT, 4)
    least = ACROSS_WIDE if width >= WIDE else ACROSS_NARROW
    widest = (width - GAP * (least - 1)) // least
    down = max(min(prompts, height // (LEAST_ROWS + LABELS)), 1)
    size = fitted(shape, (min(widest, 16) if slow else widest, max(height // down - LABELS, 2)))
    across = (width + GAP) // (size[0] + GAP)
    return Grid(max(min(across, least) if slow else across, 1), down, size)


def grid_page(
    shown: Previews,
    grid: Grid,
    *,
    first: tuple[int, int],
    cursor: tuple[int, int],
    weights: str,
    paint: Paint,
    room: tuple[int, int],
) -> Page:
    """`first` and `cursor` are indices of a step and of a prompt."""
    places, words = [], []
    wide, high = grid.size
    steps = shown.steps[first[0] : first[0] + grid.across]
    for down, prompt in enumerate(shown.prompts[first[1] : first[1] + grid.down]):
        y = down * (high + LABELS)
        here = first[1] + down == cursor[1]
        words.append(Words(0, y, _cut(prompt.text or "(empty prompt)", room[0]), "head" if here else "dim"))
        for right, step in enumerate(steps):
            marked = here and first[0] + right == cursor[0]
            preview = shown.at(prompt, step, weights)
            job = _job(preview, grid.size, paint)
            label = step_words(step) if preview else "none"
            sign = cursor_sign() if marked else " "
            places.append(
                Place(
                    right * (wide + GAP),
                    y + 1,
                    grid.size,
                    job,
                    _name(preview),
                    f"{sign}{label} " if preview or marked else "",
                    y + 1 + high,
                    "cursor" if marked else "dim",
                )
            )
    return Page(places, [*words, *_foot(shown, cursor, weights, room)])


def large_page(
    prompt: Prompt,
    panes: Sequence[Preview],
    *,
    paint: Paint,
    part: Part,
    room: tuple[int, int],
    slow: bool,
) -> Page:
    """Previews of one prompt side by side, the words next to them or beneath."""
    width, height = room
    each = (width - GAP * (len(panes) - 1)) // max(len(panes), 1)
    shape = panes[0].size
    beneath = fitted(shape, _bounded((each, max(height - 1 - 4, 2)), slow=slow))
    aside = fitted(shape, _bounded((max(width - BESIDE - GAP, 4), height - 1), slow=slow))
    beside = len(panes) == 1 and aside[0] * aside[1] >= beneath[0] * beneath[1]
    size = aside if beside else beneath
    places = []
    for index, preview in enumerate(panes):
        x = index * (each + GAP) if len(panes) > 1 else 0
        label = pane_label(preview, panes, part)
        job = _job(preview, size, paint, part=part, fine=True)
        places.append(Place(x, 1, size, job, _name(preview), label, 0, "head"))
    x, y = (size[0] + GAP, 1) if beside else (0, size[1] + 1)
    last = replace(panes[-1], weights="") if _several(panes) else panes[-1]  # the labels say it of each
    lines = list(_about(prompt, last, width - x, spread=beside))[: height - y]
    return Page(places, [Words(x, y + down, text, style) for down, (text, style) in enumerate(lines)])


def compose(
    page: Page, room: tuple[int, int], found: Callable[[Job], Painted | None], before: Mapping[int, Painted]
) -> Canvas:
    """`before` is what to go on showing at a place, by its index, until its picture comes."""
    canvas = Canvas(room)
    for words in page.words:
        canvas.write(words.x, words.y, words.text, words.style)
    for index, place in enumerate(page.places):
        result = found(place.job) if place.job is not None else None
        waits = result is None and place.job is not None and index in before
        label = f"{place.label.rstrip()} {plain('…')} " if waits else place.label
        canvas.put(place.x, place.label_y, [text_cells(label, place.style)[: max(place.size[0], 12)]])
        fault = _fault(place, result)
        result = before.get(index) if waits else result
        if fault:
            for down, line in enumerate(wrapped(fault, place.size[0])[: place.size[1]]):
                canvas.write(place.x, place.y + down, line, "attention")
        elif result is not None:
            canvas.put(place.x, place.y, result.rows)
    return canvas


def step_words(step: int) -> str:
    return f"{step:,}" if step else "base"


def pane_label(preview: Preview, panes: Sequence[Preview], part: Part) -> str:
    """What the picture is, and how much of it is seen."""
    text = f"step {preview.step:,}" if preview.step else "base model"
    if preview.step and preview.weights and _several(panes):
        text = f"{preview.weights}, {text}"
    times = 1 / (part[2] - part[0])
    return f"{text}  x{times:g}" if part != WHOLE else text


def _several(panes: Sequence[Preview]) -> bool:
    """Whether several weights drew them, the untouched model apart."""
    return len({pane.weights for pane in panes if pane.step}) > 1


def visible_part(zoom: float, centre: tuple[float, float]) -> tuple[Part, tuple[float, float]]:
    """What is seen of a picture `zoom` times enlarged, and the centre, moved to where it leaves no edge."""
    half = 0.5 / zoom
    x, y = (min(max(each, half), 1 - half) for each in centre)
    return (x - half, y - half, x + half, y + half), (x, y)


def _job(
    preview: Preview | None, size: tuple[int, int], paint: Paint, *, part: Part = WHOLE, fine: bool = False
) -> Job | None:
    if preview is None or preview.path is None:
        return None
    return Job(preview.path, preview.time, size, paint, part, fine)


def _name(preview: Preview | None) -> str:
    return preview.path.name if preview and preview.path else ""


def _fault(place: Place, result: Painted | None) -> str:
    if place.job is None:
        return (
            "is named outside the run's folder" if place.label and not place.name and "none" not in place.label else ""
        )
    return f"{place.name} {result.fault}" if result and result.fault else ""


def _foot(shown: Previews, cursor: tuple[int, int], weights: str, room: tuple[int, int]) -> Iterator[Words]:
    """The prompt under the cursor, which is cut above if it is long, and how its picture was drawn."""
    prompt, step = shown.prompts[cursor[1]], shown.steps[cursor[0]]
    preview = shown.at(prompt, step, weights)
    if preview is None:
        yield Words(0, room[1] - 1, f"No picture of this prompt at step {step:,}.", "dim")
        return
    negative = preview.settings.get("negative") or ""
    parts = [f"step {step:,}" if step else "base model", *settings_words(preview)]
    yield Words(0, room[1] - 1, _fitting(parts, room[0] - 1))
    if negative and room[1] >= 12:
        yield Words(0, room[1] - 2, _cut(f"negative: {negative}", room[0]), "dim")


def _about(prompt: Prompt, preview: Preview, width: int, *, spread: bool) -> Iterator[tuple[str, str]]:
    """Lines about a picture; `spread`: there is room for one thing a line."""
    said = settings_words(preview)
    if not spread:
        yield _cut(prompt.text or "(empty prompt)", width), "head"
        if negative := preview.settings.get("negative"):
            yield _cut(f"negative: {negative}", width), "dim"
        yield _fitting(said, width), ""
        return
    for line in wrapped(prompt.text or "(empty prompt)", width - 1):
        yield line, "head"
    yield "", ""
    if negative := preview.settings.get("negative"):
        for line in wrapped(f"negative: {negative}", width - 1):
            yield line, "dim"
        yield "", ""
    for part in said:
        yield part, ""
    if preview.path is not None:
        yield "", ""
        for line in wrapped(f"{preview.path.parent.name}/{preview.path.name}", width - 1):
            yield line, "dim"


def _bounded(room: tuple[int, int], *, slow: bool) -> tuple[int, int]:
    return (min(room[0], SLOW_ROOM[0]), min(room[1], SLOW_ROOM[1])) if slow else room


def _fitting(parts: Sequence[str], width: int) -> str:
    """As many as fit whole."""
    text = ""
    for part in parts:
        longer = f"{text}  {part}" if text else part
        if len(longer) > width:
            break
        text = longer
    return text


def _cut(text: str, width: int) -> str:
    """At most `width` columns, one line of it, the loss shown at the end."""
    cells = text_cells(text)
    if len(cells) <= width - 1:
        return "".join(char for char, _ in cells)
    return "".join(char for char, _ in cells[: max(width - 2, 0)]) + plain("…")
