"""The same screens for the snapshots and for the pictures in the documentation: fixed runs, fixed clock.

A view is reached by keys from another one, and left to it again, so that one app can show all views of an area.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import fake_run
import gallery_files
import seen
from textual.driver import Driver
from textual.geometry import Size
from textual.pilot import Pilot

from aozora_tui.app import AozoraApp
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.data import DataScreen
from aozora_tui.screens.profile import ProfileScreen
from engine.contract import places
from engine.contract.nvml_reading import Reading

SIZES = ((80, 24), (120, 40))


@dataclass(frozen=True)
class View:
    """Reached by `keys` from the view called `beside`, or from where its area begins; in the form, from `field`.
    `leave` is pressed where it leads back to, once its screens are gone."""

    name: str
    area: str
    beside: str = ""
    keys: tuple[str, ...] = ()
    field: str = ""
    leave: tuple[str, ...] = ()


VIEWS = (
    View("home", "home"),
    View("sorted", "home", "home", ("o", "o", "o"), leave=("o", "o", "o")),
    View("tags", "home", "sorted", ("t",)),
    View("recipes", "home", "home", ("n",)),
    View("help", "home", "home", ("question_mark",)),
    View("failed", "home", "home", ("end", "enter"), leave=("home",)),
    View("finished", "home", "home", ("down", "enter"), leave=("home",)),
    View("samples", "home", "home", ("down", "down", "enter", "v"), leave=("home",)),
    View("samples-large", "home", "samples", ("enter",), leave=("escape",)),
    View("samples-beside", "home", "samples", ("left", "b"), leave=("b", "escape", "end")),
    View("start", "home", "home", ("tab", "s"), leave=("shift+tab",)),
    View("settings", "settings", keys=("9",)),
    View("run", "live"),
    View("log", "live", "run", ("l",)),
    View("charts", "live", "run", ("c", "right", *["pageup"] * 3)),
    View("numbers", "live", "run", ("n",)),
    View("card", "live", "run", ("g",)),
    View("stop", "live", "run", ("s",)),
    View("rate", "live", "run", ("f",)),
    View("compare", "compare", keys=("right", *["pageup"] * 4)),
    View("compare-table", "compare", "compare", ("enter",), leave=("escape",)),
    View("compare-runs", "compare", "compare", ("a",)),
    View("profile", "profile", field="train.accumulate"),
    View("search", "profile", "profile", ("escape", "slash", *"memory"), field="train.accumulate"),
    View("differ", "profile", "profile", ("escape", "v", "shift+tab"), field="train.accumulate"),
    View("differ-profile", "profile", "differ", ("p",)),
    View("picker", "profile", "profile", ("ctrl+g",), field="model.base"),
    View("curves-shape", "profile", "profile", ("escape", "c"), field="train.accumulate"),
    View("curves", "profile", "curves-shape", ("p", "right", "right")),
    View("curves-timesteps", "profile", "curves", ("tab", "s", *["right"] * 3)),
    View("curves-weight", "profile", "curves-timesteps", ("tab", *["right"] * 3)),
    View("layers", "layers", keys=("f4", *["down"] * 4, "right", "space"), field="train.accumulate"),
    View("layers-kinds", "layers", "layers", ("t",)),
    View("layers-presets", "layers", "layers", ("p",)),
    View("layers-match", "layers", "layers", ("m", *"-attn2"), leave=("escape",)),
    View("layers-factor", "layers", "layers", ("f", *"0.5"), leave=("escape",)),
    View("data", "data", keys=("d",)),
    View("data-filter", "data", "data", ("slash", *"sea")),
    View("data-buckets", "data", "data-filter", ("escape", "b")),
    View("data-skipped", "data", "data-buckets", ("s",)),
    View("data-cache", "data", "data-skipped", ("c",)),
)
NAMES = tuple(view.name for view in VIEWS)
AREAS = tuple(dict.fromkeys(view.area for view in VIEWS))
IN_A_PROFILE = ("profile", "layers", "data")
CARD = Reading(
    index=0,
    name="NVIDIA GeForce RTX 4070",
    uuid="GPU-1",
    driver_version="580.95",
    memory_used=11 << 30,
    memory_total=12 << 30,
    memory_free=1 << 30,
    run_memory=None,
    utilisation=97,
    power=182.0,
    power_limit=200.0,
    temperature=71,
)


@asynccontextmanager
async def shown(
    name: str, size: tuple[int, int], *, driver_class: type[Driver] | None = None
) -> AsyncIterator[Pilot[int]]:
    """The app showing the view called `name`, with another driver if one is given.

    The AOZORA_ folders must be set, TZ too; all names in them are new.
    """
    view = next(view for view in VIEWS if view.name == name)
    async with opened(view.area, size, driver_class=driver_class) as pilot:
        for each in _way_to(view):
            await _go(each, pilot)
        yield pilot


async def tour(area: str, pilot: Pilot[int], *, but: Container[str] = ()) -> AsyncIterator[tuple[str, tuple[int, int]]]:
    """Every view of the area in every size, one after the other, in the app of `opened`."""
    there: list[tuple[View, int]] = []
    for size in SIZES:
        # The first view stays, but for the data screen: leaving a page of that does not lead back to the one before.
        await _leave_after(there, 0 if area == "data" else 1, pilot)
        await resize(pilot, size)
        for view in VIEWS:
            if view.area != area or view.name in but:
                continue
            if not there or there[0][0] is not view:
                names = [each.name for each, _ in there]
                await _leave_after(there, names.index(view.beside) + 1 if view.beside else 0, pilot)
                there.append((view, len(pilot.app.screen_stack)))
                await _go(view, pilot)
            elif isinstance(pilot.app.screen, ProfileScreen):
                await _go(view, pilot)
            yield view.name, size


@asynccontextmanager
async def opened(
    area: str, size: tuple[int, int], *, driver_class: type[Driver] | None = None
) -> AsyncIterator[Pilot[int]]:
    """The app in which the area's views are found."""
    live, now = gallery_files.write_runs()
    gallery_files.write_profile(places.profiles_folder() / "portraits.toml", small=area == "data")
    with ExitStack() as stack:
        stack.enter_context(fake_run.engine_alive(live))
        app = AozoraApp(
            live if area == "live" else None,
            comparing=gallery_files.write_compared(live) if area == "compare" else (),
            settings=gallery_files.own_settings() if area == "settings" else None,
            ticking=False,
            clock=lambda: now,
            read_gpu=lambda _pid: (CARD,),
            recipes=places.data_folder() / "recipes",
            driver_class=driver_class,
        )
        async with app.run_test(headless=driver_class is None, size=size) as pilot:
            await _settle(pilot)
            if area in IN_A_PROFILE:
                await _open_profile(pilot)
            yield pilot


async def resize(pilot: Pilot[int], size: tuple[int, int]) -> None:
    """Of the terminal; what it shows then may have to be read first."""
    if pilot.app.size != Size(*size):
        await pilot.resize_terminal(*size)
        await _settle(pilot)


def _way_to(view: View) -> list[View]:
    before = [each for each in VIEWS if each.name == view.beside]
    return [*(_way_to(before[0]) if before else ()), view]


async def _open_profile(pilot: Pilot[int]) -> None:
    screen = ProfileScreen(ProfileFile.open(places.profiles_folder() / "portraits.toml"))
    pilot.app.push_screen(screen)
    await _settle(pilot)
    screen.check_now()
    await _settle(pilot)


async def _go(view: View, pilot: Pilot[int]) -> None:
    if view.field:
        assert isinstance(pilot.app.screen, ProfileScreen)
        pilot.app.screen.go_to(view.field)
        await _settle(pilot)
    await _press(view.keys, pilot)


async def _leave_after(there: list[tuple[View, int]], kept: int, pilot: Pilot[int]) -> None:
    """Leave the views after the first `kept` of them, each to the screens that there were before it."""
    while len(there) > kept:
        view, screens = there.pop()
        while len(pilot.app.screen_stack) > screens:
            await pilot.app.pop_screen()
        await _press(view.leave, pilot)


async def _press(keys: Sequence[str], pilot: Pilot[int]) -> None:
    for key in keys:
        await pilot.press(key)
        await seen.work_done(pilot.app)
    await _settle(pilot)


async def _settle(pilot: Pilot[int]) -> None:
    """Until threads have brought all that they will; a picture is looked at without the wait before."""
    for _ in range(4):
        await pilot.pause()
        await seen.work_done(pilot.app)
        if isinstance(pilot.app.screen, DataScreen):
            pilot.app.screen.look_now()
