"""The form's text in the person's own editor, and back."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aozora_tui.editor import edit_behind
from aozora_tui.profile_file import REST
from aozora_tui.profile_merge import changes, labels
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.profile_tools import ProfileTools
from aozora_tui.text_file import plain
from engine.contract.schema import keep_beside


class ProfileEditor(ProfileTools):
    """What comes back is one change. What cannot be taken is not lost: it can be mended."""

    def action_editor(self) -> None:
        """The text as it is now, unsaved changes too."""
        self.take_edits()
        self._edit(self.file.text.encode())

    def _edit(self, raw: bytes) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="aozora-") as folder:
                path = Path(folder) / self.file.path.name
                path.write_bytes(raw)
                keep_beside(path, raw.decode(errors="replace"))
                edit_behind(self.app, path)
                found = path.read_bytes()
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
        else:
            self._take_bytes(found)

    def _take_bytes(self, raw: bytes) -> None:
        try:
            self._take_text(raw.decode())
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            latin = Answer("l", "read it as Latin-1", "latin")
            self._ask_again("The text is not UTF-8", f"Line {line} holds bytes that are no UTF-8.", raw, latin)

    def _take_text(self, text: str) -> None:
        found = plain(text)
        if found == self.file.text:
            self.say("Nothing was changed")
            return
        try:
            changed = tuple(changes(self.file.text, found))
            self.file.replace(found, changed or (REST,))
        except ValueError as error:
            self._ask_again("The text is no TOML", str(error), text.encode())
            return
        self.refill()
        self.say(f"From the editor: {labels(changed) or 'comments'}", "good")

    def _ask_again(self, title: str, wrong: str, raw: bytes, *others: Answer) -> None:
        def answered(answer: str | None) -> None:
            if answer == "again":
                self._edit(raw)
            elif answer == "latin":
                self._take_text(raw.decode("latin-1"))

        answers = [Answer("e", "mend it in the editor", "again"), *others]
        lines = [wrong, f"{self.key_name('ask.cancel')} drops it."]
        self.app.push_screen(Ask(title, lines, answers), answered)
