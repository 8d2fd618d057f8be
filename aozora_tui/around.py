"""What goes on beside the screens whatever is on top: connections to other machines, and notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from aozora_tui.remote import links

if TYPE_CHECKING:
    from aozora_tui.app import AozoraApp
    from aozora_tui.notify import Notices
    from aozora_tui.screens.base import AozoraScreen
    from engine.contract.rundir import RunDir

CLOSING_SECONDS = 3.0  # that the end of the app waits for a notification under way


class Around:
    """Made with the app; `look` at every tick."""

    def __init__(self, app: AozoraApp) -> None:
        self._app = app
        self._notices: Notices | None = None
        self._news = ""

    def watch(self, run: RunDir) -> None:
        """The run is shown: from now on its news are sent, if the person wants that."""
        if self._notices is None and self._app.settings.wants_notices:
            from aozora_tui.notify import Notices

            self._notices = Notices(self._app.settings.notify, write=self._write, complain=self._complain)
        if self._notices is not None:
            self._notices.watch(run)

    def look(self) -> None:
        """Nothing is shown anew that is shown already."""
        if self._notices is not None:
            self._notices.look()
        news = self._worst()
        if news != self._news:
            before, self._news = self._news, news
            if screen := self._screen():
                screen.rest(over=not before)  # what was said a moment ago stays, but not over a new misfortune
        if screen := self._screen():
            for text, kind in [said for link in links.every() for said in link.take_said()]:
                screen.say(text, kind)

    def news(self) -> tuple[str, Literal["warning"]] | None:
        """What every screen says while nothing else is said."""
        return (self._news, "warning") if self._news else None

    def close(self) -> None:
        for link in links.every():
            link.release()
        if self._notices is not None:
            self._notices.close(CLOSING_SECONDS)

    def _worst(self) -> str:
        return next((news for link in links.every() if (news := link.news())), "")

    def _screen(self) -> AozoraScreen[Any] | None:
        from aozora_tui.screens.base import AozoraScreen

        return self._app.screen if isinstance(self._app.screen, AozoraScreen) else None

    def _write(self, sequence: str) -> None:
        driver = self._app._driver
        if driver is not None:
            driver.write(sequence)
            driver.flush()

    def _complain(self, text: str) -> None:
        if screen := self._screen():
            screen.say(text, "warning")
