"""The form of a profile: what it shows, and the check that runs behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from aozora_tui import runs
from aozora_tui.key_names import is_text, shown
from aozora_tui.keymap import bindings
from aozora_tui.own_keys import EDITING
from aozora_tui.pictures_look import PicturesLook
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.forecast_bar import OTHER, forecast_bar
from aozora_tui.screens.form import FieldRow, Marks
from aozora_tui.screens.profile_section import SectionForm
from aozora_tui.screens.profile_sides import alike, run_values
from aozora_tui.screens.profile_text import (
    Known,
    field_of,
    field_path,
    forecast_text,
    help_text,
    no_forecast,
    section_line,
    summary_text,
)
from aozora_tui.screens.rows import Column, Rows
from aozora_tui.screens.verdict import Verdict, idle_fields, judge
from aozora_tui.screens.words import FAINT, cut_path
from engine.contract import places
from engine.contract.atomic import Interrupted
from engine.contract.fields import FormField, form_fields, sections
from engine.contract.problems import Problem
from engine.contract.profile import parse, salvage
from engine.contract.profile_values import default_of

DEBOUNCE = 0.4
SECTION_COLUMNS = (Column("", 13), Column("", 2, right=True))


class ProfileForm(AozoraScreen[None]):
    """Edits stay here until they are saved; what can be done with them is up to those who make more of it:
    `ProfileKeys`, `ProfileTools`, `ProfileDisk` and, whole, `ProfileScreen`."""

    DEFAULT_CSS = "ProfileForm #bar { height: 1; padding: 0 1; }"
    scopes: ClassVar[tuple[str, ...]] = ("profile", "choice")
    BINDINGS = bindings("profile")
    AUTO_FOCUS = "#sections"

    def __init__(self, file: ProfileFile, *, recipe: bool = False, field: str | None = None) -> None:
        super().__init__()
        self.file, self.recipe = file, recipe
        self.problems: tuple[Problem, ...] = ()
        self.verdict: Verdict | None = None
        self._idle: dict[str, str] = {}  # fields without effect, and where they would have one
        self._asked_for: set[str] = set()  # of those the ones that are shown all the same
        self._only_changed = False
        self._pending = False  # the whole check has not seen the text yet
        self._run_has: Mapping[str, Any] = {}  # what the profile's live run has, by field
        self._first_field = field
        self._forms: dict[str, SectionForm] = {}
        self._timer: Timer | None = None
        self._pictures = PicturesLook()
        self._at: FormField | None = None

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="profile"):
            yield Rows(SECTION_COLUMNS, empty_text="", id="sections")
            yield Container(id="form")
        yield Static(id="field-help", markup=False)
        yield Static(id="bar", markup=False)
        yield Static(id="forecast", markup=False)
        yield Static(id="problems", markup=False)

    # -- state ---------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self._look()
        if self._first_field is not None:
            self.call_after_refresh(self.go_to, self._first_field)
        self.rest()

    def resting(self) -> tuple[str, Kind]:
        return ("A recipe is read-only: saving writes a copy into your own folder." if self.recipe else ""), "plain"

    def value(self, field: FormField) -> Any:
        """What the form shows: the value in the file, else the default."""
        stored = self.file.get(field.path)
        return default_of(field) if stored is None else stored

    def known(self, field: FormField) -> Known:
        """Where the field's value comes from, and who has another one."""
        running = self._run_has.get(field.path)
        running = None if alike(field, self.value(field), running, self.file.path.parent) else running
        return Known(self.file.saved(field.path), self.file.get(field.path), self._idle.get(field.path, ""), running)

    def problems_of(self, field: FormField) -> list[Problem]:
        return [problem for problem in self.problems if field_of(problem) == field.path]

    def on_field_row_edited(self, event: FieldRow.Edited) -> None:
        event.stop()
        self.take_edits()

    def take_edits(self) -> None:
        """Write into the file what was typed; to be called before anything that uses the file."""
        edited = [row for form in self._forms.values() for row in form.rows.values() if row.untaken()]
        for row in edited:
            raw, field = row.take(), row.field
            if raw is not None and raw == default_of(field) and self.file.saved(field.path) is None:
                raw = None  # the default need not be written down
            self.file.set(field.path, raw)
        if edited:
            self._look()

    def on_field_row_entered(self, event: FieldRow.Entered) -> None:
        self.take_edits()
        self._at = event.field
        self.file.end_of_change()
        self._show_help()

    def on_rows_moved(self) -> None:
        self._at = None
        self._show_section()
        self._show_help()

    def check_now(self) -> None:
        """Start the whole check in a thread; a newer one replaces it."""
        self._stop_timer()
        self._check(self.file.text, self.file.path)

    def refill(self) -> None:
        """Show the file's values again, after it was changed by something else than the fields."""
        for form in self._forms.values():
            for row in form.rows.values():
                row.put(self.value(row.field))
        self._look()

    def _look(self) -> None:
        """Show what follows from the text as it is, and ask for the whole check soon."""
        profile, found = parse(self.file.text, self.file.path.name)
        known = self.verdict.still_true(self.file) if self.verdict else []  # what only the machine knows
        self.problems = (*found, *(problem for problem in known if problem not in found))
        idle = idle_fields(profile or salvage(self.file.text, found), self.file)
        idle = self._idle if idle is None else idle
        self._idle = {path: why for path, why in idle.items() if not self.problems_of(form_fields()[path])}
        self._pending = True
        self._show()
        self._stop_timer()
        self._timer = self.set_timer(DEBOUNCE, self.check_now)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check(self, text: str, path: Path) -> None:
        readings, live = self.aozora.read_gpu(None), runs.live(places.runs_folder())
        running, worker = run_values(live, path), get_current_worker()
        verdict = judge(text, path, readings, busy=bool(live))
        known = self._pictures.known(verdict.checked.profile, path.parent)
        self.app.call_from_thread(self._checked, replace(verdict, pictures=known), running)
        if known is None and verdict.checked.profile is not None:
            with contextlib.suppress(Interrupted):
                found = self._pictures.look(verdict.checked.profile, path.parent, lambda: worker.is_cancelled)
                self.app.call_from_thread(self._checked, replace(verdict, pictures=found), running)

    def _checked(self, verdict: Verdict, running: Mapping[str, Any]) -> None:
        self._run_has = running
        seen = verdict.seen
        if (seen.path, seen.text) == (self.file.path, self.file.text) and self.is_attached:
            self.verdict, self.problems, self._pending = verdict, verdict.problems, False
            self._show()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def go_to(self, path: str) -> None:
        """Show a field and put the focus on it; a path inside it (`data.folders[0].path`) will do."""
        name = field_path(path)
        if name not in form_fields():
            return
        self._asked_for.add(name)
        self._only_changed = self._only_changed and self._is_changed(form_fields()[name])
        self.query_one("#sections", Rows).select(form_fields()[name].section)
        form = self._show_section()
        form.rows[name].take_focus()

    def key_here(self, id: str) -> str:
        """What to press for a command of the form from where the focus is: while letters are text a key that is none,
        or else esc first."""
        keys = next(key.keys.split(",") for key in self.aozora.settings.keys.scope("profile") if key.id == id)
        if not self.typing:
            return shown(keys[0])
        typed = (shown(key) for key in keys if not is_text(key) and key not in EDITING)
        return next(typed, f"{self.key_name('profile.back')}, then {shown(keys[0])}")

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self._show_sections()
        self._show_section()
        kind, style = self.standing()
        where = cut_path(self.file.path.parent, max(self.size.width - len(self.file.path.name) - 30, 8))
        self.set_title((f"{self.file.path.stem}  ", "bold"), (kind, style), (f"  {where}", FAINT))
        self._show_forecast()
        self._show_help()

    def _mark(self, form: SectionForm) -> None:
        for path, row in form.rows.items():
            field = form_fields()[path]
            changed = not field.required and not self._is_default(field)
            named = path == "model.base" and self.verdict is not None and self.verdict.saw(self.file, path)
            note = self.verdict.base if self.verdict and named else ""
            row.mark(Marks(changed, path in self._idle, self.problems_of(field), note, self._pending))
        form.hide(self._hidden(form))
        self._tell_hidden(form)

    def _tell_hidden(self, form: SectionForm) -> None:
        key = self.key_here("profile.changed" if self._only_changed else "profile.all")
        form.tell_hidden(key=key, as_default=self._only_changed)

    def _hidden(self, form: SectionForm) -> set[str]:
        if self._only_changed:
            return {path for path in form.rows if not self._is_changed(form_fields()[path])}
        return {path for path in self._idle.keys() - self._asked_for if self._is_default(form_fields()[path])}

    def _is_changed(self, field: FormField) -> bool:
        return bool(self.problems_of(field)) or not (self._is_default(field) and self._same_as_saved(field))

    def _same_as_saved(self, field: FormField) -> bool:
        return bool(self.file.saved(field.path) == self.file.get(field.path))

    def _is_default(self, field: FormField) -> bool:
        return bool(self.value(field) == default_of(field))

    def _show_sections(self) -> None:
        lines = []
        for section in sections():
            empty = self._only_changed and not any(self._is_changed(field) for field in section.fields)
            lines.append(section_line(section, self.problems, faint=empty))
        self.query_one("#sections", Rows).set_lines(lines)

    def _form(self) -> SectionForm | None:
        return self._forms.get(self.query_one("#sections", Rows).key or "")

    def _show_section(self) -> SectionForm:
        """The form of the section under the cursor, made when it is first looked at."""
        name = self.query_one("#sections", Rows).key or sections()[0].name
        if name not in self._forms:
            section = next(section for section in sections() if section.name == name)
            self._forms[name] = SectionForm(section, self.value)
            self.query_one("#form").mount(self._forms[name])
        for other, form in self._forms.items():
            form.display = other == name
        self._mark(self._forms[name])
        return self._forms[name]

    def _show_forecast(self) -> None:
        verdict = self.verdict
        ahead = verdict.checked.outlook if verdict else None
        if verdict is None or ahead is None:
            self.set_line("#forecast", no_forecast(self.problems))
            self.set_line("#bar", Content())
        else:
            self.set_line("#bar", forecast_bar(ahead.cost, verdict.card, self.size.width - 2))
            self.set_line("#forecast", forecast_text(ahead, verdict.usable, self.size.width - 2))
        self.set_line("#problems", self.summary())

    def summary(self) -> Content:
        """One line for what is wrong."""
        checked = self.verdict is not None and self.verdict.pictures is not None
        return summary_text(self.problems, checked=checked, key=self.key_name("profile.problem"))

    def standing(self) -> tuple[str, str]:
        """Whether the disk has what is here, and the style of that word."""
        if self.file.modified:
            return "unsaved changes", "bold $warning"
        return "recipe" if self.recipe else "saved", FAINT

    def _show_help(self) -> None:
        if self._at is None:
            name = self.query_one("#sections", Rows).key
            section = next((section for section in sections() if section.name == name), sections()[0])
            hint = "enter goes into the form."
            if section.name == "memory":
                hint += f" In the bar below, {OTHER}."
            text = Content.assemble((f"{section.help} ", ""), (hint, FAINT))
        else:
            most = min(max((self.size.height - 12) // 2, 3), 6)
            text = help_text(self._at, self.known(self._at), width=self.size.width - 2, height=most)
        if form := self._form():
            self._tell_hidden(form)
        self.query_one("#field-help").styles.height = max(text.plain.count("\n") + 1, 3)
        self.set_line("#field-help", text)
        self.update_keys()

    def on_resize(self) -> None:
        self._show()
