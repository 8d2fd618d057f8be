"""A profile on the screen, whole: edit, save, start, leave."""

from __future__ import annotations

from collections.abc import Callable

from aozora_tui.screens import steer
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.profile_disk import ProfileDisk


class ProfileScreen(ProfileDisk):
    """A recipe is read-only: saving writes a copy into the person's own folder and goes on with that."""

    def action_save(self) -> None:
        self.take_edits()
        self._save()

    def action_start(self) -> None:
        """Save what is unsaved (having asked), check, launch."""
        self.take_edits()
        if not self.file.modified:
            self._start()
            return

        def answered(answer: str | None) -> None:
            if answer == "save":
                self._save(self._start)

        title = f"{self.file.path.stem} has unsaved changes"
        self.app.push_screen(Ask(title, ["A run uses the file."], [Answer("y", "save and start", "save")]), answered)

    def action_back(self) -> None:
        if self._at is not None:
            self._at = None
            self.query_one("#sections").focus()
            self._show_help()
        else:
            self.leave(self.app.pop_screen)

    def leave(self, then: Callable[[], object]) -> None:
        self.take_edits()
        if not self.file.modified:
            then()
            return

        def answered(answer: str | None) -> None:
            if answer == "save":
                self._save(then)
            elif answer == "discard":
                then()

        answers = [Answer("s", "save", "save"), Answer("d", "discard", "discard", harmful=True)]
        self.app.push_screen(Ask(f"{self.file.path.stem} has unsaved changes", [], answers), answered)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """The page that says what the run will take; from there it starts, or one goes to what is wrong."""
        from aozora_tui.screens.start import StartScreen
        from engine.contract.profile import read_text

        path = self.file.path

        def mend(field: str = "") -> None:
            if field:
                self.go_to(field)

        page = StartScreen(path, self.file.text, mend=mend)

        def answered(start: bool | None) -> None:
            if start and (not path.is_file() or read_text(path) != page.text):
                self.say(f"{path.name} was changed since it was checked: start looks at it again", "warning")
            elif start:
                steer.launch(self, path, self.app.pop_screen)

        self.app.push_screen(page, answered)
