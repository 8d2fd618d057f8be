"""The two lists of the first screen: what their lines say, the filter, and hundreds of entries."""

import shutil
import time
from pathlib import Path

import fake_checkpoint
import fake_run
import msgspec
import pytest
import seen
from test_home import home, own_profile
from textual.widgets import Input

from aozora_tui import runs
from aozora_tui.run_list import RunList, last_of, stem_for, stem_of
from aozora_tui.screens.home_profiles import covers, facts_of, purpose
from engine.contract import events, places, rundir
from engine.contract.profile import dump, parse
from engine.contract.sections import Layers, Profile, TextEncoders

TEXT = '[model]\nbase = "BASE"\n[[data.folders]]\npath = "/p"\n'


async def settle(pilot):
    await pilot.pause()
    await seen.work_done(pilot.app)
    await pilot.pause()


def lines_with(app, word):
    return [line for line in seen.text(app).splitlines() if word in line]


def finished(name, steps=20):
    run = fake_run.make(places.runs_folder(), name)
    at = fake_run.trained(run, steps, steps=steps)
    fake_run.add(run, events.Finished(time=at, step=steps, reason="finished", seconds=60))
    return run


# -- one line ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "freeze", "encoders", "said"),
    [
        (("*",), (), "none", "all"),
        (("up_blocks.*", "down_blocks.*"), (), "none", "input+output"),
        (("mid_block.*",), (), "first", "middle+text 1"),
        (("attn2",), (), "both", "attn2+text"),
        (("down_blocks.1.*", "up_blocks.1.*"), (), "none", "down 1+up 1"),
        (("*",), ("norm1",), "none", "all but norm1"),
        (("attn1", "attn2", "ff", "conv1", "add_embedding"), (), "none", "5 patterns"),
    ],
)
def test_what_learns_is_said_in_few_words(train, freeze, encoders, said):
    profile = parse(TEXT, "")[0]
    assert isinstance(profile, Profile)
    layers, text = Layers(train=train, freeze=freeze), TextEncoders(train=encoders)
    profile = msgspec.structs.replace(profile, layers=layers, text_encoders=text)
    words, vague = covers(profile)
    assert (words, vague) == (said, said == "5 patterns")


def test_every_recipe_says_what_it_is_for_and_what_it_trains():
    for path in places.shipped_profiles_folder().glob("*.toml"):
        sentence, whole = purpose(path.read_text())
        assert sentence.endswith(".") and whole.startswith(sentence) and "#" not in sentence
        facts = facts_of(path)
        assert not facts.trouble and facts.base and facts.learns and facts.steps


def test_a_word_to_editors_is_no_purpose():
    assert purpose("#:schema x.json\n\n# Small. Fast.\n#\n# More.\n[model]\n") == ("Small.", "Small. Fast.")


async def test_a_profile_says_base_coverage_plan_steps_and_how_its_last_run_ended(own_place):
    base = fake_checkpoint.write(own_place / "models" / "noob.safetensors")
    text = TEXT.replace("BASE", str(base))
    own_profile("mine", text + '[train]\nsteps = 20\n[layers]\ntrain = ["down_blocks.*", "mid_block.*"]\n')
    finished("mine-20231101-101010")
    fake_run.trained(fake_run.make(places.runs_folder(), "mine-20231102-101010"), 3)
    finished("mine-2-20231109-101010")  # another profile's
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        line = next(line for line in lines_with(app, "noob") if "mine" in line)
        assert line.split()[1:] == ["mine", "noob", "input+middle", "auto", "20", "!", "crashed"]
        await pilot.resize_terminal(120, 40)
        await settle(pilot)
        line = next(line for line in lines_with(app, "noob") if "mine" in line)
        assert "yours" in line and "input+middle  48 %" in line


async def test_a_count_of_patterns_becomes_a_share_when_the_checkpoint_is_there(own_place):
    layers = '[layers]\ntrain = ["attn1", "attn2", "ff", "conv1", "add_embedding"]\n'
    own_profile("mine", TEXT.replace("BASE", str(own_place / "noob.safetensors")) + layers)
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "5 patterns" in lines_with(app, "mine")[0]
        fake_checkpoint.write(own_place / "noob.safetensors")
        await pilot.press("e")
        await pilot.press("escape")
        await settle(pilot)
        assert "92 %" in lines_with(app, "mine")[0]


@pytest.mark.parametrize("name", ["cat", "my cat", "-a.b-", "Größe", "..."])
def test_a_run_is_found_by_its_profile_whatever_that_is_called(name, tmp_path):
    run = rundir.create(tmp_path, name, now=0)
    twin = rundir.create(tmp_path, name, now=0)
    assert stem_of(run.name) == stem_of(twin.name) == stem_for(Path(f"{name}.toml"))
    assert last_of(tmp_path, Path(f"{name}.toml")) is None  # neither began
    run.profile.write_text("")
    assert last_of(tmp_path, Path(f"{name}.toml")) == run


# -- the first start ---------------------------------------------------------------------------------------------------


async def test_at_the_first_start_the_demo_is_the_obvious_next_key():
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert Path(app.screen.profiles.key).stem == "demo"
        assert seen.text(app).splitlines()[-1].split()[:2] == ["D", "demo"]
        await pilot.press("d")
        await settle(pilot)
        assert seen.text(app).splitlines()[-1].split()[:2] == ["enter", "open"]


# -- the filter --------------------------------------------------------------------------------------------------------


async def test_the_filter_looks_at_names_and_bases_of_both_lists_as_one_types():
    own_profile("portraits", TEXT.replace("BASE", "/models/Illustrious-v2.safetensors"))
    own_profile("landscapes", TEXT.replace("BASE", "/models/noob.safetensors"))
    run = finished("ships-20231101-101010")
    profile = parse(TEXT.replace("BASE", "/models/illustrious-v1.safetensors"), "")[0]
    run.profile.write_text(dump(profile))
    finished("portraits-20231101-101010")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"illus")
        await settle(pilot)
        assert [Path(line.key).stem for line in app.screen.profiles.lines] == ["portraits"]
        assert [Path(line.key).name for line in app.screen.runs_list.lines] == ["ships-20231101-101010"]
        assert "1 of 2" in seen.text(app)
        await pilot.press(*" v1")
        await settle(pilot)
        assert not app.screen.profiles.lines and len(app.screen.runs_list.lines) == 1
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen.runs_list.has_focus  # the only list that has something
        await pilot.press("escape")
        await settle(pilot)
        assert len(app.screen.profiles.lines) > 2 and len(app.screen.runs_list.lines) == 2
        assert "find" not in seen.text(app).splitlines()[1]


async def test_letters_are_text_in_the_filter_and_arrows_go_on_to_the_list():
    own_profile("stu")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"stu")
        assert app.screen.query_one(Input).value == "stu"
        assert "start" not in seen.text(app).splitlines()[-1]
        await pilot.press("down")
        await pilot.pause()
        assert app.screen.profiles.has_focus and Path(app.screen.profiles.key).stem == "stu"
        assert app.screen.filter.words == ("stu",)
        await pilot.press("slash", *"qqq")
        await pilot.pause()
        assert "None has that in its name or its base" in seen.text(app)
        await pilot.press("escape")
        assert app.screen.profiles.has_focus and app.screen.filter.words == ()


# -- many --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """300 profiles, and 1,000 runs whose events are as long as those of days."""
    root = tmp_path_factory.mktemp("many")
    text = (places.shipped_profiles_folder() / "aozora-xl-v0.15.toml").read_text()
    (root / "profiles").mkdir()
    for index in range(300):
        (root / "profiles" / f"style-{index:03}.toml").write_text(text)
    first = fake_run.make(root, "template-20231101-000000")
    at = fake_run.trained(first, 400, steps=1000)
    told = first.events.read_bytes()
    end = events.encode(events.Finished(time=at, step=400, reason="finished", seconds=60))
    for index in range(1000):
        run = fake_run.make(root / "runs", f"style-{index % 300:03}-20231101-{index // 60:02}{index % 60:02}00")
        run.events.write_bytes(told + (end if index % 2 else b""))
    shutil.rmtree(first.path)
    return root


@pytest.fixture
def there(many, monkeypatch):
    monkeypatch.setenv("AOZORA_PROFILES", str(many / "profiles"))
    monkeypatch.setenv("AOZORA_RUNS", str(many / "runs"))


async def shown_after(app, pilot):
    """Seconds of this thread until what is in sight is there: others may keep the machine busy meanwhile."""
    await settle(pilot)
    begun = time.thread_time()
    app.screen._shelf, app.screen._runs = type(app.screen._shelf)(), RunList(places.runs_folder())
    app.screen.on_screen_resume()
    await pilot.pause()
    return time.thread_time() - begun


async def test_300_profiles_and_1000_runs_are_listed_in_half_a_second(there):
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        times = [await shown_after(app, pilot) for _ in range(3)]
        assert min(times) < 0.5
        assert len(app.screen.profiles.lines) > 300 and len(app.screen.runs_list.lines) == 1000
        visible = [line for line in seen.text(app).splitlines() if "style-" in line]
        assert len(visible) > 30
        assert all(word in visible[0] for word in ("Aozora-XL_v0.1", "3,906", "auto"))
        assert all("crashed" in line or "finished" in line for line in visible)
        await settle(pilot)


async def test_what_is_out_of_sight_is_read_when_it_comes_into_sight(there):
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "end")
        await pilot.pause()
        visible = [line for line in seen.text(app).splitlines() if "-20231101-0000" in line]
        assert visible and all("400/1,000" in line for line in visible)
        await settle(pilot)
        assert not app.screen._runs.unread() and not app.screen._shelf.unread()


async def test_a_list_that_stands_still_costs_nothing_and_a_key_little(there):
    app = home(driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await settle(pilot)
        driver = app._driver
        driver.sent = 0
        for _ in range(3):
            app.tick()
            await pilot.pause()
        assert driver.sent == 0
        for key in ("down", "tab", "down"):
            driver.sent = 0
            await pilot.press(key)
            await pilot.pause()
            assert 0 < driver.sent <= 2048


def test_a_run_is_read_again_only_when_it_has_changed(there, monkeypatch):
    listed = RunList(places.runs_folder())
    listed.refresh([], fake_run.START)
    some = list(listed.runs)[:5]
    assert listed.read(some, fake_run.START) and not listed.read(some, fake_run.START)
    events_file = listed.runs[some[0]].events
    before = events_file.read_bytes()
    try:
        fake_run.add(listed.runs[some[0]], fake_run.step(401, at=fake_run.START))
        assert listed.read(some, fake_run.START)
        assert listed.summary(some[0]).step == 401
    finally:
        events_file.write_bytes(before)


def test_a_run_out_of_sight_that_is_started_again_is_found_within_a_few_looks(there):
    listed = RunList(places.runs_folder())
    listed.refresh([], fake_run.START)
    listed.read(list(listed.runs), fake_run.START)
    run = runs.RunDir(Path(list(listed.runs)[-1]))
    assert not listed.live()
    with fake_run.engine_alive(run):
        run.info.write_bytes(run.info.read_bytes() + b"\n")
        for _ in range(10):
            listed.refresh([], fake_run.START)
        assert listed.live() == [str(run.path)]


def test_the_end_of_a_long_file_says_as_much_as_all_of_it(tmp_path):
    run = fake_run.make(tmp_path, "dog-20231101-000000")
    at = fake_run.trained(run, 30, steps=500)
    fake_run.add(run, *[events.Micro(time=at, step=31, micro=n, loss=0.1, seconds=0.4) for n in range(300)])
    summary = runs.summary(run, now=at)
    assert (summary.step, summary.steps) == (30, 500) and summary.loss is not None


def test_a_namesake_elsewhere_does_not_take_the_last_run(own_place):
    """By the path that a run was begun with, where it says; what does not say is told by its name."""
    mine, theirs = places.profiles_folder() / "cat.toml", own_place / "elsewhere" / "cat.toml"
    for name, began in (("cat-20231111-101010", mine), ("cat-20231112-101010", theirs)):
        run = fake_run.make(places.runs_folder(), name)
        info = msgspec.structs.replace(rundir.read_info(run), profile_path=str(began))
        run.info.write_bytes(msgspec.json.encode(info))
    listed = RunList(places.runs_folder())
    listed.refresh((), fake_run.START)
    assert Path(listed.newest_of(mine)).name == "cat-20231111-101010"
    assert Path(listed.newest_of(theirs)).name == "cat-20231112-101010"
    assert listed.newest_of(own_place / "third" / "cat.toml") is None
    fake_run.make(places.runs_folder(), "cat-20231113-101010")
    listed.expect_change()
    listed.refresh((), fake_run.START)
    assert Path(listed.newest_of(mine)).name == "cat-20231113-101010"
