"""How the app draws: changed cells only, and nothing of a screen before it has been laid out and filled."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from textual._ansi_sequences import SYNC_END, SYNC_START
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.events import ScreenResume
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from aozora_tui.changed_cells import Shown

OPENING_SECONDS = 0.08  # that a new screen has to fill itself, with what threads bring too
LATE_SECONDS = 0.05  # between two looks whether the terminal has taken the last frame
LOOK_SECONDS = 0.004  # between two looks whether the first screen of all is filled

Result = TypeVar("Result")


class DrawnScreen(Screen[Result]):
    """A screen that is not even rendered while it is held back: 30 ms that nobody would see, several times over."""

    _was_shown = False

    def _on_screen_resume(self, event: ScreenResume) -> None:
        """Textual's own comes after it; of a new screen all styles are new."""
        event.refresh_styles = event.refresh_styles and self._was_shown
        self._was_shown = True

    def _compositor_refresh(self) -> None:
        app = self.app
        if isinstance(app, DrawingApp) and app.opening and self is app.screen:
            self._dirty_widgets.clear()  # the compositor knows by now which regions are theirs
            app.filled = True
        else:
            super()._compositor_refresh()


class DrawingApp(App[int], inherit_bindings=False):
    """`opening` is true while a new screen is held back, `filled` once something of it could be drawn; `begun` from the
    first frame of all on."""

    def __init__(self, *, driver_class: Any = None) -> None:
        super().__init__(driver_class=driver_class)
        self.opening = self.filled = self.begun = False
        self._shown = Shown()
        self._hold: Timer | None = None
        self._late: Timer | None = None

    def on_first_frame(self) -> None:
        """What can wait until the terminal shows something."""

    def push_screen(self, screen: Any, *arguments: Any, **options: Any) -> Any:
        self._open()
        return super().push_screen(self.fit(screen), *arguments, **options)

    def switch_screen(self, screen: Any) -> Any:
        self._open()
        return super().switch_screen(self.fit(screen))

    def pop_screen(self) -> Any:
        self._open()
        return super().pop_screen()

    def fit(self, screen: Screen[Any]) -> Screen[Any]:
        """The same with the classes for the terminal's size: else it would be styled and laid out for another one
        first."""
        for length, steps in zip(self.size, (self.HORIZONTAL_BREAKPOINTS, self.VERTICAL_BREAKPOINTS), strict=True):
            screen.add_class(*screen._get_breakpoint_classes(length, steps or []), update=False)
        return screen

    def finish_opening(self) -> None:
        """Send what a new screen has come to."""
        if self.opening and self._screen_stack:
            self.opening = False
            self.screen._compositor_refresh()
            self._send()
            self._begin()

    def call_soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """After all that is waiting now, keys and frames too: `call_later` alone would come before them."""
        asyncio.get_running_loop().call_soon(self.call_later, partial(call, *arguments))

    def action_redraw(self) -> None:
        """All of it, whatever is thought to be there."""
        self._shown.forget()
        self.refresh()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Textual's own, by which all of its drawing goes to the terminal."""
        if not isinstance(renderable, CompositorUpdate) or self.is_inline or self._batch_count:
            super()._display(screen, renderable)
            return
        self._shown.resize(self.size)
        self._shown.take(renderable)
        self.filled = True
        if not self.opening and self._running:
            if not self.is_headless:
                self._send()
            self._begin()
        self.post_display_hook()

    def _send(self) -> None:
        """What changed since the last frame; while that is still on its way, nothing: what comes meanwhile is one frame
        then, and whoever presses a key never waits for the line."""
        if self._driver is None or self._late is not None:
            return
        if self.is_backed_up:
            self._late = self.set_timer(LATE_SECONDS, self._send_late)
            return
        if changes := self._shown.changes(self.console._color_system):
            # In one piece: the queue to the terminal holds few.
            self._driver.write(f"{SYNC_START}{changes}{SYNC_END}" if self._sync_available else changes)
            self._driver.flush()

    def _send_late(self) -> None:
        self._late = None
        self._send()

    @property
    def is_backed_up(self) -> bool:
        """Whether the terminal is slower than we are: another frame would only wait, and at 30 of them block.

        Textual has no public name for its writer's queue; drivers without a thread have none at all.
        """
        writer = getattr(self._driver, "_writer_thread", None)
        queue = getattr(writer, "_queue", None)
        return queue is not None and queue.qsize() > 0

    def _open(self) -> None:
        self.opening, self.filled = True, False
        if self._hold is not None:
            self._hold.stop()
        self._hold = self.set_timer(OPENING_SECONDS, self.finish_opening)
        if not self.begun:
            self.set_timer(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Nothing is behind the first screen that could bring more: it is sent as soon as there is nothing to do."""
        if self._is_still():
            self.finish_opening()
        elif self.opening:
            self.set_timer(LOOK_SECONDS, self._look)

    def _is_still(self) -> bool:
        screen = self.screen
        undrawn = screen._layout_required or screen._repaint_required or screen._dirty_widgets or screen._callbacks
        if undrawn or not self.filled:
            return False
        return not any(widget.message_queue_size for widget in screen.walk_children(Widget, with_self=True))

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            collect_garbage()
            self.call_later(self.on_first_frame)


def collect_garbage() -> None:
    """From now on, if that was put off: what was imported by then is there to stay."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
