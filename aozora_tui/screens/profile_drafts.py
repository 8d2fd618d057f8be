"""Edits that outlived the terminal they were made in: kept when it goes, offered when the profile is opened again."""

from __future__ import annotations

from pathlib import Path

from aozora_tui import drafts
from aozora_tui.drafts import Draft
from aozora_tui.profile_file import REST
from aozora_tui.profile_merge import Merge, changes, labels, merge
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.profile_editor import ProfileEditor
from aozora_tui.text import age


class ProfileDrafts(ProfileEditor):
    """A draft is there until what was taken from it is saved, or until somebody throws it away."""

    _taken: frozenset[Path] = frozenset()  # drafts whose changes are in the form
    _later: frozenset[Path] = frozenset()  # drafts that were left alone

    def on_mount(self) -> None:
        self.call_after_refresh(self._offer)

    def keep_draft(self) -> str | None:
        """For the end of an app that can ask nobody. Raises OSError or ValueError."""
        self.take_edits()
        file = self.file
        if not file.modified:
            return None
        kept = drafts.keep(file.path, file.text, file.saved_text, self.aozora.clock())
        for old in self._taken - {kept}:
            drafts.forget(old)
        self._taken = frozenset({kept})
        return file.path.stem

    def _forget_drafts(self) -> None:
        """What was taken from them has been saved."""
        for kept in self._taken:
            drafts.forget(kept)
        self._taken = frozenset()

    def _offer(self) -> None:
        """The newest draft that nobody has been asked about."""
        for draft in drafts.of(self.file.path):
            if draft.kept in self._taken | self._later:
                continue
            if draft.text == self.file.saved_text:
                drafts.forget(draft.kept)
                continue
            try:
                merged = merge(self.file.path, draft.base, draft.text, self.file.text)
            except ValueError:  # no TOML: somebody has changed the draft by hand
                self.say(f"A draft of {self.file.path.name} cannot be read: {draft.kept}", "warning")
                continue
            if merged.text_with("mine") == self.file.text:
                self._taken |= {draft.kept}
                continue
            self._ask_about(draft, merged)
            return

    def _ask_about(self, draft: Draft, merged: Merge) -> None:
        def answered(answer: str | None) -> None:
            if answer == "look":
                self._look_at(draft, merged)
                return
            if answer == "take":
                self._take_draft(draft, merged)
            elif answer == "drop":
                drafts.forget(draft.kept)
                self.say("The draft was thrown away")
            else:
                self._later |= {draft.kept}
            self._offer()

        answers = [Answer("t", "take it", "take"), Answer("d", "compare", "look"), Answer("x", "drop it", "drop")]
        title = f"{self.file.path.stem} was closed with unsaved changes"
        self.app.push_screen(Ask(title, self._about(draft, merged), answers), answered)

    def _about(self, draft: Draft, merged: Merge) -> list[str]:
        since = age(max(self.aozora.clock() - draft.time, 0))
        said = f"{'Just now' if since == 'now' else f'{since} ago'}. It changes {labels(self._changed(merged))}."
        if theirs := [name for name in merged.theirs if name not in merged.clashes]:
            said += f" The file was changed since, and keeps {labels(theirs)}."
        if merged.clashes:
            said += f" Both changed {labels(merged.clashes)}: it is taken from the draft."
        return [said, f"{self.key_name('ask.cancel')} leaves it for the next time."]

    def _changed(self, merged: Merge) -> tuple[str, ...]:
        """What taking the draft would change in the form."""
        return tuple(changes(self.file.text, merged.text_with("mine"))) or (REST,)

    def _take_draft(self, draft: Draft, merged: Merge) -> None:
        changed = self._changed(merged)
        self.file.replace(merged.text_with("mine"), changed)
        self._taken |= {draft.kept}
        self.refill()
        self.say(f"Taken over, not saved yet: {labels(changed)}", "good")

    def _look_at(self, draft: Draft, merged: Merge) -> None:
        from aozora_tui.screens.differ import DifferScreen
        from aozora_tui.screens.profile_sides import Side

        def answered(path: str | None) -> None:
            self.refill()
            if path is not None:
                self._later |= {draft.kept}
                self.go_to(path)
            self._offer()

        side = Side("what was not saved", merged.text_with("mine"), self.file.path.parent)
        self.app.push_screen(DifferScreen(self.file, [side]), answered)
