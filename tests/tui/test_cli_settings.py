"""`aozora-tui settings` and `schema`, and what the settings file does to every other command."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aozora_tui import cli
from aozora_tui.profile_file import ProfileFile
from engine.contract import places, schema

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Commands leave word in the environment; it goes with the test."""
    for name in ("TEXTUAL_THEME", "TEXTUAL_FPS", "AOZORA_TICK", "AOZORA_MOUSE", "AOZORA_SLOW_LINK", "VISUAL", "EDITOR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def write(text):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_settings_says_the_file_the_values_and_where_they_come_from(capsys):
    file = write("[look]\ntick = 3\n")
    assert cli.main(["settings", "--no-mouse"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(file)
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert rows["look.tick"] == ["3", "s", "file"]
    assert rows["look.mouse"] == ["off", "--no-mouse"]
    assert rows["look.theme"] == ["aozora", "default"]
    assert rows["folders.runs"] == [os.environ["AOZORA_RUNS"], "AOZORA_RUNS"]


def test_settings_without_a_file_says_how_to_make_one(capsys):
    assert cli.main(["settings"]) == 0
    assert "there is none yet: `aozora-tui settings --edit` makes it" in capsys.readouterr().out


def test_settings_in_json_is_one_document(capsys):
    file = write('[look]\ntick = 3\nglyphs = "asci"\n[keys]\n"run.log" = "F4"\n')
    assert cli.main(["settings", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["exists"]) == (str(file), True)
    assert said["settings"]["look.tick"] == {"value": 3.0, "from": "file"}
    assert said["settings"]["keys.run.log"] == {"value": "f4", "from": "file"}
    assert [problem["path"] for problem in said["problems"]] == ["settings.toml: look.glyphs"]


def test_mistakes_are_sentences_and_the_exit_code_is_2(capsys):
    write('[look]\nglyphs = "asci"\n[keys]\n"run.stop" = "q"\n')
    assert cli.main(["settings"]) == 2
    said = capsys.readouterr().out
    assert 'error: settings.toml: look.glyphs: "asci" is not one of' in said
    assert 'error: settings.toml: keys."run.stop": "q" is the key of `app.quit` there' in said


def test_the_example_is_a_file_that_sets_nothing(capsys):
    assert cli.main(["settings", "--example"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text) == {"look": {}, "folders": {}, "notify": {}, "keys": {}}
    write(text)
    assert cli.main(["settings"]) == 0


def test_edit_makes_the_file_opens_it_and_says_what_is_wrong_with_it(capsys, monkeypatch, tmp_path):
    editor = tmp_path / "editor.py"
    editor.write_text("import sys; open(sys.argv[1], 'a').write('[look2]\\nx = 1\\n')")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    assert cli.main(["settings", "--edit"]) == 2
    assert capsys.readouterr().err == "error: settings.toml: look2: there is no such setting. Did you mean `look`?\n"
    assert (places.config_folder() / "settings.toml").read_text().startswith("# Settings of Aozora TUI.")


@pytest.mark.parametrize(
    ("editor", "said"), [("", "no editor is set: `export EDITOR=nano`"), ("/no/such/editor", "could not be started")]
)
def test_edit_without_an_editor_says_what_to_do(capsys, monkeypatch, editor, said):
    monkeypatch.setenv("EDITOR", editor)
    assert cli.main(["settings", "--edit"]) == 2
    assert said in capsys.readouterr().err


def test_folders_of_the_file_hold_for_every_command(capsys, monkeypatch, tmp_path):
    for name in ("DATA", "RUNS", "PROFILES", "CACHE"):
        monkeypatch.setenv(f"AOZORA_{name}", "")
    write(f'[folders]\nruns = "{tmp_path}/other runs"\n')
    assert cli.main(["runs"]) == 0
    assert f"there are no runs in {tmp_path}/other runs" in capsys.readouterr().out
    assert os.environ["AOZORA_RUNS"] == f"{tmp_path}/other runs"  # an engine that is started finds it there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[look]\ntick = 99\n",
            "settings.toml: look.tick: 99 is not a number from 0.5 to 10. The most allowed is 10.\n",
        ),
        ("a = 1\nb = 2\n", "2 settings are wrong and left out: `aozora-tui settings` shows them\n"),
        ('[keys]\n"run.log" = "f4,ctrl+b"\n', ""),
        ("", ""),
    ],
)
def test_a_command_tells_of_mistakes_on_stderr_and_goes_on(capsys, text, said):
    write(text)
    assert cli.main(["runs", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ([], said)


def test_the_doctor_names_every_mistake(capsys):
    write('[look]\ntick = 99\n[keys]\n"run.log" = "f4,ctrl+b"\n')
    assert cli.main(["doctor", "--json"]) == 1
    found = [one for one in json.loads(capsys.readouterr().out) if one["topic"] == "settings"]
    assert [one["level"] for one in found] == ["wrong", "note"]
    assert found[0]["remedy"] == "The most allowed is 10." and "tmux takes it" in found[1]["text"]
    write("")
    cli.main(["doctor", "--json"])
    found = [one for one in json.loads(capsys.readouterr().out) if one["topic"] == "settings"]
    assert [one["level"] for one in found] == ["ok"]


def test_settings_are_read_before_textual_is():
    """Textual looks at its variables once, when it is imported."""
    write('[look]\ntheme = "nord"\nslow_link = true\n')
    code = """
import sys
from aozora_tui import cli, commands
import aozora_tui.settings_reading, aozora_tui.settings_report
assert "textual" not in sys.modules
def app(context):
    assert "textual" not in sys.modules
    from textual import constants
    print(constants.DEFAULT_THEME, constants.MAX_FPS, context.settings.tick)
    return 0
commands.app = app
sys.exit(cli.main([]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("nord 5 2.0\n", "")


def test_a_command_without_a_settings_file_imports_nothing_for_it():
    code = """
import sys
from aozora_tui import cli
cli.main(["runs"])
print([name for name in sys.modules if name.startswith("aozora_tui.settings_") or name in ("tomllib", "textual")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "['aozora_tui.settings_environment']", done.stderr


# -- the schema --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [(), ("--json",)])
def test_schema_prints_the_profiles_schema(capsys, switches):
    assert cli.main(["schema", *switches]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(schema.text())


def test_schema_is_written_to_a_file(capsys, tmp_path):
    target = tmp_path / "new" / "schema.json"
    assert cli.main(["schema", "--output", str(target)]) == 0
    assert (target.read_text(), capsys.readouterr().out) == (schema.text(), "")


def test_schema_that_cannot_be_written_says_why(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert cli.main(["schema", "--output", str(tmp_path / "file" / "schema.json")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_copy_of_a_recipe_names_a_schema_that_exists():
    copy = ProfileFile.open(places.shipped_profiles_folder() / "demo.toml")
    copy.save_as(places.profiles_folder() / "mine.toml")
    first = copy.path.read_text().split("\n")[0]
    named = copy.path.parent / first.removeprefix("#:schema ")
    assert json.loads(named.read_text()) == json.loads(schema.text())
