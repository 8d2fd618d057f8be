"""What the form opens: the tree of layers, curves, pictures, files, and what the profile differs in from others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import work

from aozora_tui.screens.folder_lines import FolderLines
from aozora_tui.screens.profile_keys import ProfileKeys
from engine.contract.fields import FormField, form_fields
from engine.contract.profile import parse, salvage
from engine.contract.profile_values import default_of

if TYPE_CHECKING:
    from aozora_tui.screens.base import AozoraScreen
    from aozora_tui.screens.profile_sides import Side
    from engine.contract.sections import Profile

RATE_CURVE = "schedule.curve"
LAYER_FIELDS = ("layers.train", "layers.freeze", "optimizer.rates")
FILES = (".safetensors",)


class ProfileTools(ProfileKeys):
    """Each opens on the profile as it is now, unsaved changes too; what it gives back is one change."""

    def action_tool(self) -> None:
        """What the field under the cursor is best set with."""
        field = self._at
        if field is None:
            self.say("Go to a field first")
        elif field.kind == "points":
            self.action_curves()
        elif field.path in LAYER_FIELDS or field.section == "layers":
            self.action_layers()
        elif field.kind in ("file", "folder"):
            self._pick(field)
        elif field.kind == "folders":
            self._pick_pictures(field)
        else:
            self.say(f"{field.label} is set right here")

    def offers(self, action: str) -> bool:
        if action == "save":  # of a recipe it makes a copy
            return self.file.modified or self.recipe
        if action != "tool":
            return super().offers(action)
        field = self._at
        kinds = ("points", "folders", "file", "folder")
        return field is not None and (field.kind in kinds or field.path in LAYER_FIELDS)

    # -- layers --------------------------------------------------------------------------------------------------------

    def action_layers(self) -> None:
        profile = self._profile()
        if profile is None:
            return
        if not self.file.get("model.base"):
            self.say("The layers are read from the base checkpoint: name that first", "warning")
            return
        self.say("Reading the layers")
        self._read_layers(profile)

    @work(thread=True, exclusive=True, group="layers", exit_on_error=False)
    def _read_layers(self, profile: Profile) -> None:
        from aozora_tui.screens.layers_open import layers_screen

        try:
            screen = layers_screen(profile, self.file.path.parent)
        except (OSError, ValueError) as error:
            self.app.call_from_thread(self.say, str(error), "warning")
            return
        self.app.call_from_thread(self._open, screen, "Trained layers")

    # -- curves and data -----------------------------------------------------------------------------------------------

    def action_curves(self) -> None:
        from aozora_tui.screens.curves import CurvesScreen

        if (profile := self._profile()) is not None:
            path = self._at.path if self._at is not None and self._at.kind == "points" else RATE_CURVE
            self._open(CurvesScreen(profile, path), "Curve")

    def action_data(self) -> None:
        from aozora_tui.screens.data import DataScreen

        def closed(_: None) -> None:
            """What was mended meanwhile is no problem any more."""
            self._pictures.forget()
            self.check_now()

        if (profile := self._profile()) is not None:
            self.app.push_screen(DataScreen(profile, self.file.path.parent), closed)

    def _profile(self) -> Profile | None:
        """The profile as far as it is right."""
        self.take_edits()
        profile, problems = parse(self.file.text, self.file.path.name)
        profile = profile or salvage(self.file.text, problems)
        if profile is None:
            self.say(f"First mend what is wrong: {self.key_name('profile.problem')} goes there", "warning")
        return profile

    def _open(self, screen: AozoraScreen[dict[str, Any] | None], what: str) -> None:
        def answered(values: dict[str, Any] | None) -> None:
            if values is not None:
                self._take(values, what)

        if self.is_current:  # a thread takes its time, and somebody went on
            self.rest()
            self.app.push_screen(screen, answered)

    def _take(self, values: Mapping[str, Any], what: str) -> None:
        """Another screen's values as one change. A default is not written down where the file does not do so."""
        before = self.file.text
        kept = {path: self._unless_default(form_fields()[path], value) for path, value in values.items()}
        self.file.end_of_change()
        self.file.update(kept)
        self.file.end_of_change()
        self.refill()
        said = ", ".join(path for path in values) if self.file.text != before else "nothing was changed"
        self.say(f"{what}: {said}", "good" if self.file.text != before else "plain")

    def _unless_default(self, field: FormField, value: Any) -> Any:
        default = default_of(field)
        default = list(default) if isinstance(default, tuple) else default
        return None if value == default and self.file.saved(field.path) is None else value

    # -- files ---------------------------------------------------------------------------------------------------------

    def _pick(self, field: FormField) -> None:
        from aozora_tui.screens.picker import Picker

        def answered(path: str | None) -> None:
            if path is not None:
                self._take({field.path: path}, field.label)
                self.go_to(field.path)

        self.take_edits()
        value = self.value(field)
        picker = Picker(
            field.label,
            str(value or ""),
            self.file.path.parent,
            suffixes=None if field.kind == "folder" else FILES,
            folders=field.kind == "folder" or field.path == "model.base",
        )
        self.app.push_screen(picker, answered)

    def _pick_pictures(self, field: FormField) -> None:
        """A folder for the line that the cursor is in."""
        from aozora_tui.screens.picker import Picker

        row = self._row()
        if row is None or not isinstance(editor := row.editor, FolderLines):
            return

        def answered(path: str | None) -> None:
            if path is not None:
                self.file.end_of_change()
                editor.put_path(Path(path))
                self.take_edits()
                self.file.end_of_change()
                self.say(f"{self.key_here('profile.data')} shows the pictures of {path}", "good")

        self.take_edits()
        self.app.push_screen(Picker(field.label, editor.path, self.file.path.parent, folders=True), answered)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def action_differ(self) -> None:
        self.take_edits()
        self._look_at_sides()

    @work(thread=True, exclusive=True, group="sides", exit_on_error=False)
    def _look_at_sides(self) -> None:
        from aozora_tui.screens.profile_sides import sides

        self.app.call_from_thread(self._show_sides, sides(self.file))

    def _show_sides(self, found: list[Side]) -> None:
        from aozora_tui.screens.differ import DifferScreen

        def answered(path: str | None) -> None:
            self.refill()
            if path is not None:
                self.go_to(path)

        if self.is_current:
            self.app.push_screen(DifferScreen(self.file, found), answered)
