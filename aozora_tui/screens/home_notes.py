"""What a person says of the selected run: its tags and a note, and its profile taken over."""

from __future__ import annotations

from collections.abc import Callable

from aozora_tui import run_notes
from aozora_tui.run_list import look
from aozora_tui.run_notes import MOST_TAGS, Notes
from aozora_tui.runs import RunSummary
from aozora_tui.screens.base import Kind
from aozora_tui.screens.home_marks import HomeMarks
from aozora_tui.screens.words import cut_path
from engine.contract.rundir import RunDir

_IN_USE = 8  # tags of other runs that are named where one is asked for


class HomeNotes(HomeMarks):
    """Every run can be noted on, a live one too."""

    def told_of(self, summary: RunSummary) -> tuple[str, Kind]:
        """Of the selected run what its line has no room for; "" if that is nothing."""
        tags = "" if self._run_layout.shows_tags(summary) else run_notes.told(summary.tags)
        if summary.failure:
            # The note is the person's own, and what the run says of its failure stands whole on its screen.
            said = [f"{tags} {summary.note}".strip(), f"{summary.failure}. {summary.remedy}"]
            return " | ".join(part for part in said if part), "warning"
        if summary.notes_trouble:
            return summary.notes_trouble, "warning"
        return f"{tags} {summary.note}".strip(), "plain"

    def action_tag(self) -> None:
        if (run := self._run_to_note()) is None:
            return
        before = run_notes.read(run).tags
        others = [tag for tag in self._runs.tags() if tag not in before][:_IN_USE]
        about = f"Up to {MOST_TAGS} words, with blanks between; {self.key_name('home.filter')} finds them."
        about += f" Others have: {' '.join(others)}" if others else ""

        def write(text: str) -> Notes:
            tags = run_notes.tags_of(text)
            return run_notes.change(run, add=tags, remove=set(before) - set(tags))

        self._ask(run, f"Tags of {run.name}", "".join(f"{tag} " for tag in before), about, run_notes.tags_of, write)

    def action_note(self) -> None:
        if (run := self._run_to_note()) is None:
            return
        about = f"One line; {self.key_name('home.filter')} finds what is in it. Left empty there is none."
        before = run_notes.read(run).note

        def write(text: str) -> Notes:
            return run_notes.change(run, note=run_notes.note_of(text))

        self._ask(run, f"Note on {run.name}", before, about, run_notes.note_of, write)

    def _ask(
        self,
        run: RunDir,
        title: str,
        first: str,
        about: str,
        check: Callable[[str], object],
        write: Callable[[str], Notes],
    ) -> None:
        """`check` raises ValueError with what is wrong with a text. One that cannot be written is asked for again: it
        is not lost."""
        from aozora_tui.screens.ask_line import AskLine

        def wrong(text: str) -> str:
            try:
                check(text)
            except ValueError as error:
                return str(error)
            return ""

        def answered(text: str | None) -> None:
            if text is None:
                return
            try:
                write(text)
            except (OSError, ValueError) as error:
                self._ask(run, title, text, f"It was not written: {error}", check, write)
                return
            self._runs.take(str(run.path), look(run, self.aozora.clock()))
            self._show_runs()
            self.rest()

        asked = AskLine(title, first, wrong=wrong, about=about, accept="write it", selected=False)
        self.app.push_screen(asked, answered)

    def _run_to_note(self) -> RunDir | None:
        """The selected run, unless nothing can be noted on it; then why is said."""
        run = self._selected_run() if self.runs_list.has_focus else None
        if run is None:
            self.say(f"Select a run first: {self.key_name('home.switch')} goes to the other list", "warning")
            return None
        trouble = run_notes.read(run).trouble
        reason = run_notes.why_not(run) or (f"{trouble}. {run_notes.mend(run)}" if trouble else "")
        if reason:
            self.say(reason, "warning")
        return None if reason else run

    def action_duplicate(self) -> None:
        """Of a run its profile, which becomes one's own."""
        if not self.runs_list.has_focus:
            super().action_duplicate()
            return
        from aozora_tui.clone_profile import clone

        if (run := self._selected_run()) is None:
            return
        try:
            made = clone(run)
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
            return
        self._found_again(made)
        self.say(
            f"What {run.name} was told is now {cut_path(made, max(self.size.width - len(run.name) - 24, 24))}", "good"
        )
