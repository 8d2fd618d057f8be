"""The form of a profile: what it shows, how one moves in it, and the check that runs behind it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.events import Key
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from aozora_tui import runs
from aozora_tui.keymap import bindings
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.field_words import default_of
from aozora_tui.screens.form import FAINT, FieldRow, Marks, SectionForm
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
from aozora_tui.screens.words import cut_path
from engine.contract import places
from engine.contract.fields import FormField, form_fields, sections
from engine.contract.problems import Problem
from engine.contract.profile import parse, salvage

DEBOUNCE = 0.4
SECTION_COLUMNS = (Column("", 13), Column("", 2, right=True))


class ProfileForm(AozoraScreen[None]):
    """Edits stay here until they are saved; what can be done with them is up to `ProfileScreen`."""

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
        self._first_field = field
        self._forms: dict[str, SectionForm] = {}
        self._timer: Timer | None = None
        self._at: FormField | None = None

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="profile"):
            yield Rows(SECTION_COLUMNS, empty_text="", id="sections")
            yield Container(id="form")
        yield Static(id="field-help", markup=False)
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
        self._show()
        self._stop_timer()
        self._timer = self.set_timer(DEBOUNCE, self.check_now)

    @work(thread=True, exclusive=True, group="check", exit_on_error=False)
    def _check(self, text: str, path: Path) -> None:
        readings, busy = self.aozora.read_gpu(None), bool(runs.live(places.runs_folder()))
        self.app.call_from_thread(self._checked, judge(text, path, readings, busy=busy))

    def _checked(self, verdict: Verdict) -> None:
        if verdict.seen.text == self.file.text and self.is_attached:
            self.verdict, self.problems = verdict, verdict.problems
            self._show()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    # -- moving --------------------------------------------------------------------------------------------------------

    def action_next_field(self) -> None:
        self._step_field(1)

    def action_previous_field(self) -> None:
        self._step_field(-1)

    def action_enter_form(self) -> None:
        form = self._form()
        if form is not None and (shown := form.shown):
            form.rows[shown[0]].take_focus()

    def action_all_rows(self) -> None:
        """Show the fields without effect too, or no longer."""
        self._asked_for = set() if self._asked_for >= set(self._idle) else {*form_fields()}
        self._show_section()
        self.say("Settings without effect are shown" if self._asked_for else "Settings without effect are not shown")

    def action_problem(self) -> None:
        """The next field with a problem, in the form's order, after the present one."""
        order = list(form_fields())
        wrong = [path for path in order if any(field_of(problem) == path for problem in self.problems)]
        if not wrong:
            self.say(str(self.problems[0]) if self.problems else "No problem", "warning" if self.problems else "good")
            return
        here = order.index(self._at.path) if self._at else -1
        self.go_to(next((path for path in wrong if order.index(path) > here), wrong[0]))

    def action_undo(self) -> None:
        self.take_edits()
        path = self.file.undo()
        if path is None:
            self.say("Nothing to undo")
            return
        self.refill()
        self.go_to(path)
        self.say(f"Undone: {form_fields()[path].label}")

    def action_default(self) -> None:
        if self._at is None:
            self.say("Go to a field first")
        elif self._at.required:
            self.say(f"{self._at.label} has no default", "warning")
        else:
            self.take_edits()
            self.file.end_of_change()
            self.file.set(self._at.path, None)
            self.refill()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  (Textual's)
        if action in ("next_field", "previous_field"):
            return self._at is not None
        if action == "enter_form":
            return self._at is None
        if action == "default":
            return self._at is not None
        return True

    def more_commands(self) -> Iterable[SystemCommand]:
        for section in sections():
            for field in section.fields:
                yield SystemCommand(
                    f"{section.label}: {field.label}", field.help, partial(self.go_to, field.path), False
                )

    def go_to(self, path: str) -> None:
        """Show a field and put the focus on it; a path inside it (`data.folders[0].path`) will do."""
        name = field_path(path)
        if name not in form_fields():
            return
        self._asked_for.add(name)
        self.query_one("#sections", Rows).select(form_fields()[name].section)
        form = self._show_section()
        form.rows[name].take_focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._step_field(1)

    def on_key(self, event: Key) -> None:
        if event.key == "enter" and self.focused is self.query_one("#sections"):
            event.stop()
            self.action_enter_form()

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self._show_sections()
        self._show_section()
        kind = "unsaved changes" if self.file.modified else "recipe" if self.recipe else "saved"
        style = "bold $warning" if self.file.modified else FAINT
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
            row.mark(Marks(changed, path in self._idle, self.problems_of(field), note))
        hidden = {path for path in self._idle.keys() - self._asked_for if self._is_default(form_fields()[path])}
        form.hide(hidden)
        form.tell_hidden(typing=self.typing)

    def _is_default(self, field: FormField) -> bool:
        return bool(self.value(field) == default_of(field))

    def _show_sections(self) -> None:
        self.query_one("#sections", Rows).set_lines([section_line(section, self.problems) for section in sections()])

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
        else:
            self.set_line("#forecast", forecast_text(ahead, verdict.usable, self.size.width - 2))
        self.set_line("#problems", summary_text(self.problems, checked=verdict is not None))

    def _show_help(self) -> None:
        if self._at is None:
            name = self.query_one("#sections", Rows).key
            section = next((section for section in sections() if section.name == name), sections()[0])
            hint = "enter goes into the form."
            text = Content.assemble((f"{section.help} ", ""), (hint, FAINT))
        else:
            path = self._at.path
            known = Known(self.file.saved(path), self.file.get(path), self._idle.get(path, ""))
            most = min(max((self.size.height - 12) // 2, 3), 6)
            text = help_text(self._at, known, width=self.size.width - 2, height=most)
        if form := self._form():
            form.tell_hidden(typing=self.typing)
        self.query_one("#field-help").styles.height = max(text.plain.count("\n") + 1, 3)
        self.set_line("#field-help", text)
        self.update_keys()

    def on_resize(self) -> None:
        self._show()

    def _step_field(self, by: int) -> None:
        form = self._form()
        if form is None or self._at is None or self._at.path not in form.rows:
            return
        order = form.shown
        index = order.index(self._at.path) + by
        if 0 <= index < len(order):
            form.rows[order[index]].take_focus()
