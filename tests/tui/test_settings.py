"""The settings file and what stands beside it: which counts, and what is said about mistakes."""

import os
from pathlib import Path

import msgspec
import pytest
from textual.theme import BUILTIN_THEMES

from aozora_tui import settings, settings_report
from aozora_tui.settings_fields import Folders, Look, Theme
from engine.contract import places


def write(text):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def read(text="", switches=None, **environment):
    if text:
        write(text)
    return settings.read(environment, switches).with_keys()


def sentences(found):
    return [str(problem) for problem in found.problems]


def test_without_a_file_everything_is_the_default_and_nothing_is_wrong():
    found = read()
    assert (found.look, found.folders, found.own_keys, found.problems) == (Look(), Folders(), {}, ())
    assert found.file == places.config_folder() / "settings.toml"


def test_the_file_is_where_aozora_config_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AOZORA_CONFIG", str(tmp_path / "elsewhere"))
    assert settings.read({}).file == tmp_path / "elsewhere" / "settings.toml"


def test_every_setting_is_read(tmp_path):
    found = read(
        f"""
[look]
theme = "nord"
glyphs = "ascii"
tick = 3
slow_link = true
mouse = false
[folders]
runs = "{tmp_path}/r"
profiles = "~/p"
cache = "{tmp_path}/c"
data = "{tmp_path}/d"
[keys]
"profile.save" = "f2,ctrl+x"
"""
    )
    assert found.problems == ()
    assert found.look == Look(theme="nord", glyphs="ascii", tick=3.0, slow_link=True, mouse=False)
    folders = Folders(
        runs=f"{tmp_path}/r", profiles=str(Path.home() / "p"), cache=f"{tmp_path}/c", data=f"{tmp_path}/d"
    )
    assert found.folders == folders
    assert found.own_keys == {"profile.save": "f2,ctrl+x"}


def test_the_command_line_counts_before_the_environment_and_that_before_the_file():
    text = '[look]\nglyphs = "unicode"\ntick = 4\nmouse = true\ntheme = "nord"\n'
    environment = {"AOZORA_ASCII": "0", "AOZORA_TICK": "5", "TEXTUAL_THEME": "dracula"}
    found = read(text, {"look.glyphs": "ascii", "look.mouse": False}, **environment)
    assert found.look == Look(theme="dracula", glyphs="ascii", tick=5.0, mouse=False)
    sources = {name: found.source(f"look.{name}") for name in Look.__struct_fields__}
    assert sources == {
        "theme": "TEXTUAL_THEME",
        "glyphs": "--ascii",
        "tick": "AOZORA_TICK",
        "slow_link": "default",
        "mouse": "--no-mouse",
    }
    assert read(text).source("look.theme") == "file"


def test_a_slow_link_ticks_slower_unless_a_tick_was_named():
    assert read().tick == 1.0
    assert read(switches={"look.slow_link": True}).tick == 2.0
    assert read("[look]\ntick = 1\nslow_link = true\n").tick == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[look]\ntheme = "norrd"', 'settings.toml: look.theme: "norrd" is no theme. Did you mean "nord"?'),
        (
            '[look]\nglyphs = "asci"',
            'look.glyphs: "asci" is not one of "auto", "unicode", "ascii". Did you mean "ascii"?',
        ),
        ("[look]\ntick = 0.4", "look.tick: 0.4 is not a number from 0.5 to 10. The least allowed is 0.5."),
        ("[look]\ntick = 11", "look.tick: 11 is not a number from 0.5 to 10. The most allowed is 10."),
        ('[look]\nslow_link = "true"', 'look.slow_link: "true" is not true or false. Remove the quotes.'),
        ("[look]\nmause = false", "look.mause: there is no such setting. Did you mean `mouse`?"),
        ("[lok]\nmouse = false", "settings.toml: lok: there is no such setting. Did you mean `look`?"),
        ("mouse = false", "settings.toml: mouse: there is no such setting. It belongs under [look]."),
        ("look = 3", "settings.toml: look: a table is expected, not 3. Write it as [look]."),
        ('[folders]\nruns = "runs"', 'folders.runs: "runs" starts nowhere. Write the whole path, or one from ~.'),
        ('[folders]\nruns = "~nobody-here/x"', "there is nobody here called nobody-here. Write the whole path."),
        ('[keys]\n"profile.sav" = "f2"', 'keys."profile.sav": there is no such command. Did you mean `profile.save`?'),
        ('[keys]\n"profile.save" = 2', 'keys."profile.save": 2 is not text. Write the keys in quotes'),
        ('[keys]\n"profile.save" = ["f2"]', "a list is not text. Write the keys in quotes, commas between them"),
        ("[look]\ntick = ", "settings.toml: is not valid TOML: "),
        ("[look]\ntick = 2\ntick = 3", "settings.toml: is not valid TOML: "),
        ('"\\"" = 1\n"a.b" = 2', "there is no such setting"),
        ("x = " + "[" * 5000 + "]" * 5000, "is not valid TOML: it is nested too deeply"),
        ("#" + "x" * (1 << 20), "is far too large for settings"),
    ],
)
def test_each_mistake_is_a_sentence_with_file_key_and_remedy_and_the_default_holds(text, said):
    found = read(text)
    assert any(said in sentence for sentence in sentences(found)), sentences(found)
    assert all(sentence.startswith("settings.toml: ") for sentence in sentences(found))
    assert (found.look, found.folders, found.own_keys) == (Look(), Folders(), {})


def test_a_mistake_takes_no_other_setting_with_it():
    found = read('[look]\ntick = 99\nmouse = false\n[folders]\nrun = "/r"\ncache = "/c"\n[keys]\n"run.log" = "f4"\n')
    assert len(found.problems) == 2
    assert (found.look.tick, found.look.mouse, found.folders.cache) == (1.0, False, "/c")
    assert found.own_keys == {"run.log": "f4"}


@pytest.mark.parametrize("make", [lambda file: file.mkdir(), lambda file: file.write_bytes(b"\xff\xfe\x00"), None])
def test_a_file_that_cannot_be_read_is_told_not_raised(make):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True)
    if make is None:
        file.symlink_to(file)  # to itself
    else:
        make(file)
    found = settings.read({})
    assert len(found.problems) == 1 and str(found.problems[0]).startswith("settings.toml: ")
    assert found.look == Look()


def test_a_notepads_mark_and_its_line_ends_do_no_harm():
    file = write("")
    file.write_bytes(b"\xef\xbb\xbf[look]\r\nmouse = false\r\n")
    assert settings.read({}).look == Look(mouse=False)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("AOZORA_TICK", "2x", 'AOZORA_TICK: "2x" is not a number from 0.5 to 10. The default is 1.0.'),
        ("AOZORA_TICK", "nan", "AOZORA_TICK: nan is not a number"),
        ("TEXTUAL_THEME", "nort", 'TEXTUAL_THEME: "nort" is no theme. Did you mean "nord"?'),
        ("AOZORA_RUNS", "~nobody-here", "AOZORA_RUNS: there is nobody here called nobody-here."),
    ],
)
def test_a_wrong_variable_is_told_and_the_file_counts(variable, text, said):
    name = next(name for name, one in settings.VARIABLES.items() if one == variable)
    part, key = name.split(".")
    value = {"look.tick": "7", "look.theme": '"dracula"', "folders.runs": '"/r"'}[name]
    found = read(f"[{part}]\n{key} = {value}\n", **{variable: text})
    assert [sentence for sentence in sentences(found) if said in sentence]
    assert found.source(name) == "file"
    environment = {variable: text}
    settings.apply(found, environment)
    assert variable == "AOZORA_TICK" or environment[variable] == found.values[name].value  # others read these


def test_relative_folders_of_the_environment_start_where_the_person_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(AOZORA_RUNS="near").folders.runs == str(tmp_path / "near")


def test_what_is_set_is_left_in_the_environment_for_textual_and_for_engines():
    environment = {}
    text = '[look]\ntheme = "nord"\nglyphs = "ascii"\nslow_link = true\n[folders]\nruns = "/r"\n'
    settings.apply(read(text), environment)
    left = {"AOZORA_RUNS": "/r", "TEXTUAL_THEME": "nord", "AOZORA_ASCII": "1", "TEXTUAL_FPS": "5"}
    assert environment == left
    settings.apply(read(text, TEXTUAL_FPS="30"), kept := {"TEXTUAL_FPS": "30"})
    assert kept["TEXTUAL_FPS"] == "30"


def test_defaults_leave_the_environment_alone():
    environment = {"HOME": "/h"}
    write("[look]\ntick = 2\n")
    settings.apply(settings.read(environment), environment)
    assert environment == {"HOME": "/h"}


@pytest.mark.parametrize(("theme", "left"), [("nord", "ansi-dark"), ("ansi-light", "ansi-light"), (None, "ansi-dark")])
def test_no_color_leaves_no_colour_not_even_greys(theme, left):
    found = read(f'[look]\ntheme = "{theme}"\n' if theme else "", NO_COLOR="1")
    settings.apply(found, environment := {"NO_COLOR": "1"})
    assert environment["TEXTUAL_THEME"] == left


def test_our_own_theme_is_not_asked_of_textual_which_does_not_know_it():
    settings.apply(read(TEXTUAL_THEME="aozora"), environment := {"TEXTUAL_THEME": "aozora"})
    assert "TEXTUAL_THEME" not in environment


def test_the_themes_are_those_of_textual_and_our_own():
    assert set(msgspec.json.schema(Theme)["enum"]) == {"aozora", *BUILTIN_THEMES}


def test_the_example_says_the_defaults_and_every_line_of_it_may_be_uncommented():
    from aozora_tui.keymap import SCOPES

    text = settings_report.example()
    assert read(text).problems == ()
    lines = [line.removeprefix("#") if line.startswith("#") and line[1] != " " else line for line in text.split("\n")]
    found = read("\n".join(lines))
    assert (found.look, found.folders, sentences(found)) == (Look(), Folders(), [])
    assert found.own_keys == {key.id: key.keys for keys in SCOPES.values() for key in keys}


def test_the_file_is_read_again_beside_the_environment_of_the_start():
    environment = {"AOZORA_TICK": "5"}
    found = settings.read(environment, {"look.mouse": False})
    settings.apply(found, environment)
    write('[look]\ntick = 9\nmouse = true\n[folders]\nruns = "/r"\n')
    again = found.read_again()
    assert (again.look.tick, again.look.mouse, again.source("folders.runs")) == (5.0, False, "file")


def test_a_report_says_what_holds_and_where_it_comes_from():
    found = read('[look]\nslow_link = true\n[keys]\n"run.log" = "f4,full_stop"\n', TEXTUAL_THEME="nord")
    said = settings_report.lines(found)
    assert said[0] == str(found.file)
    assert any(line.startswith("look.tick") and " 2 s " in line and line.endswith("look.slow_link") for line in said)
    assert any(line.startswith("keys.run.log") and " F4, . " in line and line.endswith("file") for line in said)
    assert any(line.startswith("look.theme") and line.endswith("TEXTUAL_THEME") for line in said)
    assert any(line.startswith("folders.runs") and os.environ["AOZORA_RUNS"] in line for line in said)
