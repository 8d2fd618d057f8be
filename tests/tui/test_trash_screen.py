"""The trash in the app: what is in it, also from earlier sessions, and what can be done with it."""

import fake_run
import pytest
import seen
from test_trash import profile, run

from aozora_tui import trash
from aozora_tui.app import AozoraApp
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.trash import TrashScreen
from engine.contract.rundir import RunDir

SIZES = ((80, 24), (120, 40))


def app(**options):
    clock = options.pop("clock", lambda: fake_run.START + 7200)
    return AozoraApp(ticking=False, clock=clock, read_gpu=lambda pid: (), **options)


async def settle(pilot):
    await pilot.pause()
    await seen.work_done(pilot.app)
    await pilot.pause()


async def opened(pilot):
    """The screen, and what it gives back."""
    given = []
    pilot.app.push_screen(TrashScreen(), given.append)
    await settle(pilot)
    return pilot.app.screen, given


@pytest.fixture
def filled():
    weighty = run()
    (weighty.path / "weights").write_bytes(b"x" * 3_000_000)
    return [trash.throw(profile(text="x" * 1500), fake_run.START), trash.throw_run(weighty, fake_run.START + 3600)]


@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_what_when_how_large_and_where(filled, size):
    async with app().run_test(size=size) as pilot:
        await opened(pilot)
        said = seen.text(pilot.app)
        assert "2 entries, 3 MB" in said
        lines = [line.split() for line in said.splitlines()]
        assert ["dog-20231112-101010", "run", "1", "h", "3", "MB"] in [line[-6:] for line in lines]
        assert ["mine", "profile", "2", "h", "1.5", "kB"] in lines
        assert "was in " in said and "is in " in said
        await pilot.press("j")
        assert "profiles/mine.toml" in seen.text(pilot.app)


async def test_enter_puts_back_what_an_earlier_session_deleted_and_it_is_given_to_who_asked(filled):
    async with app().run_test(size=(80, 24)) as pilot:
        screen, given = await opened(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert filled[1].original.is_dir() and "dog-20231112-101010 is back in" in seen.text(pilot.app)
        assert len(screen.rows.lines) == 1
        await pilot.press("u")
        await settle(pilot)
        assert filled[0].original.is_file() and "Nothing." in seen.text(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)
        assert given == [(filled[1].original, filled[0].original)]


async def test_what_has_taken_the_place_is_not_overwritten(filled):
    profile(text="another")
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("j", "enter")
        await settle(pilot)
        assert "! Something called mine.toml exists there again: rename that first" in seen.text(pilot.app)
    assert filled[0].original.read_text() == "another" and filled[0].kept.is_file()


async def test_one_entry_is_deleted_for_good_only_after_yes(filled):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("X")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        assert "Delete dog-20231112-101010 for good?" in seen.text(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert filled[1].kept.is_dir()
        await pilot.press("delete", "y")
        await settle(pilot)
        assert not filled[1].kept.exists() and filled[0].kept.is_file()
        assert "Deleted 1 entry: 3 MB" in seen.text(pilot.app)


async def test_all_of_it_is_deleted_for_good_only_after_yes(filled):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("E")
        await settle(pilot)
        assert "2 entries, 3 MB: nothing brings that back" in seen.words(pilot.app)
        await pilot.press("enter")
        assert len(trash.entries()) == 2
        await pilot.press("y")
        await settle(pilot)
        assert trash.entries() == [] and "Deleted 2 entries" in seen.text(pilot.app)


async def test_a_run_in_which_an_engine_works_stays_and_that_is_said(filled):
    with fake_run.engine_alive(RunDir(filled[1].kept)):
        async with app().run_test(size=(80, 24)) as pilot:
            await opened(pilot)
            await pilot.press("E", "y")
            await settle(pilot)
            assert "was not deleted" in seen.text(pilot.app)
    assert [thrown.kept for thrown in trash.entries()] == [filled[1].kept]


async def test_an_empty_trash_says_so_and_offers_only_the_way_back():
    async with app().run_test(size=(80, 24)) as pilot:
        screen, _ = await opened(pilot)
        assert "Nothing is in the trash. esc goes back." in seen.text(pilot.app)
        offered = {key.id for key in screen.active_keys() if key.id.startswith("trash.")}
        assert offered == {"trash.back"}
        await pilot.press("enter", "X", "E")
        assert pilot.app.screen is screen


async def test_it_sends_nothing_when_idle_and_little_when_the_cursor_moves(filled):
    paying = app(driver_class=seen.CountingDriver)
    async with paying.run_test(headless=False, size=(120, 40)) as pilot:
        await opened(pilot)
        pilot.app.finish_opening()
        driver = pilot.app._driver
        driver.sent = 0
        pilot.app.tick()
        await pilot.pause()
        assert driver.sent == 0
        await pilot.press("down")
        await pilot.pause()
        assert 0 < driver.sent < 1024
