"""Undo and redo over all fields: nothing is lost on the way back, nor on the way there."""

import random
import tomllib

import pytest

from aozora_tui.profile_file import REST, ProfileFile
from engine.contract.fields import form_fields
from engine.contract.profile_values import written_values

TEXT = """\
# a profile of mine
[model]   # the base
base = '/a b/c.safetensors'  # literal quotes

[data]
resolution = 1_024 # px

# the first
[[data.folders]]
path = "/x"   # first
repeats = 2

[[data.folders]]
path = "/y"

[train]
steps=100   # tight
seed = 0x10

[optimizer]
learning_rate = 1e-6 # low
[optimizer.rates] # by layer
"mid_block.*" = 5e-1 # half

[preview]
prompts = [
  "a cat", # the cat
  "a dog",
]
# the end
"""


def any_value(dice, field):
    """Of a field, right or wrong; None takes it out."""
    if dice.random() < 0.2:
        return None
    makers = {
        "integer": lambda: dice.choice([dice.randrange(5000), "12x"]),
        "number": lambda: dice.choice([dice.random(), 1e-5 * dice.randrange(9), 3]),
        "switch": lambda: dice.random() < 0.5,
        "choice": lambda: dice.choice(field.choices or ("a",)),
        "texts": lambda: [dice.choice(["a cat", "a 'dog'", 'q"uote', "two\nlines"]) for _ in range(dice.randrange(4))],
        "folders": lambda: [
            {"path": f"/{dice.randrange(5)}", **({"repeats": 3} if dice.random() < 0.5 else {})}
            for _ in range(dice.randrange(1, 4))
        ],
        "points": lambda: [[index, dice.random()] for index in range(dice.randrange(4))],
        "table": lambda: {
            dice.choice(["attn2", "mid_block.*", "x.y"]): dice.random() for _ in range(dice.randrange(3))
        },
    }
    return makers.get(field.kind, lambda: dice.choice(["", "a", "/x y/'z'.safetensors", "ü"]))()


def edit(dice, file):
    fields = list(form_fields().values())
    chosen = dice.sample(fields, dice.choice([1, 1, 1, 2, 5]))
    file.update({field.path: any_value(dice, field) for field in chosen})
    if dice.random() < 0.4:
        file.end_of_change()


@pytest.mark.parametrize("seed", range(25))
def test_undo_all_is_the_file_as_it_was_and_redo_all_is_what_was_made_of_it(tmp_path, seed):
    dice, path = random.Random(seed), tmp_path / "mine.toml"
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    for _ in range(dice.randrange(1, 25)):
        edit(dice, file)
        while dice.random() < 0.2:
            file.undo()
        while dice.random() < 0.2:
            file.redo()
    while file.redo():
        pass
    made = file.text
    for _ in range(2):
        while file.undo():
            pass
        assert file.text == TEXT and not file.modified
        while file.redo():
            pass
        assert file.text == made
    file.save()
    again = ProfileFile.open(path)
    assert again.text == made and path.read_bytes() == made.encode()
    assert written_values(again.text) == {name: file.get(name) for name in form_fields()}


@pytest.mark.parametrize("seed", range(25))
def test_an_edit_leaves_the_lines_of_other_fields_alone(tmp_path, seed):
    """Their comments, their order and the way their values are spelt."""
    dice, path = random.Random(1000 + seed), tmp_path / "mine.toml"
    path.write_text(TEXT)
    for field in dice.sample([field for field in form_fields().values() if field.kind not in ("table", "folders")], 12):
        file = ProfileFile.open(path)
        value = any_value(dice, field)
        file.set(field.path, value)
        found = tomllib.loads(file.text)
        assert found.get(field.section, {}).get(field.name) == value
        old = [line for line in TEXT.split("\n") if line.strip() and field.name not in line]
        if field.name == "prompts":
            old = [line for line in old if "a cat" not in line and "a dog" not in line and line != "]"]
        kept = iter(file.text.split("\n"))
        assert all(line in kept for line in old), field.path


def test_several_fields_at_once_are_one_step(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    file.update({"layers.train": ["mid_block.*"], "optimizer.rates": {"attn2": 0.5}})
    made = file.text
    assert file.undo() == "layers.train" and file.text == TEXT
    assert file.redo() == "layers.train" and file.text == made
    assert file.redo() is None


def test_an_edit_after_undo_ends_what_could_be_made_again(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    file.set("train.steps", 7)
    file.set("train.seed", 8)
    file.undo()
    file.set("train.steps", 9)
    assert file.redo() is None
    assert file.undo() == "train.steps" and file.get("train.steps") == 7


def test_a_text_from_elsewhere_is_one_step_and_must_be_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    file.replace(TEXT + "# more\n")
    with pytest.raises(ValueError, match="line 1"):
        file.replace("[")
    assert file.text == TEXT + "# more\n" and file.modified
    assert file.undo() == REST and file.text == TEXT
    assert file.redo() == REST and file.text == TEXT + "# more\n"
