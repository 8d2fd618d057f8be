"""What screens send to the terminal, at 120x40."""

import gallery
import pytest
import seen

OPENED = {
    "profile": (("e",), 12_000),
    "search": (("e", "slash"), 12_000),
    "differ": (("e", "v"), 12_000),
    "layers": (("e", "f4"), 12_000),
    "curves": (("e", "c"), 12_000),
    "start": (("s",), 12_000),
    "recipes": (("n",), 12_000),
    "help": (("question_mark",), 12_000),
}


@pytest.mark.parametrize(("keys", "most"), OPENED.values(), ids=OPENED)
async def test_a_screen_opens_in_few_bytes_and_then_sends_nothing(keys, most, own_place, monkeypatch):
    monkeypatch.setenv("HOME", str(own_place))
    async with gallery.shown("home", (120, 40), driver_class=seen.CountingDriver) as pilot:
        driver = pilot.app._driver
        await pilot.press("tab")
        await pilot.pause()
        for key in keys:
            driver.sent = 0
            await pilot.press(key)
            await seen.work_done(pilot.app)
            await pilot.pause()
        assert 500 < driver.sent <= most
        driver.sent = 0
        for _ in range(3):
            pilot.app.tick()
            await pilot.pause()
        assert driver.sent == 0
