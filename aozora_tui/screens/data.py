"""The data screen: what a run of the profile would learn from, picture by picture and as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from aozora_tui.dataset_cache import CacheState
from aozora_tui.dataset_draws import Drawing, Vocabulary
from aozora_tui.dataset_filter import next_fault, searched, size_of
from aozora_tui.dataset_survey import Batch, Placed, Survey, roots_of
from aozora_tui.keymap import bindings
from aozora_tui.screens.base import Kind
from aozora_tui.screens.data_page import Page, Parts, Pictures, ending
from aozora_tui.screens.data_pages import bucket_page, cache_page, skipped_page
from aozora_tui.screens.data_picture import Look, picture_page, picture_room
from aozora_tui.screens.data_work import DataWork
from aozora_tui.screens.words import counted, cut
from engine.contract.sections import Profile

View = Literal["picture", "buckets", "skipped", "cache"]
VIEWS: tuple[View, ...] = get_args(View)
REST_SECONDS = 0.25  # how long the cursor must stay on a picture before it is decoded and drawn
MOST_ROOTS = 4


class DataScreen(DataWork):
    """`folder` is where the profile's relative paths start. Nothing is changed here; leaving ends all work."""

    scopes: ClassVar[tuple[str, ...]] = ("data", "list")
    BINDINGS = bindings("data")
    AUTO_FOCUS = "#pictures"

    DEFAULT_CSS = """
    DataScreen #data { height: 1fr; padding: 1 0 0 1; }
    DataScreen #data-left { width: 42%; }
    DataScreen #data-roots { padding: 0 2; color: $foreground 80%; }
    DataScreen #data-filter { width: 1fr; padding: 0 2; background: $surface; display: none; }
    DataScreen #data-filter:focus { background: $panel; }
    DataScreen #data-right { width: 1fr; margin-left: 1; }
    DataScreen #data-views { height: 1; margin-bottom: 1; }
    """

    def __init__(self, profile: Profile, folder: Path) -> None:
        super().__init__(profile, folder)
        self.view: View = "picture"
        self.cache: CacheState | None = None
        self._unknown = "when: the pictures are still being counted"
        self._cache_said = ""
        self._filter = ""
        self._searched: list[str] = []  # what the filter looks in
        self._look: tuple[int, Look] | None = None
        self._resting_timer: Timer | None = None

    def body(self) -> ComposeResult:
        with Horizontal(id="data"):
            with Vertical(id="data-left"):
                roots = Static(id="data-roots", markup=False)
                roots.styles.height = min(len(self.survey.roots), MOST_ROOTS + 1) + 1
                yield roots
                yield Input(id="data-filter", placeholder="a part of a name, a caption or a bucket", compact=True)
                yield Pictures(self._named, id="pictures")
            with Vertical(id="data-right"):
                yield Static(id="data-views", markup=False)
                yield Page(lambda: self.key_name("data.more"), id="data-page")

    @property
    def pictures(self) -> Pictures:
        return self.query_one(Pictures)

    @property
    def page(self) -> Page:
        return self.query_one(Page)

    @property
    def current(self) -> Placed | None:
        """The picture under the cursor."""
        return self.survey.placed[index] if (index := self.pictures.index) is not None else None

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False
        self.action_again()

    def on_unmount(self) -> None:
        self.workers.cancel_node(self)

    def on_page_resized(self) -> None:
        self._look = None
        self._show()
        self.look_now()

    def resting(self) -> tuple[str, Kind]:
        survey = self.survey
        if survey.finished and not survey.placed:
            return "No picture can be used: look at what is skipped, or correct data.folders.", "error"
        if survey.finished and (survey.skipped or survey.problems):
            skipped, more = counted(len(survey.skipped), "file"), counted(len(survey.problems), "remark")
            return f"{skipped} skipped, {more}: press {self.key_name('data.skipped')}", "warning"
        return "", "plain"

    # What keys do

    def action_view(self, view: View) -> None:
        self.view = view
        self._show(anew=True)
        if view == "cache" and not self.cache and not self._cache_said and self.survey.finished:
            self._ask_cache()
        if view == "picture":
            self.look_now()

    def action_turn(self, by: int) -> None:
        self.action_view(VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)])

    def action_again(self) -> None:
        """Scan anew, from nothing."""
        self.scan += 1
        self.survey, self._searched = Survey(roots_of(self.profile, self.folder)), []
        self.drawing, self.cache, self._look, self._cache_said = None, None, None, ""
        self._unknown = "when: the pictures are still being counted"
        self.pictures.empty_text = "looking for pictures"
        self.pictures.set_entries(())
        self.workers.cancel_group(self, "cache")
        self.scan_folders(self.scan)
        self._show()

    def action_image(self) -> None:
        self.pictures_shown = not self.pictures_shown
        self._look = None
        self._show()
        self.look_now()

    def action_whole(self) -> None:
        self.whole = not self.whole
        self.say("The whole picture, darker where it is cut away" if self.whole else "What is learnt of the picture")
        self._look = None
        self.look_now()

    def action_filter(self) -> None:
        box = self.query_one(Input)
        box.display = True
        box.focus()

    def action_faults(self) -> None:
        """The next list of pictures that are not as they should be, by the filter, where it can be read and changed."""
        mark = next_fault(self._searched, self._filter)
        if mark is None:
            self.say("Every picture has a caption; none is cropped much or enlarged", "good")
            return
        box = self.query_one(Input)
        box.value, box.display = mark, bool(mark)

    def action_more(self, by: int) -> None:
        """Scroll the page; after its end it begins anew."""
        page = self.page
        if by > 0 and page.top + page.room[1] >= page.count:
            page.scroll_by(-page.top)
        else:
            page.scroll_by(by * max(page.room[1] - 2, 1))

    def action_back(self) -> None:
        """First out of the filter."""
        if self.typing or self._filter:
            self.query_one(Input).value = ""
            self.query_one(Input).display = False
            self.pictures.focus()
        else:
            self.dismiss(None)

    def on_input_submitted(self) -> None:
        self.query_one(Input).display = bool(self._filter)
        self.pictures.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value.strip().lower()
        self._show_list()

    def on_pictures_moved(self) -> None:
        """The text at once, the picture itself when the cursor rests."""
        if self._look and self._look[0] != self.pictures.index:
            self._look = None
        if self.view != "picture":
            return
        self._show()
        if self._resting_timer is not None:
            self._resting_timer.stop()
        self._resting_timer = self.set_timer(REST_SECONDS, self.look_now)

    # What comes from threads

    def on_data_work_came(self, event: DataWork.Came) -> None:
        if event.scan == self.scan:
            event.then()

    def found(self, batch: Batch) -> None:
        first = len(self.survey.placed)
        self.survey.add(batch)
        self._searched += map(searched, batch.placed)
        if batch.finished:
            self.pictures.empty_text = "no picture can be used"
            self.plan_draws(list(self.survey.placed), self.scan)
            self.rest(over=False)
            if self.view == "cache":
                self._ask_cache()
        self._show_list()
        self._show()
        if first == 0 and batch.placed:
            self.look_now()

    def planned(self, vocabulary: Vocabulary | None, drawing: Drawing | None, unknown: str) -> None:
        self.vocabulary, self.drawing, self._unknown = vocabulary, drawing, unknown
        self._look = None
        self._show()
        self.look_now()

    def look_now(self) -> None:
        """Decode the picture under the cursor and find its draws, if the page is about it."""
        placed, index = self.current, self.pictures.index
        if placed is None or index is None or self.view != "picture" or (self._look and self._look[0] == index):
            return
        self.look_at(placed, index, picture_room(self.page.room))

    def looked(self, index: int, look: Look) -> None:
        if index == self.pictures.index:
            self._look = (index, look)
            self._show()

    def _ask_cache(self) -> None:
        self._cache_said = "looking at the cache"
        self._show()
        self.judge_cache(list(self.survey.placed), self.scan)

    def judged(self, said: str, state: CacheState | None) -> None:
        self._cache_said, self.cache = said, state
        if self.view == "cache":
            self._show()

    # What is shown

    def _show_list(self) -> None:
        words = self._filter
        entries: Sequence[int] = range(len(self.survey.placed))
        if words:
            entries = [index for index, text in enumerate(self._searched) if words in text]
            self.pictures.empty_text = f"nothing has {cut(words, 20)}"
        self.pictures.set_entries(entries)

    def _show(self, *, anew: bool = False) -> None:
        survey = self.survey
        if survey.finished:
            samples = self.drawing.order.samples_per_epoch if self.drawing is not None else survey.samples
            state = f"{samples:,} samples an epoch"
        else:
            state = f"scanning {survey.done:,} of {survey.total:,}" if survey.total else "scanning"
        self.set_title(("Data  ", "bold"), f"{counted(len(survey.placed), 'picture')}  {state}")
        self._show_roots()
        views = [(f"[{view}]", "bold") if view == self.view else (f" {view} ", "$foreground 60%") for view in VIEWS]
        self.set_line("#data-views", Content.assemble(*views))
        self.page.set_lines(self._page(), anew=anew)

    def _page(self) -> list[Parts]:
        width, survey = self.page.room[0], self.survey
        if self.view == "buckets":
            return bucket_page(survey, self.profile, self.drawing, width, only=self.key_name("data.faults"))
        if self.view == "skipped":
            return skipped_page(survey, width)
        if self.view == "cache":
            return cache_page(self.cache, self._cache_said or ("" if self.cache else "after the scan"), width)
        placed = self.current
        if placed is None:
            return [(("No picture is selected.", "dim"),)]
        return picture_page(
            placed,
            self._look[1] if self._look else None,
            self.profile,
            self.drawing,
            unknown=self._unknown,
            room=self.page.room,
            shown=self.pictures_shown,
        )

    def _show_roots(self) -> None:
        width = max(self.query_one("#data-left").size.width - 4, 16)
        lines: list[Content] = []
        for index, root in enumerate(self.survey.roots[:MOST_ROOTS]):
            times = f" x {root.repeats}" if root.repeats > 1 else ""
            number = f"{self.survey.counts[index]:,}{times}"
            room = width - len(number) - 2
            name = ending(root.text, room)
            lines.append(Content.assemble(f"{name:<{room}}  ", (number, "bold")))
        if (more := len(self.survey.roots) - MOST_ROOTS) > 0:
            lines.append(Content(f"and {counted(more, 'folder')} more"))
        self.set_line("#data-roots", Content("\n").join(lines))

    def _named(self, index: int) -> tuple[str, str, bool]:
        placed = self.survey.placed[index]
        return placed.name, size_of(placed), placed.placement.upscaled
