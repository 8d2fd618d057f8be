"""The form and the disk: saving, what others write meanwhile, and the text in an editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.app import SuspendNotSupported

from aozora_tui.profile_file import REST, ChangedOnDiskError, ProfileFile, Stamp, free_path
from aozora_tui.profile_merge import Merge, Side, changes, labels, merge
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.base import Kind
from aozora_tui.screens.profile_tools import ProfileTools
from aozora_tui.screens.words import counted, cut_path
from engine.contract import places
from engine.contract.problems import errors
from engine.contract.schema import keep_beside


class ProfileDisk(ProfileTools):
    """What somebody else writes into the file comes into the form by itself, unless both changed the same field: then
    nothing is taken and nothing is lost, and saving asks."""

    _looked_at: Stamp | None = None  # the file as it was when somebody else's writing was last dealt with
    _clash: Merge | None = None

    def tick(self) -> None:
        """Once a second: one look at the file's time."""
        if self.file.changed_on_disk() and self.file.stamp not in (None, self._looked_at):
            self.take_edits()
            self._take_theirs()

    def resting(self) -> tuple[str, Kind]:
        if self._clash is not None:
            fields = labels(self._clash.clashes)
            key = self.key_name("profile.save")
            return f"Changed here and by another program: {fields}. Saving ({key}) asks which to keep", "warning"
        return super().resting()

    # -- saving --------------------------------------------------------------------------------------------------------

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
        self._clash = None
        self._show()
        then()

    def _ask_about_change(self, text: str, then: Callable[[], object]) -> None:
        """Before somebody else's version is written over."""
        found = self._their_version()
        merged, stamp = found if found is not None else (None, None)
        lines = [text]
        answers = []
        if merged is not None and merged.clashes:
            lines.append(f"Both changed {labels(merged.clashes)}. Everything else of both is kept.")
            answers.append(Answer("k", "keep mine", "mine"))
            answers.append(Answer("t", "take theirs", "theirs"))
        elif merged is not None:
            answers.append(Answer("m", "keep both", "mine"))
        answers.append(Answer("r", "reload it, dropping mine", "reload"))
        answers.append(Answer("o", "overwrite it", "overwrite"))

        def answered(answer: str | None) -> None:
            if answer == "overwrite":
                self.file.save(overwrite=True)
                self._clash = None
                self.say(f"Saved {self.file.path.name} over the other program's version", "warning")
                self._show()
                then()
            elif answer == "reload":
                self._reload()
            elif answer is not None and merged is not None:
                self._put_together(merged, stamp, "theirs" if answer == "theirs" else "mine")
                self._save(then)

        self.app.push_screen(Ask("The file was changed elsewhere", lines, answers), answered)

    def _reload(self) -> None:
        try:
            self.file = ProfileFile.open(self.file.path)
        except ValueError as error:
            self.say(str(error), "error")
            return
        self._clash = None
        self.refill()
        self.say("Reloaded from the disk")

    # -- somebody else's changes ---------------------------------------------------------------------------------------

    def _their_version(self) -> tuple[Merge, Stamp | None] | None:
        """None while the file cannot be read, or is no TOML: perhaps it is being written."""
        try:
            text, stamp = self.file.on_disk()
        except (OSError, ValueError):
            return None
        return merge(self.file.path, self.file.saved_text, self.file.text, text), stamp

    def _take_theirs(self) -> None:
        found = self._their_version()
        if found is None:
            self.say(f"{self.file.path.name} was changed by another program and cannot be read now", "warning")
            return
        merged, self._looked_at = found
        self._clash = merged if merged.clashes else None
        if merged.clashes:
            self.rest()
            return
        self._put_together(merged, self._looked_at, "mine")
        what = labels(list(merged.theirs)) if merged.theirs else "comments"
        self.say(f"Another program changed {self.file.path.name}; taken over: {what}", "good")

    def _put_together(self, merged: Merge, stamp: Stamp | None, side: Side) -> None:
        """As one change, which can be undone."""
        text = merged.text_with(side)
        self.file.rebase(merged.their_text, stamp, text, tuple(changes(merged.text, text)) or (REST,))
        self._clash = None
        self.refill()
        self.rest()

    # -- the text in an editor -----------------------------------------------------------------------------------------

    def action_editor(self) -> None:
        """The text as it is now, unsaved changes too, in the person's own editor; what comes back is one change. The
        app waits behind it."""
        self.take_edits()
        self._edit(self.file.text)

    def _edit(self, text: str) -> None:
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if not editor:
            self.say("Set EDITOR to the editor you like, for example `export EDITOR=nano`", "warning")
            return
        try:
            with tempfile.TemporaryDirectory(prefix="aozora-") as folder:
                path = Path(folder) / self.file.path.name
                path.write_text(text, encoding="utf-8")
                keep_beside(path, text)
                with self.app.suspend():
                    # Nothing may be awaited in here: what is drawn meanwhile goes nowhere, and soon blocks.
                    subprocess.run([*shlex.split(editor), str(path)], check=False)
                found = path.read_bytes().decode("utf-8")
        except (OSError, ValueError, SuspendNotSupported) as error:
            self.say(f"{editor} could not be used: {error}", "error")
        else:
            self._take_text(found)

    def _take_text(self, text: str) -> None:
        found = text.replace("\r\n", "\n")
        if found == self.file.text:
            self.say("Nothing was changed")
            return
        try:
            changed = tuple(changes(self.file.text, found))
            self.file.replace(found, changed or (REST,))
        except ValueError as error:
            self._ask_again(str(error), found)
            return
        self.refill()
        self.say(f"From the editor: {labels(changed) or 'comments'}", "good")

    def _ask_again(self, error: str, text: str) -> None:
        """What was typed is never lost: the broken text can be mended."""

        def answered(answer: str | None) -> None:
            if answer == "again":
                self._edit(text)

        answers = [Answer("e", "mend it in the editor", "again")]
        self.app.push_screen(Ask("The text is no TOML", [error, "esc drops it."], answers), answered)
