"""The page before a start: what it says, and that nothing starts that should not."""

import json
import sys

import fake_engine
import fake_run
import forms
import gallery
import msgspec
import pytest
import seen
from PIL import Image
from test_home import own_profile

from aozora_tui import cli, runs
from aozora_tui.app import AozoraApp
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.run import RunScreen
from aozora_tui.screens.start import Page, StartScreen
from aozora_tui.screens.start_look import gather, with_pictures
from engine.contract import events, places, rundir
from engine.contract.profile import dump, parse, resolved

ENGINE = (sys.executable, fake_engine.__file__)


def app_on(readings=(), **options):
    return AozoraApp(ticking=False, read_gpu=lambda _pid: readings, clock=lambda: fake_run.START, **options)


def ran(path, name="mine-20231101-101010", steps=20, **changed):
    """A run of the profile, with its text changed as `old=new` says."""
    text = path.read_text()
    for old, new in changed.values():
        assert old in text
        text = text.replace(old, new)
    run = fake_run.make(places.runs_folder(), name)
    run.profile.write_text(dump(resolved(parse(text, "")[0], path.parent)))
    fake_run.trained(run, steps, steps=500)
    return run


async def looked(pilot, path):
    """The page, once everything on it is known."""
    answers = []
    screen = StartScreen(path, path.read_text())
    pilot.app.push_screen(screen, answers.append)
    await pilot.pause()
    await seen.work_done(pilot.app)
    await forms.settle(pilot)
    return screen, answers


async def test_it_says_what_a_run_takes_and_gives_yes_for_enter(own_place):
    path = forms.write_profile(own_place)
    app = app_on((gallery.CARD,))
    async with app.run_test(size=(120, 40)) as pilot:
        screen, answers = await looked(pilot, path)
        said = seen.words(app)
        cost = screen.seen.verdict.checked.outlook.cost
        for part in (
            "Start mine 500 steps of 16",
            f"{cost.device / 2**30:.1f} of 12.0 GiB",
            f"{cost.host / 2**30:.1f} GiB of",
            "2.57 B of 2.57 B parameters, 100.0 %",
            "1 in 1 folder; 8,000 are drawn: 8,000 epochs.",
            "The first run of this profile",
        ):
            assert part in said, part
        await pilot.press("enter")
        await pilot.pause()
        assert answers == [True] and isinstance(app.screen, HomeScreen)


@pytest.mark.parametrize("key", ["escape", "q"])
async def test_leaving_it_starts_nothing(key, own_place):
    path = forms.write_profile(own_place)
    app = app_on(engine_command=ENGINE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await forms.settle(pilot)
        assert isinstance(app.screen, StartScreen) and app.screen.path == path
        await pilot.press(key)
        await pilot.pause()
    assert not places.runs_folder().exists()


async def test_s_and_s_again_start_a_run_of_the_profile(own_place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(places.shipped_profiles_folder().parent))
    path = forms.write_profile(own_place)
    app = app_on(engine_command=ENGINE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await forms.settle(pilot)
        await pilot.press("s")
        await forms.settle(pilot)
        assert isinstance(app.screen, RunScreen)
        run = app.screen.run_dir
        assert run.name.startswith(f"{path.stem}-")
        runs._children[run.path].wait(timeout=20)
    runs.reap()


async def test_a_profile_that_was_changed_since_is_not_started(own_place):
    path = forms.write_profile(own_place)
    app = app_on(engine_command=ENGINE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await forms.settle(pilot)
        path.write_text(path.read_text().replace("500", "501"))
        await pilot.press("enter")
        await forms.settle(pilot)
        assert isinstance(app.screen, HomeScreen)
        assert "mine.toml was changed since it was checked" in seen.text(app)
    assert not places.runs_folder().exists()


async def test_problems_come_first_forbid_the_start_and_lead_to_their_field(own_place):
    path = forms.write_profile(own_place)
    path.write_text(path.read_text().replace("steps = 500", "steps = 0"))
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await forms.settle(pilot)
        assert seen.text(app).splitlines()[2].strip() == "! It cannot start: 1 problem"
        assert "train.steps" in seen.text(app)
        assert "enter start" not in seen.text(app)
        await pilot.press("enter")
        await forms.settle(pilot)
        assert isinstance(app.screen, ProfileScreen)
        assert app.screen.focused is forms.row(app.screen, "train.steps").editor


async def test_without_anybody_to_mend_it_a_wrong_profile_only_goes_back(own_place):
    own_profile(text="[model\n")
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        screen, answers = await looked(pilot, places.profiles_folder() / "mine.toml")
        assert "is not valid TOML" in seen.words(app)
        await pilot.press("enter", "s")
        assert app.screen is screen and answers == []
        assert "1 problem to mend before it can start" in seen.text(app)
        await pilot.press("escape")
        await pilot.pause()
        assert answers == [False]


async def test_it_says_what_is_different_from_the_last_run_and_only_that(own_place):
    path = forms.write_profile(own_place)
    ran(path, "mine-20231101-101010", old=("steps = 500", "steps = 77"))
    ran(path, "mine-20231102-101010", old=("steps = 500", "steps = 400\naccumulate = 32"))
    app = app_on()
    async with app.run_test(size=(120, 40)) as pilot:
        await looked(pilot, path)
        said = seen.text(app)
        assert "Since its last run   mine-20231102-101010: ! crashed, 20/500" in said
        after = said.split("Since its last run")[1].splitlines()[1:]
        assert [line.strip() for line in after[:2]] == ["train.steps  400 -> 500", "train.accumulate  32 -> 16"]
        assert not after[2].strip()
        assert "mine-20231102-101010 has encoded them" in said


async def test_where_nothing_has_changed_it_says_so_and_other_data_is_not_encoded_already(own_place):
    path = forms.write_profile(own_place)
    ran(path)
    look = gather(path.read_text(), path, ())
    assert look.last.changes == () and look.last.encoded
    changed = path.read_text() + '[text_encoders]\ntrain = "first"\n[objective]\nprediction_type = "epsilon"\n'
    assert gather(changed, path, ()).last.encoded
    (own_place / "others").mkdir()
    other = path.read_text().replace("/pictures", "/others")
    assert [each.field.path for each in gather(other, path, ()).last.changes] == ["data.folders"]
    assert not gather(other, path, ()).last.encoded


async def test_another_run_that_goes_on_is_told(own_place):
    path = forms.write_profile(own_place)
    live = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    fake_run.trained(live, 7)
    app = app_on((gallery.CARD,))
    with fake_run.engine_alive(live):
        async with app.run_test(size=(120, 40)) as pilot:
            _, answers = await looked(pilot, path)
            assert "eel-20231113-101010 goes on meanwhile" in seen.words(app)
            await pilot.press("enter")
            await pilot.pause()
            assert answers == [True]


async def test_at_80x24_the_rest_comes_with_the_keys(own_place):
    path = forms.write_profile(own_place)
    old = ("steps = 500", 'steps = 400\n[preview]\nprompts = ["' + "a lighthouse at dawn, " * 12 + '"]')
    ran(path, old=old)
    app = app_on((gallery.CARD,))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot, path)
        assert "preview.prompts" not in seen.text(app) and "pagedown more" in seen.text(app)
        await pilot.press("pagedown")
        await forms.settle(pilot)
        assert "preview.prompts" in seen.text(app)
        await pilot.press("g")
        await forms.settle(pilot)
        assert app.screen.query_one(Page).scroll_y == 0
        await pilot.press("j")
        await forms.settle(pilot)
        assert app.screen.query_one(Page).scroll_y == 1
        await pilot.press("end")
        await forms.settle(pilot)
        assert "-> none" in seen.words(app)


async def test_it_is_shown_cheaply_and_is_still(own_place):
    path = forms.write_profile(own_place)
    app = app_on((gallery.CARD,), driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        screen, _ = await looked(pilot, path)
        app._driver.sent = 0
        for _ in range(3):
            app.tick()
            screen._show()
            await pilot.pause()
        assert app._driver.sent == 0
        screen.query_one("#start-text").update("")
        await forms.settle(pilot)
        app._driver.sent = 0
        screen._show()
        await forms.settle(pilot)
        assert 1000 < app._driver.sent <= 12 * 1024


async def test_what_is_drawn_counts_the_micro_batches_that_are_not_full(own_place):
    """Forty pictures, each in a bucket of its own kind of four: 400 micro-batches of one or two."""
    path = forms.write_profile(own_place)
    path.write_text(path.read_text().replace("steps = 500", "steps = 100\naccumulate = 4\nbatch_size = 4"))
    pictures = own_place / "pictures"
    (pictures / "a.png").unlink()
    for number in range(40):
        size = (256 + 64 * (number % 8), 1024 - 64 * (number // 8))
        Image.new("L", size).save(pictures / f"{number:02}.png")
    look = with_pictures(gather(path.read_text(), path, ()), path, lambda: False)
    order = look.drawing.order
    expected = sum(len(order.batch_at(micro)) for micro in range(400))
    assert order.batches_per_epoch > 10 and look.drawing.samples == expected < 1600
    app = app_on()
    async with app.run_test(size=(120, 40)) as pilot:
        await looked(pilot, path)
        epochs = 400 / order.batches_per_epoch
        assert f"40 in 1 folder; {expected:,} are drawn: {epochs:,.0f} epochs." in seen.words(app)


def spoil(own_place):
    """Two of four pictures cannot be read."""
    pictures = own_place / "pictures"
    whole = (pictures / "a.png").read_bytes()
    (pictures / "b.png").write_bytes(whole)
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "none.jpg").touch()


async def test_pictures_that_cannot_be_read_are_named_and_every_page_counts_the_same(own_place, capsys):
    path = forms.write_profile(own_place)
    spoil(own_place)
    said = "2 of 4 pictures cannot be used: cut.png is truncated: the end of the file is missing; none.jpg is empty"
    app = app_on()
    async with app.run_test(size=(120, 40)) as pilot:
        _, answers = await looked(pilot, path)
        assert "2 of 4 in 1 folder" in seen.words(app) and said in seen.words(app)
        await pilot.press("enter")
        await pilot.pause()
        assert answers == [True]
        form = await forms.opened(pilot, path, "data.folders")
        await forms.checked(pilot, form)
        assert said in forms.row(form, "data.folders").problem_text.replace("\n", " ")
        assert "! 1 note" in seen.words(app)
        for name in ("cut.png", "none.jpg"):
            (own_place / "pictures" / name).rename(own_place / name)
        await pilot.press("escape", "d")
        await seen.work_done(app)
        assert "3 pictures" not in seen.text(app) and "2 pictures" in seen.text(app)
        await pilot.press("escape")
        await seen.work_done(app)
        await forms.settle(pilot)
        assert app.screen is form and "no problem" in seen.text(app)
        for name in ("cut.png", "none.jpg"):
            (own_place / name).rename(own_place / "pictures" / name)
    cli.main(["check", str(path), "--json"])
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [said in problem["text"] for problem in problems if problem["path"] == "data.folders"] == [True]


def test_check_names_every_picture_that_cannot_be_used(own_place, capsys):
    path = forms.write_profile(own_place)
    for number in range(9):
        (own_place / "pictures" / f"none {number}.jpg").touch()
    assert cli.main(["check", str(path)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "9 of 10 pictures cannot be used" in said and all(
        f"none {number}.jpg is empty" in said for number in range(9)
    )


async def test_a_profile_of_which_no_picture_can_be_used_does_not_start(own_place):
    path = forms.write_profile(own_place)
    (own_place / "pictures" / "a.png").write_bytes(b"\x89PNG")
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        screen, answers = await looked(pilot, path)
        assert "none of 1 pictures can be used: a.png is not a picture" in seen.words(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen is screen and not answers


async def test_what_another_program_writes_is_what_is_shown_and_started(own_place):
    path = forms.write_profile(own_place)
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        screen, answers = await looked(pilot, path)
        path.write_text(path.read_text().replace("steps = 500", "steps = 777"))
        app.tick()
        await seen.work_done(app)
        await forms.settle(pilot)
        assert "777 steps of 16" in seen.text(app) and screen.text == path.read_text()
        path.write_text("[tra")
        app.tick()
        await forms.settle(pilot)
        await pilot.press("enter")
        assert app.screen is screen or not answers


def stopped_at(path, step=20, **changed):
    """A run of the profile that was stopped, with a checkpoint."""
    run = ran(path, steps=step, **changed)
    at = fake_run.START + 9999
    fake_run.add(run, events.Finished(time=at, step=step, reason="stopped", seconds=9))
    info = rundir.read_info(run)
    run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, exit=0)))
    folder = run.checkpoints / f"step-{step:06}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return run


async def test_after_a_stopped_run_it_asks_whether_to_resume_or_to_start_anew(own_place):
    path = forms.write_profile(own_place)
    run = stopped_at(path)
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        screen, answers = await looked(pilot, path)
        await pilot.press("enter")
        await forms.settle(pilot)
        assert isinstance(app.screen, Ask) and not answers
        said = seen.words(app)
        assert f"{run.name} is stopped; its last checkpoint is of step 20 of" in said
        assert "enter resume it at step 20" in said and "n start anew" in said
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen is screen and not answers
        await pilot.press("enter", "n")
        await pilot.pause()
        assert answers == [True]


async def test_the_stopped_run_is_resumed_and_shown(own_place, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(places.shipped_profiles_folder().parent))
    path = forms.write_profile(own_place)
    run = stopped_at(path)
    app = app_on(engine_command=ENGINE)
    async with app.run_test(size=(80, 24)) as pilot:
        _, answers = await looked(pilot, path)
        await pilot.press("s", "r")
        await forms.settle(pilot)
        assert isinstance(app.screen, RunScreen) and app.screen.run_dir.name == run.name and answers == [False]
        runs._children[run.path].wait(timeout=20)
    runs.reap()
    assert len(rundir.all_runs(places.runs_folder())) == 1


async def test_where_settings_were_changed_since_starting_anew_comes_first(own_place):
    path = forms.write_profile(own_place)
    stopped_at(path, old=("steps = 500", "steps = 400"))
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot, path)
        await pilot.press("s")
        await forms.settle(pilot)
        said = seen.words(app)
        assert "1 setting" in said and "enter start anew" in said and "r resume it at step 20" in said


@pytest.mark.parametrize(("device", "said"), [("", "no card can be found here"), ("cpu", "as memory.device says")])
async def test_training_on_the_processor_is_said_plainly(own_place, device, said):
    path = forms.write_profile(own_place)
    if device:
        path.write_text(path.read_text() + f'[memory]\ndevice = "{device}"\n')
    app = app_on()
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot, path)
        assert said in seen.words(app) and "many times slower than on a card" in seen.words(app)
    app = app_on((gallery.CARD,))
    async with app.run_test(size=(80, 24)) as pilot:
        await looked(pilot, path)
        assert ("many times slower" in seen.words(app)) == bool(device)
