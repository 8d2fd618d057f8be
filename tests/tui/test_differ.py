"""What a profile differs in, and the other side's values taken over."""

import fake_run
import pytest
import seen
from forms import app, opened, row, settle, write_profile

from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.differ import DifferScreen
from aozora_tui.screens.profile_sides import Side, unlike
from engine.contract import places, profile


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def a_run_of(path, **changed):
    """As the engine leaves it: every setting written out, every path absolute."""
    run = fake_run.make(places.runs_folder(), "mine-20231114-221320")
    settings = profile.resolved(profile.load(path), path.parent)
    file = ProfileFile(run.profile, profile.dump(settings), None)
    file.update({name.replace("__", "."): value for name, value in changed.items()})
    run.profile.write_text(file.text)
    return run


def test_paths_that_lead_to_the_same_place_and_written_defaults_are_no_difference(path, tmp_path):
    text = path.read_text().replace(str(tmp_path / "models"), "../models")
    path.write_text(text)
    run = a_run_of(path, train__steps=400)
    file = ProfileFile.open(path)
    found = unlike(file, Side("the run", run.profile.read_text(), run.path))
    assert [(each.field.path, each.here, each.there) for each in found] == [("train.steps", 500, 400)]


def test_relative_paths_of_another_folder_are_carried_over(path, tmp_path):
    other = tmp_path / "other" / "theirs.toml"
    text = '[model]\nbase = "x.safetensors"\n[[data.folders]]\npath = "pics"\n'
    file = ProfileFile.open(path)
    found = {each.field.path: each.written for each in unlike(file, Side("theirs", text, other.parent))}
    assert found["model.base"] == str(other.parent / "x.safetensors")
    assert found["data.folders"] == [{"repeats": 1, "path": str(other.parent / "pics")}]
    assert found["train.steps"] is None


async def differ(pilot):
    await pilot.press("escape", "v")
    await seen.work_done(pilot.app)
    await settle(pilot)
    assert isinstance(pilot.app.screen, DifferScreen)
    return pilot.app.screen


async def test_tab_goes_round_the_sides_and_each_says_what_differs(path):
    a_run_of(path, train__steps=400, train__seed=7)
    async with app().run_test(size=(120, 40)) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("7")
        screen = await differ(pilot)
        assert "1 difference from the saved file" in seen.text(pilot.app)
        assert [line.key for line in screen.rows.lines] == ["train.steps"]
        await pilot.press("tab")
        assert "2 differences from the run mine-20231114-221320" in seen.text(pilot.app)
        assert [line.key for line in screen.rows.lines] == ["train.steps", "train.seed"]
        await pilot.press("tab")
        assert "from the defaults" in seen.text(pilot.app)
        await pilot.press("shift+tab", "shift+tab")
        assert "from the saved file" in seen.text(pilot.app)


async def test_x_takes_the_other_value_as_one_change_and_enter_goes_to_the_field(path):
    a_run_of(path, train__steps=400, train__seed=7)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await differ(pilot)
        await pilot.press("x")
        assert screen.file.get("train.steps") == 400
        await pilot.press("x")
        assert screen.file.get("train.seed") == 7
        assert "0 differences" in seen.text(pilot.app)
        await pilot.press("u")
        assert screen.file.get("train.seed") is None and screen.file.get("train.steps") == 400
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is screen and row(screen, "train.seed").editor.has_focus
        assert row(screen, "train.steps").editor.value == "400"
        await pilot.press("f7")
        assert screen.file.get("train.steps") == 500


async def test_the_default_is_taken_by_taking_the_key_out_but_not_where_there_is_none(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        found = await differ(pilot)
        await pilot.press("tab")
        assert "from the defaults" in seen.text(pilot.app)
        found.rows.select("train.steps")
        await pilot.press("x")
        assert "steps" not in screen.file.text
        found.rows.select("model.base")
        await pilot.press("x")
        assert "has no default" in seen.text(pilot.app) and screen.file.get("model.base")


async def test_another_profile_is_chosen_by_typing_and_no_letter_is_a_command(path):
    other = path.parent / "quick-quiet.toml"
    other.write_text(path.read_text().replace("500", "900"))
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        found = await differ(pilot)
        await pilot.press("p")
        await settle(pilot)
        said = seen.text(pilot.app)
        assert "quick-quiet" in said and "whole-unet" in said and "recipe" in said and "another file" in said
        await pilot.press("q", "u", "i", "c", "k")
        await settle(pilot)
        assert "whole-unet" not in seen.text(pilot.app)
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is found and "1 difference from the profile quick-quiet" in seen.text(pilot.app)


async def test_a_recipe_is_compared_with(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        found = await differ(pilot)
        await pilot.press("p", *"whole", "enter")
        await settle(pilot)
        assert pilot.app.screen is found and "from the recipe whole-unet" in seen.text(pilot.app)


@pytest.mark.parametrize("text", ['[project]\nname = "x"\n[tool.ruff]\nline-length = 1\n', "[tra", "", "a = 1\n"])
async def test_what_is_no_profile_is_refused_in_a_sentence(path, text, tmp_path):
    (path.parent / "other.toml").write_text(text)
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        found = await differ(pilot)
        before = seen.text(pilot.app).splitlines()[0]
        await pilot.press("p", *"other", "enter")
        await settle(pilot)
        assert pilot.app.screen is found and seen.text(pilot.app).splitlines()[0] == before
        said = seen.words(pilot.app)
        assert "other.toml is no profile" in said or "other.toml cannot be read" in said


async def test_another_profile_is_chosen_from_the_disk(path):
    other = path.parent / "other.toml"
    other.write_text(path.read_text().replace("500", "900"))
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        found = await differ(pilot)
        await pilot.press("p", "end", "pagedown", "pagedown", "enter")
        await seen.work_done(pilot.app)
        await settle(pilot)
        pilot.app.screen.rows.select("other.toml")
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is found and "1 difference from the profile other" in seen.text(pilot.app)
