"""The way a text is quoted in the file stays when the text changes."""

import random
import tomllib

import pytest

from aozora_tui.profile_file import ProfileFile


def changed(tmp_path, text, path, value):
    file = ProfileFile(tmp_path / "a.toml", text, None)
    file.set(path, value)
    assert file.get(path) == value
    section, name = path.split(".")
    assert tomllib.loads(file.text)[section][name] == value
    return file.text


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ('"""\nlow\nquality"""', "low\nquality, x", '"""\nlow\nquality, x"""'),
        ("'''\nlow\nquality'''", "low\nx", "'''\nlow\nx'''"),
        ('"""low"""', "high", '"""high"""'),
        ("'''C:\\x'''", "C:\\y", "'''C:\\y'''"),
        ('"""\na\\\n   b"""', "a c", '"""\na c"""'),
        ('"""\na"""', "\na", '"""\n\na"""'),
        ("'''a'''", "it's '''", '"""it\'s \'\'\'"""'),
        ("'''a'''", "a\x07b", '"""a\\u0007b"""'),
        ("'a'", "two\nlines", '"two\\nlines"'),
        ('"a"', "two\nlines", '"two\\nlines"'),
    ],
)
def test_a_text_over_several_lines_stays_one_unless_it_cannot_be_written_so(tmp_path, old, value, new):
    text = f"[preview]\nnegative = {old} # why\nwidth = 512\n"
    assert changed(tmp_path, text, "preview.negative", value) == text.replace(old, new)


def test_texts_in_lists_and_folders_keep_their_quotes_too(tmp_path):
    text = "[preview]\nprompts = [\n  '''\na\nb''', # one\n  'c',\n]\n[[data.folders]]\npath = 'C:\\a' # mine\n"
    prompts = ["a\nb2", "c"]
    assert changed(tmp_path, text, "preview.prompts", prompts) == text.replace("a\nb'''", "a\nb2'''")
    assert changed(tmp_path, text, "preview.prompts", ["a\nb", "d"]) == text.replace("'c'", "'d'")
    assert changed(tmp_path, text, "data.folders", [{"path": "C:\\b"}]) == text.replace("C:\\a", "C:\\b")


def test_numbers_in_lists_are_spelt_short(tmp_path):
    text = "[schedule]\ncurve = [[0, 1.0], [1, 0.5]]\n"
    found = changed(tmp_path, text, "schedule.curve", [[0, 1.0], [1, 1e-6]])
    assert tomllib.loads(found)["schedule"]["curve"] == [[0, 1.0], [1, 1e-6]]


@pytest.mark.parametrize("seed", range(60))
def test_any_text_in_any_quotes_reads_back_the_same(tmp_path, seed):
    dice = random.Random(seed)
    for _ in range(20):
        quotes = dice.choice(['"', '"""', "'", "'''"])
        value = "".join(dice.choice(["a", "\n", '"', "'", "\\", "\t", "\x7f", "é", " ", "\\u0041"]) for _ in range(9))
        file = changed(tmp_path, f"[preview]\nnegative = {quotes}x{quotes} # c\nwidth = 8\n", "preview.negative", value)
        assert "# c\nwidth = 8\n" in file
