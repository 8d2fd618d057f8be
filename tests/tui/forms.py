"""A profile of one's own on the screen, for the tests of the form."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import fake_checkpoint
import seen
from textual.events import Paste
from textual.pilot import Pilot
from textual.screen import Screen

from aozora_tui import app as app_module
from aozora_tui.app import AozoraApp
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.beneath import Beneath
from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.profile import ProfileScreen
from engine.contract import places

PROFILE = """\
# third try
[model]
base = "BASE"  # the base

[[data.folders]]
path = "PICTURES"

[train]
steps = 500 # enough
"""


def write_profile(folder: Path) -> Path:
    """One that could start, beside a base checkpoint and a folder with one picture."""
    base = fake_checkpoint.write(folder / "models" / "sdxl.safetensors")
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(picture())
    path = places.profiles_folder() / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE.replace("BASE", str(base)).replace("PICTURES", str(pictures)))
    return path


@cache
def picture() -> bytes:
    """One that can be trained on."""
    from PIL import Image

    file = BytesIO()
    Image.new("L", (1024, 1024)).save(file, "png")
    return file.getvalue()


class AppForAScreen(AozoraApp):
    """Where a test pushes a screen of its own: what is beneath is the first screen only once somebody goes there. To
    list profiles and runs that nobody looks at would be a third of many a test's time."""

    CSS_PATH = Path(app_module.__file__).with_name("aozora.tcss")

    def get_default_screen(self) -> Screen[None]:
        return Beneath()


def app() -> AozoraApp:
    return AppForAScreen(ticking=False, read_gpu=lambda pid: ())


async def opened(pilot: Pilot[int], path: Path, field: str | None = None, *, recipe: bool = False) -> ProfileScreen:
    screen = ProfileScreen(ProfileFile.open(path), field=field, recipe=recipe)
    pilot.app.push_screen(screen)
    await settle(pilot)
    return screen


async def settle(pilot: Pilot[int]) -> None:
    for _ in range(3):
        await pilot.pause()


async def paste(pilot: Pilot[int], text: str) -> None:
    """Put a text in at once, where it is not the typing that is looked at: a letter costs as much as all of it."""
    pilot.app.post_message(Paste(text))
    await pilot.pause()


async def checked(pilot: Pilot[int], screen: ProfileScreen) -> None:
    """The whole check, without waiting for the person to stop typing."""
    screen.check_now()
    await seen.work_done(pilot.app)
    await settle(pilot)


def row(screen: ProfileScreen, path: str) -> FieldRow:
    return next(row for row in screen.query(FieldRow) if row.field.path == path)


def in_view(row: FieldRow) -> bool:
    """Whether the whole row, with what is said under it, is on the screen."""
    form = row.parent
    return bool(row.region) and form.content_region.contains_region(row.region)
