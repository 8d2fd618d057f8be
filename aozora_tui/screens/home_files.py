"""What the first screen does with files: profiles are made, copied, renamed; profiles and runs go to the trash."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from aozora_tui.screens.home_order import HomeOrder
from aozora_tui.screens.home_profiles import GONE
from aozora_tui.screens.words import cut_path
from aozora_tui.text import home_path, size
from engine.contract import places
from engine.contract.rundir import RunDir

if TYPE_CHECKING:
    from aozora_tui import trash
    from aozora_tui.drafts import Draft
    from aozora_tui.runs import RunSummary

RUN_KEEPS_NAME = "A run keeps the name of its folder, which commands and checkpoints go by: rename its profile instead"
RECIPE_STAYS = "A recipe comes with the program: it can be neither renamed nor deleted; {} copies it"


class HomeFiles(HomeOrder):
    """Nothing is overwritten and nothing removed: what is deleted can be put back."""

    def __init__(self) -> None:
        super().__init__()
        self._thrown: list[trash.Thrown] = []

    def action_new(self) -> None:
        from aozora_tui.screens.home_recipes import AskRecipe

        def chosen(recipe: Path | None) -> None:
            if recipe is not None:
                self._ask_for_name(recipe)

        self.app.push_screen(AskRecipe(self.aozora.recipes), chosen)

    def _ask_for_name(self, recipe: Path) -> None:
        from aozora_tui.profile_file import free_path
        from aozora_tui.profile_names import wrong_with
        from aozora_tui.screens.ask_name import AskName

        folder = places.profiles_folder()

        def named(name: str | None) -> None:
            if name is not None and (made := self._copy(recipe, folder / f"{name}.toml")) is not None:
                self.open_profile(made)

        title = f"A new profile from {recipe.stem}, called"
        first = free_path(folder, recipe.stem).stem
        wrong = partial(wrong_with, folder=folder)
        about = f"{home_path(folder)}/NAME.toml. Its runs are called after it."
        self.app.push_screen(AskName(title, first, wrong=wrong, about=about, accept="make it and open it"), named)

    def action_duplicate(self) -> None:
        from aozora_tui.profile_file import free_path

        if (path := self._selected_profile()) is not None:
            made = self._copy(path, free_path(places.profiles_folder(), path.stem))
            if made is not None:
                self.say(f"Copied to {cut_path(made, 66)}", "good")

    def _copy(self, path: Path, to: Path) -> Path | None:
        """Says why if there is none. The cursor is on it afterwards."""
        from aozora_tui.profile_file import ProfileFile

        try:
            copy = ProfileFile.open(path)
            copy.save_as(to)
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
            return None
        self._found_again(to)
        return to

    def action_rename(self) -> None:
        if self.runs_list.has_focus:
            self.say(RUN_KEEPS_NAME, "warning")
            return
        if (path := self._selected_profile()) is None:
            return
        if self.is_recipe(path):
            self.say(RECIPE_STAYS.format(self.key_name("home.duplicate")), "warning")
            return
        from aozora_tui.profile_names import wrong_with
        from aozora_tui.screens.ask_name import AskName

        def named(name: str | None) -> None:
            if name is not None and name != path.stem:
                self._rename(path, path.with_name(f"{name}.toml"))

        about = "Runs keep their names: those it has had are no longer found as its last ones."
        wrong = partial(wrong_with, folder=path.parent, now=path.stem)
        self.app.push_screen(
            AskName(f"Rename {path.stem} to", path.stem, wrong=wrong, about=about, accept="rename it"), named
        )

    def _rename(self, path: Path, to: Path) -> None:
        try:
            path.rename(to)
        except OSError as error:
            self.say(f"{path.name} cannot be renamed: {error.strerror}", "error")
            return
        self._found_again(to)
        self.say(f"{path.stem} is called {to.stem} now", "good")

    # -- the trash -----------------------------------------------------------------------------------------------------

    def action_delete(self) -> None:
        """Asks first; never a run that is alive."""
        from aozora_tui import trash

        run = self._selected_run() if self.runs_list.has_focus else None
        path = run.path if run else None if self.runs_list.has_focus else self._selected_profile()
        if path is None:
            return
        if run is None and self._is_gone(path):
            self._offer_draft(path)
            return
        stays = RECIPE_STAYS.format(self.key_name("home.duplicate")) if self.is_recipe(path) else ""
        reason = trash.why_not(run) if run else stays
        if reason:
            self.say(reason, "warning")
        else:
            self._weigh(path, run)

    @work(thread=True, exclusive=True, group="delete", exit_on_error=False)
    def _weigh(self, path: Path, run: RunDir | None) -> None:
        """A run may hold thousands of pictures."""
        from aozora_tui import trash

        self.app.call_from_thread(self._ask_to_delete, path, run, trash.size_of(path))

    def _ask_to_delete(self, path: Path, run: RunDir | None, weight: int) -> None:
        if not self.is_current:
            return
        from aozora_tui import trash
        from aozora_tui.screens.ask import Answer, Ask

        place = home_path(trash.folder())
        back, all_of_it = self.key_name("home.put_back"), self.key_name("home.trash")
        lines = [f"It goes to {place}. {back} puts it back; {all_of_it} shows all that is there, later too."]
        if run is not None:
            held = f"Its checkpoints and exports go with it: {size(weight)}."
            lines.append(f"{held} The disk has that back when you empty the trash.")

        def answered(answer: str | None) -> None:
            if answer == "delete":
                self._delete(path, run)

        answers = [Answer("y", "move it to the trash", "delete")]
        self.app.push_screen(Ask(f"Delete {path.stem if run is None else run.name}?", lines, answers), answered)

    def _delete(self, path: Path, run: RunDir | None) -> None:
        from aozora_tui import trash

        now = self.aozora.clock()
        try:
            thrown = trash.throw(path, now) if run is None else trash.throw_run(run, now)
        except (OSError, ValueError) as error:
            self.say(f"{path.name} was not deleted: {error}", "error")
            return
        self._thrown.append(thrown)
        self._look_again()
        kept = cut_path(thrown.kept, max(self.size.width - 36, 24))
        self.say(f"Deleted; {self.key_name('home.put_back')} puts it back. It is {kept}", "good")

    def action_put_back(self) -> None:
        from aozora_tui import trash

        while self._thrown and not os.path.lexists(self._thrown[-1].kept):
            self._thrown.pop()  # it was put back, or deleted for good, on the screen of the trash
        if not self._thrown:
            earlier = self.key_name("home.trash")
            self.say(f"Nothing was deleted since the app was opened; {earlier} shows what was before")
            return
        thrown = self._thrown[-1]
        try:
            trash.put_back(thrown)
        except OSError as error:
            self.say(str(error), "error")  # and it can be tried again
            return
        self._thrown.pop()
        self._found_again(thrown.original)
        self.say(f"{thrown.original.name} is back", "good")

    def action_trash(self) -> None:
        """What was deleted, also in earlier sessions."""
        from aozora_tui.screens.trash import TrashScreen

        def closed(back: tuple[Path, ...] | None) -> None:
            if back:
                self._found_again(back[-1])

        self.app.push_screen(TrashScreen(), closed)

    # -- what is selected ----------------------------------------------------------------------------------------------

    def is_recipe(self, path: Path) -> bool:
        return path.parent == self.aozora.recipes

    def open_profile(self, path: Path, field: str | None = None) -> None:
        """The form, at a field if one is named."""
        from aozora_tui.profile_file import ProfileFile
        from aozora_tui.screens.profile import ProfileScreen

        if self._is_gone(path):
            self._offer_draft(path)
            return
        try:
            file = ProfileFile.open(path)
        except ValueError as error:
            self.say(str(error), "error")
            return
        self.app.push_screen(ProfileScreen(file, recipe=self.is_recipe(path), field=field))

    def _is_gone(self, path: Path) -> bool:
        """Whether all that is left of a profile is a draft."""
        facts = self._shelf.get(str(path))
        return facts is not None and facts.trouble == GONE and not path.exists()

    def _offer_draft(self, path: Path) -> None:
        """Of a profile whose file is gone: written again, or thrown away."""
        from aozora_tui import drafts
        from aozora_tui.screens.ask import Answer, Ask

        draft = drafts.of_deleted().get(path)
        if draft is None:
            self._look_again()
            return

        def answered(answer: str | None) -> None:
            if answer == "write":
                self._write_again(path, draft)
            elif answer == "drop":
                drafts.forget(draft.kept)
                self._look_again()
                self.say("The draft was thrown away")

        lines = [f"Changes to it were not saved. They are kept in {cut_path(draft.kept, 66)}"]
        answers = [Answer("w", f"write {path.name} again", "write"), Answer("x", "drop it", "drop", harmful=True)]
        self.app.push_screen(Ask(f"The file of {path.stem} is gone", lines, answers), answered)

    def _write_again(self, path: Path, draft: Draft) -> None:
        from aozora_tui import drafts
        from aozora_tui.profile_file import ProfileFile

        try:
            ProfileFile(path, draft.text, None).save_as(path)
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
            return
        drafts.forget(draft.kept)
        self._found_again(path)
        self.open_profile(path)

    def _look_again(self) -> None:
        self._runs.expect_change()
        self._shelf.list_again(places.profiles_folder(), self.aozora.recipes)
        self.tick()
        self.update_keys()

    def _found_again(self, path: Path) -> None:
        """Put the cursor on what is new; what is looked for must not hide it."""
        if self.filter.words:
            self.filter.clear()
        self._look_again()
        rows = self.profiles if path.suffix == ".toml" else self.runs_list
        rows.select(str(path))
        rows.focus()

    def _selected_profile(self) -> Path | None:
        if self.runs_list.has_focus:
            self.say(f"Select a profile first: {self.key_name('home.switch')} goes to the other list", "warning")
            return None
        return Path(self.profiles.key) if self.profiles.key else None

    def _selected(self) -> RunSummary | None:
        return self._runs.summary(self.runs_list.key or "")

    def _selected_run(self) -> RunDir | None:
        return self._runs.runs.get(self.runs_list.key or "")
