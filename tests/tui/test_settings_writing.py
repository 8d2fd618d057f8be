"""A setting that the app writes: the person's own file comes out with that one thing changed."""

import os
import stat

import pytest
import seen
from textual.command import CommandPalette

from aozora_tui import settings, settings_report
from aozora_tui.app import AozoraApp
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.themes import ThemePalette
from aozora_tui.settings_writing import keep_theme, write
from engine.contract import places


def file_with(text):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[look]\ntheme = "nord"\n'),
        ("# mine\n", '# mine\n\n[look]\ntheme = "nord"\n'),
        ("[keys]\n'run.log' = 'f4'", "[keys]\n'run.log' = 'f4'\n\n[look]\ntheme = \"nord\"\n"),
        ("[look]  # colours\ntheme = 'dracula'   # dark\n", "[look]  # colours\ntheme = 'nord'   # dark\n"),
        ("[look]\ntheme = 3\n", '[look]\ntheme = "nord"\n'),
        ("[look]\ntick=2 # slow\n\n# keys\n[keys]\n", '[look]\ntick=2 # slow\ntheme = "nord"\n\n# keys\n[keys]\n'),
        ('[look]\n# a\n#theme = "aozora"\n#tick = 1\n', '[look]\n# a\n#theme = "aozora"\ntheme = "nord"\n#tick = 1\n'),
        ("look.tick = 2  # t\n[keys]\n", 'look.tick = 2  # t\nlook.theme = "nord"\n[keys]\n'),
        ("look = {tick = 2}  # t\n", 'look = {tick = 2, theme = "nord"}  # t\n'),
        ("[look.deep]\na = 1\n[keys]\n", '[look]\ntheme = "nord"\n\n[look.deep]\na = 1\n[keys]\n'),
        ("[look]\r\ntick = 2\r\n[keys]\r\n", '[look]\r\ntick = 2\r\ntheme = "nord"\r\n[keys]\r\n'),
        ("\ufeff[look]\n", '\ufeff[look]\ntheme = "nord"\n'),
        ("[look]\nx = '''\n[look]\n'''\n", "[look]\nx = '''\n[look]\n'''\ntheme = \"nord\"\n"),
    ],
)
def test_one_line_changes_and_all_else_stays_to_the_letter(before, after):
    file = file_with(before)
    write(file, "look", "theme", "nord")
    assert file.read_bytes().decode().replace("{tick = 2,theme", "{tick = 2, theme") == after
    assert settings.read({}).look.theme == "nord"


def test_without_a_file_it_is_made_with_everything_explained_and_nothing_else_set():
    kept = keep_theme(settings.read({}), "nord")
    file = places.config_folder() / "settings.toml"
    added = [line for line in file.read_text().splitlines() if line not in settings_report.example().splitlines()]
    assert added == ['theme = "nord"'] and kept.said == "nord is kept in settings.toml"
    assert (kept.settings.look.theme, kept.settings.source("look.theme")) == ("nord", "file")
    lines = file.read_text().splitlines()
    assert lines[lines.index('theme = "nord"') - 1] == '#theme = "aozora"'


def test_a_default_is_written_only_over_something_else():
    keep_theme(settings.read({}), "aozora")
    assert not places.config_folder().exists()
    file = file_with("[look]\ntick = 2\n")
    keep_theme(settings.read({}), "aozora")
    assert file.read_text() == "[look]\ntick = 2\n"
    file.write_text('[look]\ntheme = "nord" # n\n')
    assert keep_theme(settings.read({}), "aozora").settings.look.theme == "aozora"
    assert file.read_text() == '[look]\ntheme = "aozora" # n\n'


def test_what_holds_already_is_not_written_again():
    file = file_with('[look]\ntheme = "nord"\n')
    file.chmod(0o444)
    before = file.stat()
    write(file, "look", "theme", "nord")
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_ino == before.st_ino


@pytest.mark.parametrize("variables", [{"TEXTUAL_THEME": "dracula"}, {"NO_COLOR": "1"}])
def test_what_counts_before_the_file_is_named(variables):
    kept = keep_theme(settings.read(variables), "nord")
    assert kept.said == f"nord until the app is closed: {next(iter(variables))} counts before settings.toml"
    assert 'theme = "nord"' in (places.config_folder() / "settings.toml").read_text()
    assert keep_theme(settings.read({"NO_COLOR": "1"}), "ansi-light").said == "ansi-light is kept in settings.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[look\n", "settings.toml is not valid TOML: .*; correct that first"),
        ("look = 3\n", r"settings.toml: look is no table: write it as \[look\]"),
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
)
def test_a_file_that_is_wrong_is_left_as_it_is_and_said(text, said):
    file = file_with(text)
    with pytest.raises(ValueError, match=said):
        write(file, "look", "theme", "nord")
    assert file.read_text() == text


def test_bytes_that_are_no_text_are_left_as_they_are():
    file = file_with("")
    file.write_bytes(b"[look]\n# \xff\n")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        write(file, "look", "theme", "nord")
    assert file.read_bytes() == b"[look]\n# \xff\n"


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(tmp_path):
    real = tmp_path / "dotfiles" / "settings.toml"
    real.parent.mkdir()
    real.write_text("[look]\n")
    real.chmod(0o600)
    link = places.config_folder() / "settings.toml"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    write(link, "look", "theme", "nord")
    assert link.is_symlink() and real.read_text() == '[look]\ntheme = "nord"\n'
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert [path.name for path in real.parent.iterdir()] == ["settings.toml"]


def app_of(**variables):
    return AozoraApp(settings=settings.read({**os.environ, **variables}).with_keys(), ticking=False)


async def choose(pilot, theme):
    pilot.app.push_screen(ThemePalette())
    await pilot.pause()
    assert isinstance(pilot.app.screen, CommandPalette)
    await pilot.press(*theme)
    await seen.work_done(pilot.app)
    await pilot.pause()
    await pilot.press("down", "enter")
    await pilot.pause()
    await pilot.pause()
    assert isinstance(pilot.app.screen, HomeScreen)


async def test_a_theme_from_the_list_holds_at_once_and_at_the_next_start():
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await choose(pilot, "gruvbox")
        assert app.theme == "gruvbox" and "gruvbox is kept in settings.toml" in seen.text(app)
        await pilot.press("9")
        assert "look.theme gruvbox file" in seen.words(app)
    assert settings.read({}).look.theme == "gruvbox"


async def test_a_theme_that_cannot_be_kept_holds_all_the_same_and_why_is_said():
    file = file_with("[look\n")
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await choose(pilot, "gruvbox")
        assert app.theme == "gruvbox"
        assert "! gruvbox is not kept: settings.toml is not valid TOML" in seen.text(app)
    assert file.read_text() == "[look\n"


async def test_a_disk_that_refuses_is_said():
    places.config_folder().write_text("a file where the folder should be")
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await choose(pilot, "gruvbox")
        assert app.theme == "gruvbox" and "! gruvbox is not kept: " in seen.text(app)
