"""The runs of the first screen: sorted, tagged, noted, weighed, and their profiles taken over."""

import time
from pathlib import Path

import fake_run
import pytest
import seen
from rich.cells import cell_len
from test_home import home, own_profile
from test_home_lists import many, settle, there  # noqa: F401  (fixtures)
from textual.widgets import Input

from aozora_tui import disk_use, run_notes
from aozora_tui.run_order import ORDERS
from aozora_tui.screens.ask_line import AskLine
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.home_order import CYCLE
from engine.contract import events, places
from engine.contract.profile import dump, load, parse

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
TEXT = '[model]\nbase = "/base.safetensors"\n[[data.folders]]\npath = "/pictures"\n'


def made(name, steps, *, loss, weight, ended=True):
    run = fake_run.make(places.runs_folder(), name)
    at = fake_run.trained(run, steps - 1, steps=100)
    fake_run.add(run, fake_run.step(steps, at=at + 26, steps=100, loss=loss))
    if ended:
        fake_run.add(run, events.Finished(time=at + 26, step=steps, reason="finished", seconds=60))
    heavier(run, 100, weight)
    return run


def heavier(run, step, weight):
    folder = run.checkpoints / f"step-{step:06}"
    folder.mkdir()
    with (folder / "weights.safetensors").open("wb") as file:
        file.truncate(weight)


@pytest.fixture
def three():
    return (
        made("eel-20231113-101010", 30, loss=0.3, weight=1_900_000_000),
        made("cat-20231112-101010", 50, loss=0.1, weight=5_000_000, ended=False),
        made("dog-20231111-101010", 40, loss=0.2, weight=7_000_000_000),
    )


def order(app):
    return "".join(Path(line.key).name[0] for line in app.screen.runs_list.lines)


def heading(app):
    return next(line for line in seen.text(app).splitlines() if line.lstrip().startswith("Runs "))


def message(app):
    return seen.text(app).splitlines()[-2].strip()


def line_of(app, name):
    return next(line for line in seen.text(app).splitlines() if f"{name}-2023" in line)


async def write(pilot, key, text):
    await pilot.press(key)
    await pilot.pause()
    assert isinstance(pilot.app.screen, AskLine)
    pilot.app.screen.query_one(Input).value = text
    await pilot.pause()
    await pilot.press("enter")
    await settle(pilot)


# -- the order ---------------------------------------------------------------------------------------------------------


@SIZES
async def test_a_key_goes_through_the_orders_and_the_cursor_stays_on_its_run(three, size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await pilot.press("tab", "down", "down")
        await settle(pilot)
        assert order(app) == "ecd" and all(words not in heading(app) for words in ORDERS.values())
        for expected, words in (
            ("cde", "by name"),
            ("ced", "by state"),
            ("cde", "lowest loss first"),
            ("cde", "most steps first"),
            ("dec", "largest first"),
            ("ecd", ""),
        ):
            await pilot.press("o")
            await settle(pilot)
            assert order(app) == expected and words in heading(app)
            assert Path(app.screen.runs_list.key).name[0] == "d"
        assert len(CYCLE) == 6


@SIZES
async def test_sorted_by_size_each_says_what_it_takes(three, size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert "GB" not in line_of(app, "dog")
        app.screen.sort_by("size")
        await settle(pilot)
        assert ["7 GB" in line_of(app, "dog"), "1.9 GB" in line_of(app, "eel")] == [True, True]
        assert ("1 h" in line_of(app, "dog")) == (size[0] > 100)
        heavier(three[1], 50, 8_000_000_000)
        app.tick()
        await settle(pilot)
        assert order(app) == "cde"


async def test_every_order_is_in_the_palette_and_stays_while_other_screens_are_open(three):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        commands = {command.title: command.callback for command in app.get_system_commands(app.screen)}
        assert {f"Sort runs: {words}" for words in ORDERS.values()} <= set(commands)
        commands["Sort runs: oldest first"]()
        await settle(pilot)
        assert order(app) == "dce"
        await pilot.press("9")
        await pilot.press("escape")
        await settle(pilot)
        assert order(app) == "dce"
        await pilot.press("o")
        assert order(app) == "ecd"


# -- disk use ----------------------------------------------------------------------------------------------------------


async def test_the_selected_run_says_what_it_takes_and_again_when_it_has_grown(three):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "this one" not in heading(app)
        await pilot.press("tab")
        await settle(pilot)
        assert "this one 1.9 GB, 1 checkpoint" in heading(app)
        heavier(three[0], 200, 2_000_000_000)
        app.tick()
        await settle(pilot)
        assert "this one 3.9 GB, 2 checkpoints" in heading(app)
        await pilot.press("down", "down")
        await settle(pilot)
        assert "this one 7 GB, 1 checkpoint" in heading(app)


def test_a_file_with_two_names_is_counted_once_and_links_are_not_followed(three, tmp_path):
    run = three[0]
    before = disk_use.of(run.path)
    (run.exports / "same").hardlink_to(run.checkpoints / "step-000100" / "weights.safetensors")
    (run.exports / "away").symlink_to(three[2].path)
    (run.checkpoints / "step-000200.tmp").mkdir()
    after = disk_use.of(run.path)
    assert 0 < after.bytes - before.bytes < 1000 and after.checkpoints == 1
    assert disk_use.of(tmp_path / "none") == disk_use.Use(0, 0)
    assert str(disk_use.Use(812_000, 0)) == "812 kB, no checkpoints"


def test_a_folder_is_looked_through_again_only_when_it_has_changed(three):
    uses, key = disk_use.DiskUses(), str(three[0].path)
    assert uses.unknown([key]) == [key] and uses.get(key) is None
    uses.take(key, disk_use.stamp(three[0].path), disk_use.of(three[0].path))
    assert uses.unknown([key]) == []
    heavier(three[0], 200, 1)
    assert uses.unknown([key]) == [key] and uses.unknown([key], fresh=False) == []


# -- tags and notes ----------------------------------------------------------------------------------------------------


@SIZES
async def test_tags_are_written_shown_and_found(three, size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await pilot.press("tab", "down")
        await write(pilot, "t", "Best, v2")
        assert run_notes.read(three[1]).tags == ("best", "v2")
        assert "#best #v2" in line_of(app, "cat") + message(app)
        assert ("#best #v2" in line_of(app, "cat")) == (size[0] > 100)
        await write(pilot, "t", "best")
        assert run_notes.read(three[1]).tags == ("best",)
        await pilot.press("slash", *"#best", "enter")
        await settle(pilot)
        assert order(app) == "c"


async def test_short_tags_stand_behind_the_name_where_there_is_room(three):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await write(pilot, "t", "v2")
        assert "eel-20231113-101010 #v2 " in line_of(app, "eel")


@SIZES
async def test_a_note_is_written_shown_under_the_list_found_and_taken_away(three, size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await pilot.press("tab", "down", "down")
        await write(pilot, "i", "the one with blue eyes")
        assert message(app) == "the one with blue eyes"
        await pilot.press("up")
        await settle(pilot)
        assert "blue eyes" not in seen.text(app)
        await pilot.press("slash", *"blue", "enter")
        await settle(pilot)
        assert order(app) == "d"
        await pilot.press("escape")
        await write(pilot, "i", "")
        assert run_notes.read(three[2]).note == "" and "blue" not in seen.text(app)


async def test_what_is_typed_goes_behind_what_is_there(three):
    run_notes.change(three[0], add=("best",), note="blue")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "t", *"v2", "enter")
        await settle(pilot)
        await pilot.press("i", *" eyes", "enter")
        await settle(pilot)
        assert run_notes.read(three[0]) == run_notes.Notes(tags=("best", "v2"), note="blue eyes")


@pytest.mark.parametrize(
    ("key", "text"), [("t", "a/b"), ("t", "x" * 10_000), ("t", "\x1b[31m"), ("i", "a\x1b[2J"), ("i", "x" * 501)]
)
async def test_what_cannot_be_is_said_under_the_field_and_not_written(three, key, text):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await write(pilot, key, text)
        assert isinstance(app.screen, AskLine) and "! " in seen.text(app)
        said = next(line for line in seen.text(app).splitlines() if "! " in line)
        assert said.isprintable()
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
    assert not (three[0].path / "notes.json").exists()


async def test_a_text_that_cannot_be_written_is_not_lost(three, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        with monkeypatch.context() as patched:
            patched.setattr(run_notes, "write_text", full)
            await write(pilot, "i", "a long thought")
        assert app.screen.query_one(Input).value == "a long thought"
        assert "It was not written" in seen.words(app) and "No space left" in seen.words(app)
        await pilot.press("enter")
        await settle(pilot)
        assert run_notes.read(three[0]).note == "a long thought"


async def test_what_another_window_has_tagged_meanwhile_stays(three):
    run_notes.change(three[0], add=("old",))
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "t")
        await pilot.pause()
        run_notes.change(three[0], add=("theirs",), note="theirs too")
        app.screen.query_one(Input).value = "mine"
        await pilot.press("enter")
        await settle(pilot)
        assert run_notes.read(three[0]) == run_notes.Notes(tags=("theirs", "mine"), note="theirs too")


async def test_a_second_window_sees_what_was_tagged(three):
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        run_notes.change(three[2], add=("best",))
        app.tick()
        await pilot.pause()
        assert "#best" in line_of(app, "dog")


async def test_a_damaged_file_is_said_and_not_written_over(three):
    path = three[0].path / "notes.json"
    path.write_text("{")
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab")
        await settle(pilot)
        assert "notes.json of eel-20231113-101010 cannot be read" in message(app) and "eel-2023" in line_of(app, "eel")
        for key in ("t", "i"):
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, HomeScreen) and message(app).startswith("! ")
    assert path.read_text() == "{"


async def test_an_escape_in_a_note_is_written_out(three):
    (three[0].path / "notes.json").write_text('{"note": "a\\u001b[2Jb\\u0000c"}')
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await settle(pilot)
        assert message(app) == "a\\x1b[2Jb\\x00c"


async def test_profiles_have_neither_tags_nor_notes(three):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        for key in ("t", "i"):
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, HomeScreen) and "Select a run first" in message(app)


async def test_the_note_of_a_run_that_failed_stands_before_its_failure(three):
    run_notes.change(three[1], note="power cut")
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab", "down")
        await settle(pilot)
        assert message(app).startswith("! power cut | the engine ended without a word")


# -- the profile of a run ----------------------------------------------------------------------------------------------


async def test_the_profile_of_a_run_becomes_one_s_own_and_is_selected(three):
    told = parse(TEXT, "")[0]
    three[0].profile.write_text(dump(told))
    own_profile("eel")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "d")
        await settle(pilot)
        assert app.screen.profiles.has_focus
        made = Path(app.screen.profiles.key)
        assert made == places.profiles_folder() / "eel-2.toml" and load(made) == told
        assert "eel-20231113-101010 was told" in message(app)
        await pilot.press("tab", "down", "d")
        await settle(pilot)
        assert "has no profile.toml" in message(app) and app.screen.runs_list.has_focus


# -- many --------------------------------------------------------------------------------------------------------------


async def test_1000_runs_are_sorted_and_found_quickly(there):  # noqa: F811
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab")
        await settle(pilot)
        for name in ORDERS:
            seconds = []
            for _ in range(3):
                app.screen._order = "newest"
                begun = time.thread_time()
                app.screen.sort_by(name)
                seconds.append(time.thread_time() - begun)
            assert min(seconds) < 0.1, name
        await settle(pilot)
        assert app.screen._uses.unknown(app.screen._runs.runs) == []
        begun = time.thread_time()
        app.screen.filter._look_for("style-007")
        await pilot.pause()
        assert time.thread_time() - begun < 0.3 and len(app.screen.runs_list.lines) == 4


@pytest.mark.parametrize("name", ["newest", "loss", "size"])
async def test_a_sorted_list_that_stands_still_sends_nothing(there, name):  # noqa: F811
    app = home(driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.press("tab")
        app.screen.sort_by(name)
        await settle(pilot)
        app._driver.sent = 0
        for _ in range(3):
            app.tick()
            await settle(pilot)
        assert app._driver.sent == 0
        await pilot.press("down")
        await settle(pilot)
        assert 0 < app._driver.sent <= 2048


async def test_what_was_too_small_for_a_while_has_its_focus_again(three):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await settle(pilot)
        assert app.screen.runs_list.has_focus
        await pilot.press("i", *"note")
        for width, height in ((40, 10), (30, 5), (80, 14), (80, 24)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
        await pilot.press(*"d", "enter")
        await settle(pilot)
        assert run_notes.read(three[0]).note == "noted" and app.screen.runs_list.has_focus


async def test_names_of_wide_characters_keep_the_columns(three):
    made("\u6c34\u5f69\u753b-20231110-101010", 200, loss=441271.25, weight=5)
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        lines = [line for line in seen.text(app).splitlines() if "-2023" in line and "/100" in line]
        ends = {cell_len(line[: line.index("/100")]) for line in lines}
        assert len(lines) == 4 and len(ends) == 1, lines
        assert any("441.3k" in line for line in lines)


@pytest.mark.parametrize("then", ["enter", "escape"])
async def test_keys_typed_ahead_of_a_question_answer_it_once(three, then):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await settle(pilot)
        await pilot.press("t")
        await pilot.pause()
        asked = app.screen
        asked.query_one(Input).value = "best"
        asked.action_accept()
        _ = asked.action_accept() if then == "enter" else asked.action_cancel()
        await settle(pilot)
        assert isinstance(app.screen, HomeScreen) and run_notes.read(three[0]).tags == ("best",)
    assert app.return_code in (None, 0)
