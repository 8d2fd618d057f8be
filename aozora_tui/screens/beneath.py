"""What is under the screen that an app opened on a run shows: the first screen, once somebody goes there."""

from __future__ import annotations

from textual.screen import Screen


class Beneath(Screen[None]):
    """Empty and never seen; whoever comes back to it gets the first screen."""

    _left = False

    def on_screen_suspend(self) -> None:
        self._left = True

    def on_screen_resume(self) -> None:
        from aozora_tui.app import AozoraApp

        if self._left:
            assert isinstance(self.app, AozoraApp)
            # Textual takes a callback from every screen that it switches away from, and gives the first of all none.
            self._push_result_callback(self, None)
            self.app.switch_screen(self.app.home_screen())
