"""A profile on the screen: save it, start it, choose its layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from aozora_tui.profile_file import ChangedOnDiskError, ProfileFile, free_path
from aozora_tui.screens import steer
from aozora_tui.screens.ask import Answer, Ask, problem_lines
from aozora_tui.screens.field_words import default_of
from aozora_tui.screens.profile_form import ProfileForm
from aozora_tui.screens.words import counted, cut_path
from engine.contract import layers as layer_tree
from engine.contract import places
from engine.contract.fields import form_fields
from engine.contract.problems import errors

if TYPE_CHECKING:
    from engine.contract.check import Checked


class ProfileScreen(ProfileForm):
    """A recipe is read-only: saving writes a copy into the person's own folder and goes on with that."""

    def action_save(self) -> None:
        self.take_edits()
        self._save()

    def action_layers(self) -> None:
        self.take_edits()
        self._open_layers(str(self.file.get("model.base") or ""))

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

        answers = [Answer("s", "save", "save"), Answer("d", "discard", "discard")]
        self.app.push_screen(Ask(f"{self.file.path.stem} has unsaved changes", [], answers), answered)

    # -- saving and starting -------------------------------------------------------------------------------------------

    def _save(self, then: Callable[[], object] = lambda: None) -> None:
        try:
            if self.recipe:
                self.file.save_as(free_path(places.profiles_folder(), self.file.path.stem))
                self.recipe = False
                self.say(f"Saved as your own copy: {cut_path(self.file.path, 50)}", "good")
            else:
                self.file.save()
                found = len(errors(self.problems))
                with_problems = f" with {counted(found, 'problem')}: it cannot start yet" if found else ""
                self.say(f"Saved {self.file.path.name}{with_problems}", "warning" if found else "good")
        except ChangedOnDiskError as error:
            self._ask_about_change(str(error), then)
            return
        except OSError as error:
            self.say(f"Not saved: {error}", "error")
            return
        self._show()
        then()

    def _ask_about_change(self, text: str, then: Callable[[], object]) -> None:
        def answered(answer: str | None) -> None:
            if answer == "overwrite":
                self.file.save(overwrite=True)
                self.say(f"Saved {self.file.path.name} over the other program's version", "warning")
                self._show()
                then()
            elif answer == "reload":
                self._reload()

        answers = [Answer("r", "reload it, dropping the edits made here", "reload")]
        answers.append(Answer("o", "overwrite it", "overwrite"))
        self.app.push_screen(Ask("The file was changed elsewhere", [text], answers), answered)

    def _reload(self) -> None:
        try:
            self.file = ProfileFile.open(self.file.path)
        except ValueError as error:
            self.say(str(error), "error")
            return
        self.refill()
        self.say("Reloaded from the disk")

    def _start(self) -> None:
        self.say(f"Checking {self.file.path.name}")
        self._check_and_start(self.file.path)

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _check_and_start(self, path: Path) -> None:
        checked = steer.check_for_start(self, path)
        if checked is not None:
            self.app.call_from_thread(self._start_checked, path, checked)

    def _start_checked(self, path: Path, checked: Checked) -> None:
        from aozora_tui.verify import could_not_ask

        if not self.is_current:  # torch takes its time, and somebody went on
            self.say(f"{path.name} is checked; it was not started", "warning")
            return
        if checked.ok:
            steer.launch(self, path, self.app.pop_screen, in_doubt=could_not_ask(checked))
            return
        self._stop_timer()
        found = errors(checked.problems)
        self.problems = checked.problems
        self._show()
        title = f"{path.stem} cannot start: {counted(len(found), 'problem')}"

        def answered(_answer: str | None) -> None:
            self.go_to(found[0].path)

        self.app.push_screen(Ask(title, problem_lines(checked.problems), []), answered)

    # -- layers --------------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="layers", exit_on_error=False)
    def _open_layers(self, base: str) -> None:
        from engine.contract.base_checkpoint import read_base

        try:
            if not base:
                raise ValueError("the layers are read from the base checkpoint: name that first")
            root = layer_tree.read_layers(read_base(places.expand(base, self.file.path.parent)))
        except (OSError, ValueError) as error:
            self.app.call_from_thread(self.say, str(error), "warning")
            return
        self.app.call_from_thread(self._show_layers, root)

    def _show_layers(self, root: layer_tree.Layer) -> None:
        from aozora_tui.screens.layers import LayersScreen

        train, freeze = (self._patterns(f"layers.{side}") for side in ("train", "freeze"))
        trained = layer_tree.select(root.tensors, train, freeze).trained

        def answered(patterns: list[str] | None) -> None:
            if patterns is not None:
                default = default_of(form_fields()["layers.train"])
                unneeded = patterns == default and self.file.saved("layers.train") is None
                frozen: list[str] | None = None if self.file.get("layers.freeze") is None else []
                self.file.end_of_change()
                self.file.update({"layers.train": None if unneeded else patterns, "layers.freeze": frozen})
                self.refill()
                self.say(f"Trained layers: {', '.join(patterns)}", "good")

        self.app.push_screen(LayersScreen(root, trained), answered)

    def _patterns(self, path: str) -> list[str]:
        listed = self.value(form_fields()[path])
        return [entry for entry in listed if isinstance(entry, str)] if isinstance(listed, list | tuple) else []
