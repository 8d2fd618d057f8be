"""Editing TOML without disturbing what the person wrote."""

import tomllib

import pytest

from aozora_tui.profile_file import ChangedOnDiskError, ProfileFile, free_path, number
from aozora_tui.toml_edit import spelt

TEXT = """\
# my profile, third try
[model]   # the base
base = '/a b/c.safetensors'  # literal quotes
precision = "bf16"

[data]
resolution = 1_024 # px

[[data.folders]]
path = "/x"   # first
repeats = 2

# about y
[[data.folders]]
path = "/y"

[train]
steps=100   # tight

[preview]
prompts = [
  "a cat", # the cat
  "a dog",
]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return ProfileFile.open(path)


def test_changing_values_leaves_every_other_letter_alone(file):
    file.set("train.steps", 250)
    file.set("model.base", "/new.safetensors")
    file.set("data.resolution", 768)
    expected = TEXT.replace("steps=100 ", "steps=250 ").replace("/a b/c.s", "/new.s").replace("1_024", "768")
    assert file.text == expected


def test_a_new_key_goes_into_its_section_and_a_new_section_to_the_end(file):
    file.set("train.batch_size", 4)
    file.set("optimizer.learning_rate", 1e-6)
    expected = TEXT.replace("# tight\n", "# tight\nbatch_size = 4\n") + "\n[optimizer]\nlearning_rate = 1e-6\n"
    assert file.text.rstrip() == expected.rstrip()


def test_taking_a_key_out_leaves_the_default(file):
    file.set("data.resolution", None)
    assert file.get("data.resolution") is None
    assert file.text == TEXT.replace("resolution = 1_024 # px\n", "")


def test_lists_change_only_where_they_differ(file):
    file.set("preview.prompts", ["a cat", "a dog", "a bird"])
    assert '  "a cat", # the cat\n  "a dog",\n  "a bird",\n' in file.text
    file.set("data.folders", [{"path": "/x", "repeats": 3}, {"path": "/y"}, {"path": "/z"}])
    expected = 'path = "/x"   # first\nrepeats = 3\n\n# about y\n[[data.folders]]\npath = "/y"\n\n'
    assert expected + '[[data.folders]]\npath = "/z"\n\n[train]' in file.text


def test_a_folder_can_be_removed(file):
    file.set("data.folders", [{"path": "/y"}])
    assert tomllib.loads(file.text)["data"]["folders"] == [{"path": "/y"}]
    assert "steps=100   # tight" in file.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train.steps = 5\n[model]\nbase = 'x'\n",
        "train = {steps = 4}\n",
        "[train]\nsteps = 3",
        "[data]\nresolution = 1\n[train]\nsteps = 3\n[[data.folders]]\npath = '/q'\n",
        "[data]\nfolders = [{path = '/a'}, {path = '/b', repeats = 3}] # in\n[train]\nsteps = 1\n",
    ],
    ids=["empty", "dotted keys", "inline table", "no last newline", "out of order", "inline folders"],
)
def test_every_way_of_writing_a_section_can_be_edited(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    file = ProfileFile.open(path)
    folders = [{"path": "/c"}, {"path": "/b", "repeats": 4}, {"path": "/d"}]
    file.update({"train.steps": 7, "train.seed": 9, "model.base": "y", "data.folders": folders, "data.resolution": 512})
    file.save()
    assert tomllib.loads(path.read_text()) == {
        "train": {"steps": 7, "seed": 9},
        "model": {"base": "y"},
        "data": {"folders": folders, "resolution": 512},
    }


def test_what_is_not_a_number_is_kept_as_it_was_typed(file):
    file.set("train.steps", number("12x"))
    assert 'steps="12x"   # tight' in file.text
    assert [number("12"), number(" 1e-6 "), number("-.5"), number("x")] == [12, 1e-6, -0.5, "x"]


@pytest.mark.parametrize(("value", "text"), [(1e-6, "1e-6"), (2.5e20, "2.5e20"), (0.1, "0.1"), (1.0, "1.0")])
def test_floats_are_spelt_short_and_read_back_the_same(value, text):
    assert spelt(value) == text
    assert tomllib.loads(f"x = {spelt(value)}")["x"] == value


def test_undo_goes_back_field_by_field_to_the_beginning(file):
    for typed in (2, 25, 250):
        file.set("train.steps", typed)
    file.set("model.precision", "fp32")
    assert file.undo() == "model.precision"
    assert file.get("train.steps") == 250
    assert file.undo() == "train.steps"
    assert file.text == TEXT and not file.modified
    assert file.undo() is None


def test_the_same_value_is_no_change(file):
    file.set("train.steps", 100)
    file.set("preview.prompts", ["a cat", "a dog"])
    assert not file.modified and file.undo() is None


def test_saving_keeps_mode_and_line_ends(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    file = ProfileFile.open(path)
    file.set("train.steps", 7)
    file.save()
    assert path.read_bytes() == TEXT.replace("=100", "=7").replace("\n", "\r\n").encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["mine.toml"]


def test_another_writers_change_is_not_overwritten_silently(file):
    file.path.write_text(TEXT + "# theirs\n")
    file.set("train.steps", 7)
    with pytest.raises(ChangedOnDiskError, match="another program"):
        file.save()
    assert file.path.read_text().endswith("# theirs\n")
    file.save(overwrite=True)
    assert file.path.read_text() == file.text and not file.modified


def test_a_file_that_is_no_toml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[model]\nbase = \n")
    with pytest.raises(ValueError, match="line 2"):
        ProfileFile.open(path)


def test_copies_never_take_a_name_that_exists(file, tmp_path):
    (tmp_path / "a.toml").touch()
    assert free_path(tmp_path, "b").name == "b.toml"
    assert free_path(tmp_path, "a").name == "a-2.toml"
    (tmp_path / "a-2.toml").touch()
    assert free_path(tmp_path, "a-2").name == "a-3.toml"
    with pytest.raises(FileExistsError):
        file.save_as(tmp_path / "a.toml")


RATES = """\
[optimizer]
beta1 = 0.8 # b

[optimizer.rates] # by layer
# the middle
"mid_block.*" = 5e-1 # half
attn2 = 2.0

[train]
steps = 3
"""


def rates(tmp_path, text):
    path = tmp_path / "rates.toml"
    path.write_text(text)
    return ProfileFile.open(path)


def test_a_table_changes_only_where_it_differs(tmp_path):
    file = rates(tmp_path, RATES)
    file.set("optimizer.rates", {"mid_block.*": 0.25, "attn2": 2.0})
    assert file.text == RATES.replace("5e-1", "0.25")
    file.end_of_change()
    file.set("optimizer.rates", {"mid_block": 0.25, "x": 1.0, "attn2": 2.0})
    assert file.text == RATES.replace('"mid_block.*" = 5e-1 # half', "mid_block = 0.25 # half\nx = 1.0")
    assert list(file.get("optimizer.rates")) == ["mid_block", "x", "attn2"]


def test_the_last_entry_takes_the_table_with_it(tmp_path):
    file = rates(tmp_path, RATES)
    file.set("optimizer.rates", {})
    assert file.get("optimizer.rates") is None
    assert file.text == "[optimizer]\nbeta1 = 0.8 # b\n\n[train]\nsteps = 3\n"
    file.end_of_change()
    file.set("optimizer.rates", {"attn2": 2.0})
    assert file.text == "[optimizer]\nbeta1 = 0.8 # b\n\n[optimizer.rates]\nattn2 = 2.0\n\n[train]\nsteps = 3\n"
    file.set("optimizer.beta2", 0.99)
    assert tomllib.loads(file.text)["optimizer"] == {"beta1": 0.8, "beta2": 0.99, "rates": {"attn2": 2.0}}


def test_an_empty_table_that_was_not_there_is_no_change(tmp_path):
    file = rates(tmp_path, "[train]\nsteps = 3\n")
    file.set("optimizer.rates", {})
    assert not file.modified and file.undo() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "optimizer.beta1 = 0.5\n",
        "optimizer = {beta1 = 0.5}\n",
        "[optimizer]\nbeta1=0.5",
        "[optimizer]\n[train]\nsteps=3\n[optimizer.rates]\na=1.0\n",
        "[optimizer]\nrates = {z = 1.0, b = 2.0} # in\nbeta1=0.5\n",
        "[optimizer]\nrates.a = 1.0 # c\nrates.b = 2.0\nbeta1=0.5\n",
        "optimizer.rates.a = 1.0\n",
        "[optimizer]\n[optimizer.arguments]\na=1\n",
        "[optimizer.rates]\n# none yet\n",
    ],
)
def test_every_way_of_writing_a_table_can_be_edited(tmp_path, text):
    file = rates(tmp_path, text)
    before = tomllib.loads(text)
    before.get("optimizer", {}).pop("rates", None)
    for wanted in ({"a": 1.0, "b.*": 0.5}, {"z": 0.0, "b.*": 0.5, "c": 3.0, "d": 4.0}, {"c": 3.0, "b.*": 0.5}):
        file.set("optimizer.rates", wanted)
        file.end_of_change()
        found = tomllib.loads(file.text)
        written = found["optimizer"].pop("rates")
        assert (written, list(written)) == (wanted, list(wanted))
        assert {name: table for name, table in found.items() if table} == {n: t for n, t in before.items() if t}
    file.set("optimizer.rates", {})
    assert "rates" not in tomllib.loads(file.text).get("optimizer", {})


def test_kinds_of_values_in_a_table_are_told_apart(tmp_path):
    file = rates(tmp_path, "[optimizer.arguments]\nx = 1\n")
    for value in (True, 1, 1.0):
        file.set("optimizer.arguments", {"x": value})
        assert type(tomllib.loads(file.text)["optimizer"]["arguments"]["x"]) is type(value)
