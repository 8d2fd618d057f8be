"""When the app has done all that there is to do: what Textual's pilot waits for in these tests.

Textual's own pilot takes the process for done once it has been idle for 20 ms, and asks every widget in turn: a key
costs two such waits, and on a busy machine idle is not done. The event loop knows it exactly.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual._context import active_app
from textual.app import App
from textual.pilot import Pilot

MOST_TURNS = 100_000


async def still(app: App[Any]) -> None:
    """Until nothing is left to run and nothing to be drawn: what is not done then waits for a thread or a clock."""
    for _ in range(MOST_TURNS):
        await asyncio.sleep(0)
        if asyncio.get_running_loop()._ready:
            continue
        if not app._running or not app._screen_stack:
            return
        # What timers would do a hundredth of a second later.
        if app._resize_event is not None:
            app._check_resize()
        elif _undrawn(app.screen):
            app.screen._on_timer_update()
        elif getattr(app, "opening", False):
            app.finish_opening()
        else:
            return
    pytest.fail("the app never rests")


def _undrawn(screen: Any) -> bool:
    required = screen._layout_required or screen._scroll_required or screen._repaint_required
    return bool(screen.is_current and (required or screen._dirty_widgets or screen._callbacks))


async def _wait_for_screen(pilot: Pilot[Any], timeout: float = 0.0) -> bool:
    await still(pilot.app)
    return True


async def _wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 0.0) -> None:
    await still(active_app.get())


def patch_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pilot, "_wait_for_screen", _wait_for_screen)
    monkeypatch.setattr("textual.pilot.wait_for_idle", _wait_for_idle)
    monkeypatch.setattr("textual.app.wait_for_idle", _wait_for_idle)
