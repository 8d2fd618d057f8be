"""The app: screens, one tick, and an orderly end. Imports no torch; screens are imported when first shown."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from textual.app import SystemCommand
from textual.events import Event, Key, Paste, Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.scrollbar import ScrollBar
from textual.widget import Widget

from aozora_tui import runs
from aozora_tui.around import Around
from aozora_tui.drawing import DrawingApp
from aozora_tui.key_names import is_text
from aozora_tui.keymap import bindings
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.settings import Settings
from aozora_tui.terminal import ascii_only
from aozora_tui.text import printable
from aozora_tui.theme import THEME
from aozora_tui.widgets.scroll_signs import ScrollSigns
from engine.contract import places
from engine.contract.problems import errors
from engine.contract.rundir import RunDir

if TYPE_CHECKING:
    from aozora_tui.card_watch import CardWatch, Told
    from engine.contract.nvml_reading import Reading

# From so many columns or rows on, the screen has this class.
WIDTHS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]
HEIGHTS = [(0, "-flat"), (15, "-short"), (22, "-usual"), (32, "-tall")]

# What the first screen needs is in CSS_PATH; this is read with the first screen that has no styles of its own.
OTHER_STYLES = Path(__file__).with_name("screens.tcss")


@runtime_checkable
class Ticking(Protocol):
    """A screen that follows something outside; called on the app's one timer while it is on top."""

    def tick(self) -> None: ...


class AozoraApp(DrawingApp, inherit_bindings=False):
    """`initial` is the run to open on, or `comparing` several of them; `settings` what the person set. `clock` gives
    Unix seconds; `read_gpu` is asked at every tick of a live run. `engine_command` replaces `python -m engine`,
    `recipes` the folder of shipped profiles.
    """

    CSS_PATH = "aozora.tcss"
    TITLE = "Aozora"
    BINDINGS = bindings("app")
    ENABLE_COMMAND_PALETTE = True
    ALLOW_SELECT = False
    ESCAPE_TO_MINIMIZE: ClassVar[bool] = False
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS

    def __init__(
        self,
        initial: RunDir | None = None,
        *,
        comparing: Sequence[RunDir] = (),
        settings: Settings | None = None,
        clock: Callable[[], float] = time.time,
        read_gpu: Callable[[int | None], tuple[Reading, ...]] | None = None,
        engine_command: Sequence[str] | None = None,
        recipes: Path | None = None,
        ticking: bool = True,
        driver_class: Any = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        self.initial, self.clock, self.ticking = initial, clock, ticking
        self.comparing = tuple(comparing)
        self._read_gpu, self._gpu_awaited = read_gpu, False
        self.settings = self.started_with = settings or Settings()
        ScrollBar.renderer = ScrollSigns
        self.engine_command = engine_command
        self.recipes = recipes or places.shipped_profiles_folder()
        self.around = Around(self)
        self._focus_before: dict[Screen[Any], Widget] = {}
        self.register_theme(THEME)
        if not os.environ.get("TEXTUAL_THEME"):
            # Nothing is parsed or drawn yet that would have to be again, as after a change of the theme.
            self.set_reactive(AozoraApp.theme, THEME.name)
            self.stylesheet.set_variables(self.get_css_variables())

    def get_default_screen(self) -> Screen[None]:
        if self.initial is not None or self.comparing:
            from aozora_tui.screens.beneath import Beneath

            return Beneath()
        return self.fit(self.home_screen())

    def home_screen(self) -> Screen[None]:
        """Profiles and runs."""
        from aozora_tui.screens.home import HomeScreen

        return HomeScreen()

    def read_gpu(self, pid: int | None) -> tuple[Reading, ...]:
        """One reading a card, with what process `pid` holds. The driver takes its time: none before the first frame."""
        if not self.begun:
            self._gpu_awaited = True
            return ()
        return self.card_watch.readings(pid)

    @cached_property
    def card_watch(self) -> CardWatch | Told:
        """Asks the driver in the background; `read_gpu`, where it was given, at once."""
        from aozora_tui.card_watch import CardWatch, Told

        return Told(self._read_gpu) if self._read_gpu is not None else CardWatch()

    def on_first_frame(self) -> None:
        if self._gpu_awaited and isinstance(self.screen, Ticking):
            self.screen.tick()

    def push_screen(self, screen: Any, *arguments: Any, **options: Any) -> Any:
        """Textual itself would parse all styles again for those of a new screen."""
        for path in screen.css_path or [OTHER_STYLES]:
            if not self.stylesheet.has_source(str(path)):
                self.stylesheet.add_source(path.read_text(encoding="utf-8"), read_from=(str(path), ""))
        return super().push_screen(screen, *arguments, **options)

    def on_mount(self) -> None:
        # After ctrl+z, or a program that had the terminal meanwhile.
        self.app_resume_signal.subscribe(self, lambda _: self.action_redraw())
        self._leave_on_signals()
        self.set_class(ascii_only(), "-ascii")
        self.set_keymap(dict(self.settings.own_keys))
        self.bind("ctrl+z", "suspend_process", show=False)  # the shell's, as everywhere: no key of ours
        if self.ticking:
            self.set_interval(self.settings.tick, self.tick)
        if self.initial is not None:
            self.watch_run(self.initial)
        elif self.comparing:
            from aozora_tui.screens.compare import CompareScreen

            self.push_screen(CompareScreen(self.comparing))
        if self.settings.problems:
            self.call_after_refresh(self._tell_of_settings)

    async def on_event(self, event: Event) -> None:
        """A key makes what was said before it old; where nothing can be seen it does nothing but quit."""
        if isinstance(event, Key | Paste) and not event.is_forwarded and not self._is_heard(event):
            return
        await super().on_event(event)

    def _is_heard(self, event: Key | Paste) -> bool:
        screen, keys = self.screen, self.settings.keys
        typing = isinstance(screen, AozoraScreen) and screen.typing
        quits = isinstance(event, Key) and event.key in keys.listed("app.quit")
        if self._is_too_small(self.size):
            if quits and isinstance(event, Key) and not (typing and is_text(event.key)):
                self.action_leave()
            return False
        if isinstance(event, Key) and isinstance(screen, AozoraScreen) and screen.is_mounted:
            screen.rest()
            taken = screen.active_bindings.get("ctrl+c")
            if event.key == "ctrl+c" and not quits and not (taken and taken.binding.id):  # Textual's own copies text
                screen.say(f"{keys.name_while_typing('app.quit')} quits: ctrl+c is none of its keys any more")
        return True

    def on_resize(self, event: Resize) -> None:
        """What cannot be seen lets go of the focus: it is given back with the room, to panels too."""
        if self._is_too_small(event.size):
            for screen in self.screen_stack:
                if screen.focused is not None:
                    self._focus_before[screen] = screen.focused
        elif self._focus_before:
            self.call_after_refresh(self._give_focus_back)

    def _give_focus_back(self) -> None:
        if self._is_too_small(self.size):
            return
        for screen, widget in self._focus_before.items():
            if screen.is_mounted and screen.focused is None and widget.is_mounted:
                screen.set_focus(widget, scroll_visible=False)
        self._focus_before.clear()

    @staticmethod
    def _is_too_small(size: Size) -> bool:
        return size.width < WIDTHS[1][0] or size.height < HEIGHTS[1][0]

    def tick(self) -> None:
        """Once a second. Only the top screen hears of it: nothing is repainted behind a panel."""
        runs.reap()
        self.around.look()
        if isinstance(self.screen, Ticking) and self.screen.is_mounted:
            self.screen.tick()

    def watch_run(self, run: RunDir) -> None:
        """Show a run, whatever state it is in."""
        from aozora_tui.screens.run import RunScreen

        self.around.watch(run)
        self.push_screen(RunScreen(run))

    def use(self, settings: Settings) -> None:
        """Take what was read anew: keys and colours at once; the rest holds from the next start."""
        self.settings = settings
        self.set_keymap(dict(settings.own_keys))
        self.theme = settings.look.theme
        if isinstance(self.screen, AozoraScreen):
            self.screen.update_keys()

    def action_settings(self) -> None:
        """What is set, and where it comes from."""
        from aozora_tui.screens.settings import SettingsScreen

        if isinstance(self.screen, AozoraScreen) and not isinstance(self.screen, SettingsScreen):
            self.push_screen(SettingsScreen())

    def action_help(self) -> None:
        from aozora_tui.screens.help import Help

        if isinstance(self.screen, AozoraScreen):
            self.push_screen(Help((*self.screen.scopes, "app"), self.settings.keys))

    def action_command_palette(self) -> None:
        from textual.command import CommandPalette

        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="Find a command", id="--command-palette"))
            self.call_after_refresh(self._still_cursor)

    def search_themes(self) -> None:
        """Textual's list; what is chosen from it is kept."""
        from aozora_tui.screens.themes import ThemePalette

        self.push_screen(ThemePalette())
        self.call_after_refresh(self._still_cursor)

    def action_home(self) -> None:
        """Back to the first screen, each one on the way being asked."""
        if isinstance(self.screen, AozoraScreen) and len(self.screen_stack) > 1:
            self._ask_each(self.screen_stack[:0:-1], self._go_home)

    def action_leave(self) -> None:
        """Quit, unless a screen has something to ask first: one that lies under others too."""
        self._ask_each(self.screen_stack[::-1], self._close)

    def _ask_each(self, screens: Sequence[Screen[Any]], then: Callable[[], object]) -> None:
        """`then`, once each of these screens has let it happen."""
        if not screens:
            then()
            return
        on = partial(self._ask_each, screens[1:], then)
        if isinstance(screens[0], AozoraScreen):
            screens[0].leave(on)
        else:
            on()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        if isinstance(screen, AozoraScreen):
            for key in screen.active_keys():
                if key.in_palette and key.id != "app.palette":
                    run = partial(self._run_key, key.action)
                    yield SystemCommand(f"{key.label.capitalize()}  ({key.names[0]})", key.help, run)
            yield from screen.more_commands()
            from aozora_tui.screens import steer

            yield from steer.commands(screen, getattr(screen, "run_dir", None))
        yield SystemCommand("Theme", "Choose other colours; the settings file keeps them.", self.search_themes)

    async def _run_key(self, action: str) -> None:
        target = self.screen if "." in action or self._belongs_to_screen(action) else self
        focused = self.screen.focused
        if focused is not None and hasattr(focused, f"action_{action.partition('(')[0]}"):
            await self.run_action(action, focused)
        else:
            await self.run_action(action, target)

    def _belongs_to_screen(self, action: str) -> bool:
        return hasattr(self.screen, f"action_{action.partition('(')[0]}")

    def _close(self) -> None:
        """End the app; on the bare terminal again, say which runs go on."""
        live = [run.name for run in runs.live(places.runs_folder())]
        if live and self.initial is None:
            names = printable(", ".join(live))
            self.exit(0, message=f"{names}: training goes on without the app. `aozora-tui watch` comes back to it.")
        else:
            self.exit(0)

    def _tell_of_settings(self) -> None:
        """On the first screen, until the first key; the screen of settings has the sentences."""
        wrong, name = len(errors(self.settings.problems)), self.settings.keys.name("app.settings")
        if isinstance(self.screen, AozoraScreen):
            many = "One setting is" if wrong == 1 else f"{wrong} settings are"
            told = f"{many} wrong and left out" if wrong else "A key of yours may not arrive"
            said = f"{told}: press {name} to read more"
            self.screen.say(said, "warning")

    def _still_cursor(self) -> None:
        """A blinking cursor costs 2.6 KB a second over the whole width."""
        from textual.widgets import Input

        for box in self.screen.query(Input):
            box.cursor_blink = False

    def _go_home(self) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def _leave_on_signals(self) -> None:
        """A closed terminal or a kill must give the terminal back as it was; unhandled, both would not."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._end, number)
            except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or no such signals here
                return

    def _end(self, number: int) -> None:
        """Nobody can be asked any more: what is not saved is kept. A terminal that is gone is told nothing."""
        from aozora_tui import drafts

        said = ""
        try:
            said = drafts.keep_all(self.screen_stack)
        finally:
            self.exit(0, message=said if said and number == signal.SIGTERM else None)

    def _handle_exception(self, error: Exception) -> None:
        """Textual ends the app for it: what is not saved is kept first."""
        from aozora_tui import drafts

        try:
            drafts.keep_all(self.screen_stack)
        finally:
            super()._handle_exception(error)

    def on_unmount(self) -> None:
        self.around.close()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            try:
                loop.remove_signal_handler(number)
            except (ValueError, RuntimeError, NotImplementedError):
                return


def run_app(
    initial: RunDir | None = None, *, comparing: Sequence[RunDir] = (), settings: Settings | None = None
) -> int:
    """Open the app, on a run or on several that are compared, and wait until it is closed. Returns the exit code."""
    app = AozoraApp(initial, comparing=comparing, settings=settings.with_keys() if settings else None)
    app.run(mouse=app.settings.look.mouse)
    return app.return_code or 0
