"""The form and the disk: saving, and what others write meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content

from aozora_tui.profile_file import REST, ChangedOnDiskError, ProfileFile, free_path
from aozora_tui.profile_merge import Merge, Side, changes, labels, merge
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.base import Kind
from aozora_tui.screens.profile_drafts import ProfileDrafts
from aozora_tui.screens.profile_text import short
from aozora_tui.screens.words import counted, cut, cut_path
from aozora_tui.text import printable
from aozora_tui.text_file import Found, ReadOnlyError, Stamp
from engine.contract import places
from engine.contract.problems import errors

MOST_CLASHES = 2  # with their values; a terminal of 24 lines has room for so many


def clash_lines(merged: Merge) -> list[Content | str]:
    """What both changed, with both values."""
    lines: list[Content | str] = [f"Both changed {labels(merged.clashes)}. Everything else of both is kept."]
    for name in merged.clashes[:MOST_CLASHES]:
        if name == REST:
            continue
        mine, theirs = (cut(_shown(side.get(name)), 56) for side in (merged.mine, merged.theirs))
        lines.append(Content.assemble((name, "bold"), "\n  mine    ", mine, "\n  theirs  ", theirs))
    if (more := len(merged.clashes) - MOST_CLASHES) > 0:
        lines.append(f"and so {counted(more, 'setting')} more")
    return lines


def _shown(value: object) -> str:
    return "nothing: the default holds" if value is None else printable(short(value)) or "empty"


class ProfileDisk(ProfileDrafts):
    """What somebody else writes into the file comes into the form by itself, unless both changed the same field: then
    nothing is taken and nothing is lost, and saving asks."""

    _looked_at: Stamp | None = None  # the file as it was when somebody else's writing was last dealt with
    _clash: Merge | None = None
    _gone = False
    _unreadable = False  # as it is on the disk now

    def tick(self) -> None:
        """Once a second: one look at the file's time."""
        if self.file.gone != self._gone:
            self._gone = self.file.gone
            self._show()
            self.rest()
        if self.file.changed_on_disk() and self.file.stamp not in (None, self._looked_at):
            self.take_edits()
            self._take_theirs()

    def take_edits(self) -> None:
        mended = self.file.mended
        super().take_edits()
        if self.file.mended != mended:
            self.refill()

    def resting(self) -> tuple[str, Kind]:
        name, key = self.file.path.name, self.key_name("profile.save")
        if self.file.gone:
            return f"{name} is gone: {key} writes it again", "warning"
        if self._clash is not None:
            fields = labels(self._clash.clashes)
            return f"Changed here and by another program: {fields}. Saving ({key}) asks which to keep", "warning"
        if self._unreadable:
            return f"{name} was changed by another program and cannot be read now", "warning"
        return super().resting()

    # -- saving --------------------------------------------------------------------------------------------------------

    def _save(
        self, then: Callable[[], object] = lambda: None, *, overwrite: bool = False, read_only: bool = False
    ) -> None:
        if self.recipe:
            self._save_copy(then)
            return
        try:
            self.file.save(overwrite=overwrite, read_only=read_only)
        except ChangedOnDiskError as error:
            self._ask_about_change(str(error), then)
        except ReadOnlyError as error:
            self._ask_about_read_only(str(error), then, overwrite=overwrite)
        except (OSError, ValueError) as error:
            self.say(f"Not saved: {error}", "error")
        else:
            self._say_saved(overwrite=overwrite)
            self._saved(then)

    def _say_saved(self, *, overwrite: bool) -> None:
        name, found = self.file.path.name, len(errors(self.problems))
        if overwrite:
            self.say(f"Saved {name} over the other program's version", "warning")
        else:
            with_problems = f" with {counted(found, 'problem')}: it cannot start yet" if found else ""
            self.say(f"Saved {name}{with_problems}", "warning" if found else "good")

    def _save_copy(self, then: Callable[[], object]) -> None:
        """Into the person's own folder, and on with that."""
        try:
            self.file.save_as(free_path(places.profiles_folder(), self.file.path.stem))
        except (OSError, ValueError) as error:
            self.say(f"Not saved: {error}", "error")
            return
        self.recipe = False
        self.say(f"Saved as your own copy: {cut_path(self.file.path, 50)}", "good")
        # Paths that start at the folder lead elsewhere from here: what was found there does not hold.
        self.verdict = None
        self._look()
        self.check_now()
        self._saved(then)

    def _saved(self, then: Callable[[], object]) -> None:
        self._clash, self._gone, self._unreadable = None, False, False
        self._forget_drafts()
        self._show()
        then()

    def _ask_about_read_only(self, text: str, then: Callable[[], object], *, overwrite: bool) -> None:
        def answered(answer: str | None) -> None:
            if answer == "copy":
                self._save_copy(then)
            elif answer == "replace":
                self._save(then, overwrite=overwrite, read_only=True)

        answers = [
            Answer("c", "save a copy of your own", "copy"),
            Answer("o", "replace it all the same", "replace", harmful=True),
        ]
        self.app.push_screen(Ask("Not saved yet", [f"{text}."], answers), answered)

    def _ask_about_change(self, text: str, then: Callable[[], object]) -> None:
        """Before somebody else's version is written over. Enter only does what keeps all of both."""
        found = self._their_version()
        merged = None if found is None else self._merged(found)
        lines: list[Content | str] = [f"{text}."]
        answers = []
        if merged is not None and merged.clashes:
            lines += clash_lines(merged)
            answers.append(Answer("k", "keep mine", "mine", harmful=True))
            answers.append(Answer("t", "take theirs", "theirs", harmful=True))
        elif merged is not None:
            answers.append(Answer("m", "keep both", "mine"))
        else:
            lines.append("What is there now cannot be read, or is no TOML.")
        if merged is not None:
            answers.append(Answer("r", "reload it, dropping mine", "reload", harmful=True))
        answers.append(Answer("o", "overwrite it", "overwrite", harmful=True))

        def answered(answer: str | None) -> None:
            if answer == "overwrite":
                self._save(then, overwrite=True)
            elif answer == "reload":
                self._reload()
            elif found is not None and merged is not None and answer is not None:
                self._put_together(found, merged, "theirs" if answer == "theirs" else "mine")
                self._save(then)

        self.app.push_screen(Ask("The file was changed elsewhere", lines, answers), answered)

    def _reload(self) -> None:
        try:
            self.file = ProfileFile.open(self.file.path)
        except ValueError as error:
            self.say(str(error), "error")
            return
        self._clash, self._unreadable = None, False
        self.refill()
        self.say("Reloaded from the disk")

    # -- somebody else's changes ---------------------------------------------------------------------------------------

    def _their_version(self) -> Found | None:
        """None while the file cannot be read, or is no TOML: perhaps it is being written."""
        try:
            return self.file.on_disk()
        except (OSError, ValueError):
            return None

    def _merged(self, found: Found) -> Merge:
        return merge(self.file.path, self.file.saved_text, self.file.text, found.text)

    def _take_theirs(self) -> None:
        self._looked_at, found = self.file.stamp, self._their_version()
        was, self._unreadable = self._unreadable, found is None
        if self._unreadable != was:
            self._show()
        if found is None:
            self.rest()
            return
        self._looked_at = found.stamp
        if found.text == self.file.saved_text:  # it was touched, or its lines end otherwise now
            self.file.rebase(found, self.file.text, ())
            self._clash = None
            self._show()
            self.rest(over=False)
            return
        merged = self._merged(found)
        self._clash = merged if merged.clashes else None
        if merged.clashes:
            self.rest()
            return
        self._put_together(found, merged, "mine")
        what = labels(list(merged.theirs)) if merged.theirs else "comments"
        self.say(f"Another program changed {self.file.path.name}; taken over: {what}", "good")

    def standing(self) -> tuple[str, str]:
        return ("not readable on the disk", "bold $error") if self._unreadable else super().standing()

    def summary(self) -> Content:
        """Whatever the form holds, a run would get what is on the disk."""
        if not (self._unreadable or self.file.gone):
            return super().summary()
        what = "is gone" if self.file.gone else "cannot be read, or is no TOML"
        key = self.key_name("profile.save")
        return Content.styled(f"! {self.file.path.name} {what}: {key} writes what is here", "$error")

    def _put_together(self, found: Found, merged: Merge, side: Side) -> None:
        """As one change, which can be undone."""
        text = merged.text_with(side)
        self.file.rebase(found, text, tuple(changes(merged.text, text)) or (REST,))
        self._clash = None
        self.refill()
        self.rest()
