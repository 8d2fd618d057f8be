"""What a person sees: a screen's text, and the bytes it costs."""

from __future__ import annotations

import contextlib

from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver
from textual.worker import WorkerCancelled


def text(app: App) -> str:
    """The screen on top, as lines without trailing blanks."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def words(app: App) -> str:
    """The same without line ends and borders: sentences that were wrapped are whole again."""
    return " ".join(text(app).translate({ord(char): " " for char in "│╭╮╰╯─|"}).split())


class CountingDriver(HeadlessDriver):
    """Counts what would go to the terminal."""

    is_headless = property(lambda self: False)  # so that the compositor writes to it

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent = 0

    def write(self, data):
        self.sent += len(data.encode())

    def flush(self):
        pass


async def work_done(app: App) -> None:
    """Until no worker runs. One that a newer one of its group has replaced counts as done, not as an error."""
    while running := [worker for worker in app.workers if not worker.is_finished]:
        with contextlib.suppress(WorkerCancelled):
            await app.workers.wait_for_complete(running)
