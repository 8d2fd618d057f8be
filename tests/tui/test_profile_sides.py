"""Which runs are a profile's own: by its name and by where it is."""

import json
import os
from pathlib import Path

import fake_run
import msgspec
import pytest
import seen
from forms import app, checked, opened, settle, write_profile

from aozora_tui.profile_file import ProfileFile
from aozora_tui.run_list import is_run_of, last_of
from aozora_tui.screens.profile_sides import run_values, sides
from engine.contract import places, profile, rundir


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def a_run(name, text, *, of=None):
    """What the engine leaves behind; `of` is the profile it was started with, None for a run of an older version."""
    run = fake_run.make(places.runs_folder(), name)
    run.profile.write_text(text)
    if of is not None:
        info = rundir.read_info(run)
        run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, profile_path=str(of))))
    return run


def run_sides(path):
    return [side.name for side in sides(ProfileFile.open(path))[2:]]


def test_a_run_of_a_namesake_elsewhere_is_not_taken_for_the_profiles_own(path, tmp_path):
    other = tmp_path / "elsewhere" / "mine.toml"
    other.parent.mkdir()
    other.write_text(path.read_text().replace("500", "999"))
    own = a_run("mine-20231114-221320", path.read_text(), of=path)
    theirs = a_run("mine-20231115-221320", other.read_text(), of=other)
    assert run_sides(path) == [f"the run {own.name}"] and run_sides(other) == [f"the run {theirs.name}"]
    assert run_values([theirs, own], path)["train.steps"] == 500
    assert run_values([theirs], path) == {}
    assert last_of(places.runs_folder(), path) == own


def test_a_run_that_does_not_say_where_its_profile_was_goes_by_the_name(path):
    run = a_run("mine-20231114-221320", path.read_text())
    assert "profile_path" not in json.loads(run.info.read_bytes()) or not rundir.read_info(run).profile_path
    assert is_run_of(run, path) and run_sides(path) == [f"the run {run.name}"]
    young = rundir.create(places.runs_folder(), "mine", now=1.8e9)  # its engine has not written anything yet
    assert is_run_of(young, path)


def test_another_way_to_the_same_file_is_the_same_profile(path, tmp_path):
    run = a_run("mine-20231114-221320", path.read_text(), of=path)
    (tmp_path / "link").symlink_to(path.parent)
    assert is_run_of(run, tmp_path / "link" / "mine.toml")
    assert is_run_of(run, path.parent / ".." / path.parent.name / path.name)


@pytest.mark.parametrize("stem", ["a-20250101-000000", "my profile!", "Größe", "..."])
def test_names_that_folders_cannot_have_or_that_look_like_a_runs_are_found(path, stem):
    profile = path.with_name(f"{stem}.toml")
    run = rundir.create(places.runs_folder(), profile.stem, now=1.7e9)
    assert is_run_of(run, profile) and not is_run_of(run, path)


def test_a_run_called_like_the_profile_alone_is_not_its_own(path):
    """A folder that somebody named by hand."""
    assert not is_run_of(fake_run.make(places.runs_folder(), "mine"), path)


async def test_the_form_says_what_its_own_run_has_and_not_what_a_namesakes_has(path, tmp_path):
    settings = profile.dump(profile.resolved(profile.load(path), path.parent))
    run = a_run("mine-20231114-221320", settings.replace("steps = 500", "steps = 999"), of=tmp_path / "x" / "mine.toml")
    with fake_run.engine_alive(run):
        async with app().run_test(size=(120, 40)) as pilot:
            screen = await opened(pilot, path, "train.steps")
            await checked(pilot, screen)
            assert "999" not in seen.text(pilot.app)
            a_run(run.name, run.profile.read_text(), of=path)
            await checked(pilot, screen)
            await settle(pilot)
            assert "999" in seen.text(pilot.app)


def test_a_profile_of_another_kind_of_text_can_be_compared_with(path, tmp_path):
    from aozora_tui.screens.profile_sides import read_side

    other = tmp_path / "bom.toml"
    other.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_side(other).text == path.read_text()
    with pytest.raises(ValueError, match=r"none\.toml cannot be read"):
        read_side(tmp_path / "none.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ValueError, match=r"pipe\.toml cannot be read"):
        read_side(Path(tmp_path / "pipe.toml"))
