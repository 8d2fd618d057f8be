"""Runs laid over each other on the screen."""

import shutil
from itertools import combinations

import fake_run
import msgspec
import pytest
import seen
from forms import AppForAScreen
from rich.color import Color, ColorSystem

from aozora_tui.app import AozoraApp
from aozora_tui.screens.compare import CompareScreen
from aozora_tui.screens.pick_runs import PickRuns
from aozora_tui.widgets import run_marks
from aozora_tui.widgets.overlay import Legend, Overlay
from engine.contract import events, places

CAT, DOG = "cat-20231114-221320", "dog-20231113-101010"


def run_of(name, upto=400, *, folder=None, factor=1.0, **options):
    made = fake_run.make(folder or places.runs_folder(), name)
    if factor == 1.0:
        fake_run.trained(made, upto, **options)
        return made
    fake_run.add(made, fake_run.started(made, at=fake_run.START + 40))
    for number in range(1, upto + 1):
        told = fake_run.step(number, at=fake_run.START + 40 + 20 * number)
        fake_run.add(made, msgspec.structs.replace(told, loss=told.loss * factor))
    return made


async def settle(pilot):
    for _ in range(3):
        await pilot.pause()
        await seen.work_done(pilot.app)
    await pilot.pause()


async def pressed(pilot, *keys):
    for key in keys:
        await pilot.press(key)
        await seen.work_done(pilot.app)
    await settle(pilot)


async def opened(pilot, *runs):
    pilot.app.push_screen(CompareScreen(runs))
    await settle(pilot)
    screen = pilot.app.screen
    if isinstance(screen, PickRuns):
        await pressed(pilot, "escape")
        screen = pilot.app.screen
    assert isinstance(screen, CompareScreen)
    return screen


def app_of(**options):
    return AppForAScreen(ticking=False, clock=lambda: fake_run.START + 20_000, read_gpu=lambda _pid: (), **options)


def legend(screen):
    lines = screen.query_one("#legend", Legend).lines
    return ["".join(text for text, _ in line) for line in lines]


# -- how it is come to -------------------------------------------------------------------------------------------------


async def test_x_on_a_run_asks_for_others_and_lays_them_over_it():
    first, second = run_of(CAT), run_of(DOG, 200, factor=1.2)
    app = AozoraApp(first, ticking=False, clock=lambda: fake_run.START + 20_000, read_gpu=lambda _pid: ())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pressed(pilot, "x")
        assert isinstance(app.screen, PickRuns) and f"[x]  {CAT}" in seen.text(app)
        await pressed(pilot, "down", "space")
        assert f"[x]  {DOG}" in seen.text(app)
        await pressed(pilot, "escape")
        assert [each.run for each in app.screen.compared] == [first, second]
        assert CAT in legend(app.screen)[0] and DOG in legend(app.screen)[1]
        assert "esc back" in seen.text(app).splitlines()[-1]
        await pressed(pilot, "escape")
        assert app.screen.run_dir == first


async def test_marked_runs_are_compared_with_the_selected_one_from_home():
    run_of(CAT, 30), run_of(DOG, 20), run_of("eel-20231112-101010", 10)
    app = AozoraApp(ticking=False, clock=lambda: fake_run.START + 20_000, read_gpu=lambda _pid: ())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pressed(pilot, "x")
        assert "Runs can be compared: tab goes to them" in seen.text(app)
        await pressed(pilot, "tab", "home", "space")
        assert f"* {CAT}" in seen.text(app)
        assert "1 run is marked: x compares it with the selected one" in seen.text(app)
        await pressed(pilot, "down", "x")
        assert isinstance(app.screen, CompareScreen)
        assert [each.run.name for each in app.screen.compared] == [CAT, "eel-20231112-101010"]
        await pressed(pilot, "escape")
        assert f"* {CAT}" not in seen.text(app)
        await pressed(pilot, "home", "space", "up", "space")
        assert "* " not in seen.text(app)


async def test_the_command_opens_the_app_on_the_runs_and_leads_home():
    runs = run_of(CAT, 30), run_of(DOG, 20)
    app = AozoraApp(comparing=runs, ticking=False, clock=lambda: fake_run.START + 20_000, read_gpu=lambda _pid: ())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert isinstance(app.screen, CompareScreen) and len(legend(app.screen)) == 2
        await pressed(pilot, "escape")
        assert "Profiles" in seen.text(app)


# -- curves ------------------------------------------------------------------------------------------------------------


async def test_metrics_and_axes_are_gone_through():
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run_of(CAT), run_of(DOG, 200))
        names = []
        for _ in range(9):
            names.append(screen.metric.name)
            assert screen.metric.title in seen.text(pilot.app)
            await pressed(pilot, "tab")
        assert names[:2] == ["loss", "grad-norm"] and len(set(names)) == len(names) - (names[-1] == "loss")
        await pressed(pilot, *["shift+tab"] * 9, "x")
        assert screen.metric.name == "loss" and "by hours of training" in seen.text(pilot.app)
        assert screen.overlay._series[0].xs[-1] == pytest.approx(400 * 26 / 3600)
        await pressed(pilot, "x")
        assert screen.overlay._series[1].xs[-1] == 200 * 64
        await pressed(pilot, "z", "z", "z", "y")
        assert screen.overlay.smoothing == 0 and screen.overlay.y_log and "log axis" in seen.text(pilot.app)


async def test_the_cursor_reads_every_run_first_where_all_have_been():
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run_of(CAT), run_of(DOG, 200, factor=1.25))
        await pressed(pilot, "z", "z", "z", "right")
        assert screen.looking.cursor == 200 and "at step 200" in seen.text(pilot.app)
        told = fake_run.step(200, at=0.0).loss
        first, second = legend(screen)
        assert f"{told:.4f}" in first and f"{1.25 * told:.4f}" in second and "+25.0 %" in second
        await pressed(pilot, *["pagedown"] * 2)
        assert screen.looking.cursor > 210
        assert legend(screen)[1].split()[2] == "-" and "%" not in legend(screen)[1]
        await pressed(pilot, "escape")
        assert screen.looking.cursor is None and "newest values" in seen.text(pilot.app)


async def test_zooming_panning_and_following():
    live = run_of(CAT)
    with fake_run.engine_alive(live):
        async with app_of().run_test(size=(120, 40)) as pilot:
            screen = await opened(pilot, live, run_of(DOG, 200))
            await pressed(pilot, "plus", "plus")
            assert screen.looking.window == (375, 625)
            await pressed(pilot, "left_square_bracket")
            assert screen.looking.window == (250, 500)
            await pressed(pilot, "f")
            assert screen.looking.window == (150, 400)
            fake_run.add(live, *(fake_run.step(n, at=fake_run.START + 40 + 26 * n) for n in range(401, 411)))
            pilot.app.tick()
            await settle(pilot)
            assert screen.looking.window == (160, 410) and "410/1,000" in legend(screen)[0]
            await pressed(pilot, "0")
            assert screen.looking.window is None


async def test_ended_runs_have_the_axis_as_long_as_they_are():
    for name, upto in ((CAT, 400), (DOG, 200)):
        fake_run.add(
            run_of(name, upto), events.Finished(time=fake_run.START + 9e5, step=upto, reason="stopped", seconds=1)
        )
    runs = [places.runs_folder() / name for name in (CAT, DOG)]
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, *map(fake_run.RunDir, runs))
        assert screen.overlay.x_end == 400


async def test_a_run_is_read_in_the_background_and_the_screen_says_so():
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run_of(CAT))
        screen.choose([each.run for each in screen.compared] + [run_of(DOG, 50)])
        screen.show()
        assert not screen.compared[1].loaded
        assert screen.resting()[0] == f"Loading 2 of 2: {DOG}, 0 %"
        assert "reading" in legend(screen)[1] and "412" not in legend(screen)[1]
        await settle(pilot)
        assert screen.resting()[0] == "" and "50/1,000" in legend(screen)[1]


# -- telling them apart ------------------------------------------------------------------------------------------------


async def test_without_colours_every_run_has_a_sign_of_its_own():
    runs = [run_of(f"r{number}-20231114-22132{number}", 300 + number, factor=1 + number / 4) for number in range(8)]
    async with app_of().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, *runs)
        assert len(legend(screen)) == 8
        for number, sign in enumerate(run_marks.SIGNS):
            assert legend(screen)[number].startswith(f" {sign} r{number}") and sign in screen.overlay.text


async def test_where_only_ascii_arrives_lines_are_made_of_letters(monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    runs = [run_of(f"r{number}-20231114-22132{number}", 300, factor=1 + number / 2) for number in range(3)]
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, *runs)
        assert seen.text(pilot.app).isascii()
        for number, letter in enumerate("ABC"):
            assert legend(screen)[number].startswith(f" {letter} r{number}")
            assert screen.overlay.text.count(letter) > 20
        await pressed(pilot, "enter")
        assert seen.text(pilot.app).isascii() and "C r2" in seen.text(pilot.app)


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLIND = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def lab(red, green, blue):
    x = 0.4124 * red + 0.3576 * green + 0.1805 * blue
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = 0.0193 * red + 0.1192 * green + 0.9505 * blue
    fx, fy, fz = (max(value, 0) ** (1 / 3) for value in (x / 0.9505, y, z / 1.089))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("palette", [run_marks.DARK, run_marks.LIGHT], ids=["dark", "light"])
@pytest.mark.parametrize("blind", BLIND)
def test_the_colour_blind_tell_eight_runs_apart_in_256_colours(palette, blind):
    shades = []
    for name in palette:
        colour = Color.parse(name).downgrade(ColorSystem.EIGHT_BIT)
        assert colour.get_truecolor().hex == name, "is one of the 256"
        linear = [(level / 255) ** 2.2 for level in colour.get_truecolor()]
        shades.append(lab(*(sum(a * b for a, b in zip(row, linear, strict=True)) for row in BLIND[blind])))
    for one, other in combinations(shades, 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 20


async def test_a_run_keeps_its_colour_when_others_come_and_go():
    runs = [run_of(f"r{number}-20231114-22132{number}", 20) for number in range(4)]
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, *runs[:3])
        kept = screen.compared[1]
        screen.choose([runs[3], runs[1]])
        await settle(pilot)
        assert screen.compared[1] is kept and kept.place == 1 and screen.compared[0].place == 0


async def test_runs_of_one_name_in_two_folders_are_told_apart(tmp_path):
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run_of(CAT, 20), run_of(CAT, 30, folder=tmp_path / "usb"))
        assert f"runs/{CAT}" in legend(screen)[0] and f"usb/{CAT}" in legend(screen)[1]


# -- the table ---------------------------------------------------------------------------------------------------------


async def test_the_table_says_how_they_ended_and_what_differs():
    runs = run_of(CAT, 400), run_of(DOG, 200, factor=1.25)
    text = '[model]\nbase = "/m/base.safetensors"\n[[data.folders]]\npath = "/p"\n[train]\naccumulate = {}\n'
    for run, number in zip(runs, (32, 64), strict=True):
        run.profile.write_text(text.format(number))
    async with app_of().run_test(size=(80, 24)) as pilot:
        await opened(pilot, *runs)
        await pressed(pilot, "enter")
        lines = {" ".join(line.split()[:2]): line.split() for line in seen.text(pilot.app).splitlines()}
        assert lines["steps 400"] == ["steps", "400", "of", "1,000", "200", "of", "1,000"]
        assert lines["loss, step"][2] == "200" and lines["loss, step"][4] == "*"
        assert lines["Accumulation 32"] == ["Accumulation", "32", "64"]
        assert "enter curves" in seen.text(pilot.app) and "esc back" in seen.text(pilot.app)
        await pressed(pilot, "escape")
        assert "enter table" in seen.text(pilot.app)


async def test_the_table_of_many_runs_is_gone_through_sideways_and_down():
    runs = [run_of(f"r{number}-20231114-22132{number}", 300 + number) for number in range(5)]
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, *runs)
        await pressed(pilot, "enter")
        assert "1 to 3" in seen.text(pilot.app) and "303 of 1,000" not in seen.text(pilot.app)
        await pressed(pilot, *["right"] * 9)
        assert screen.first == 2 and "304 of 1,000" in seen.text(pilot.app)
        assert "r4" in seen.text(pilot.app).splitlines()[1]
        await pressed(pilot, "left")
        assert screen.first == 1
        await pilot.resize_terminal(80, 15)
        await settle(pilot)
        await pressed(pilot, "pagedown", "down")
        assert "r4" not in seen.text(pilot.app).splitlines()[1] and "r1" in seen.text(pilot.app).splitlines()[1]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_damaged_missing_and_empty_runs_are_said_in_words(tmp_path):
    empty = fake_run.make(places.runs_folder(), "empty-20231114-221321")
    odd = fake_run.make(places.runs_folder(), "odd-20231114-221322")
    odd.events.mkdir()
    torn = run_of("torn-20231114-221323", 50)
    torn.events.write_bytes(torn.events.read_bytes() + b"\x00\x1b[2J nonsense\n" * 3)
    gone = run_of("gone-20231114-221324", 60)
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, run_of(CAT), empty, odd, torn, gone)
        lines = legend(screen)
        assert "no step yet" in lines[1] and "cannot be read" in lines[2] and "3 lines" in lines[3]
        shutil.rmtree(gone.path)
        pilot.app.tick()
        await settle(pilot)
        assert "its folder is gone" in legend(screen)[4]
        await pressed(pilot, "right", "plus", "tab", "x", "enter", "pagedown", "escape", "f", "y", "y")
        assert isinstance(pilot.app.screen, CompareScreen) and "\x1b" not in seen.text(pilot.app)


async def test_with_nothing_to_show_every_key_is_harmless():
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, fake_run.make(places.runs_folder(), CAT))
        screen.choose([])
        await settle(pilot)
        pilot.app.tick()
        assert "Nothing to compare: a adds runs" in screen.resting()[0]
        for key in ("right", "plus", "minus", "0", "f", "y", "z", "x", "tab", "enter", "right", "down", "enter"):
            await pressed(pilot, key)
        assert pilot.app.screen is screen


@pytest.mark.parametrize("size", [(40, 10), (60, 15), (80, 24), (200, 60)])
async def test_every_size_holds(size):
    runs = [run_of(f"r{number}-20231114-22132{number}", 20) for number in range(8)]
    async with app_of().run_test(size=size) as pilot:
        screen = await opened(pilot, *runs)
        await pressed(pilot, "right", "enter")
        if size[1] == 15:
            await pressed(pilot, "enter")
            assert "and 4 more" in seen.text(pilot.app)
            assert screen.query_one(Overlay).size.height >= 3


# -- choosing ----------------------------------------------------------------------------------------------------------


async def test_runs_are_found_by_name_and_elsewhere_by_path(tmp_path):
    run_of(CAT, 10), run_of(DOG, 20)
    other = run_of("eel-20231112-101010", 30, folder=tmp_path / "usb" / "runs")
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, fake_run.RunDir(places.runs_folder() / CAT))
        await pressed(pilot, "a", "slash", *"dog")
        picker = pilot.app.screen
        assert [line.key for line in picker.rows.lines] == [str(places.runs_folder() / DOG)]
        await pressed(pilot, "enter", "escape", *f"{tmp_path}/usb/", "tab")
        assert picker.filter_text == f"{tmp_path}/usb/runs/"
        await pressed(pilot, "tab")
        assert picker.filter_text == f"{tmp_path}/usb/runs/{other.name}/"
        assert [line.cells[0][0] for line in picker.rows.lines][:1] == ["[ ]"]
        await pressed(pilot, "enter", "escape", "escape", "escape")
        assert pilot.app.screen is screen
        assert [each.run.name for each in screen.compared] == [CAT, DOG, other.name]
        await pressed(pilot, "a", "enter", "escape")
        assert [each.run.name for each in screen.compared] == [DOG, other.name]


async def test_a_folder_on_the_way_is_gone_into(tmp_path):
    run_of("eel-20231112-101010", 30, folder=tmp_path / "usb" / "runs")
    async with app_of().run_test(size=(80, 24)) as pilot:
        await opened(pilot, run_of(CAT, 10))
        await pressed(pilot, "a", "slash", *f"{tmp_path}/us")
        await pressed(pilot, "enter", "enter")
        assert pilot.app.screen.filter_text == f"{tmp_path}/usb/runs/"
        assert "[ ]" in seen.text(pilot.app) and "step 30/1,000" in seen.text(pilot.app)


async def test_no_more_than_can_be_told_apart():
    runs = [run_of(f"r{number}-20231114-22132{number}", 2) for number in range(9)]
    async with app_of().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, *runs[:8])
        await pressed(pilot, "a", "end", "space")
        assert "8 are as many as can be told apart" in seen.text(pilot.app)
        await pressed(pilot, "escape")
        assert len(screen.compared) == 8


# -- what it costs -----------------------------------------------------------------------------------------------------


async def test_it_opens_in_few_bytes_and_costs_nothing_while_nothing_happens(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    live = run_of(CAT)
    with fake_run.engine_alive(live):
        app = app_of(driver_class=seen.CountingDriver)
        async with app.run_test(headless=False, size=(120, 40)) as pilot:
            await settle(pilot)
            app._driver.sent = 0
            screen = await opened(pilot, live, run_of(DOG, 200, factor=1.2), run_of("eel-20231112-101010", 300))
            assert 1000 < app._driver.sent <= 12_000
            for key in ("right", "right", "pageup", "left"):
                app._driver.sent = 0
                await pressed(pilot, key)
                assert 0 < app._driver.sent <= 1000, key
            for page in ("curves", "table"):
                app._driver.sent = 0
                for _ in range(4):
                    app.tick()
                    await pilot.pause()
                assert app._driver.sent == 0, page
                fake_run.add(live, fake_run.step(401, at=fake_run.START + 40 + 26 * 401))
                app.tick()
                await pilot.pause()
                assert app._driver.sent <= 1000
                await pressed(pilot, "enter")
            assert screen.in_table is False
