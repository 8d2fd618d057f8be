"""The profile's JSON Schema: judges as the program does, is shipped, and lies where profiles say."""

import json
import subprocess
import sys
import tomllib

import msgspec
import pytest
from schema_check import mistakes

from engine.contract import places, schema
from engine.contract.decode import decode
from engine.contract.fields import form_fields, sections
from engine.contract.sections import Profile

SHIPPED = sorted(places.shipped_profiles_folder().glob("*.toml"))
GOOD = {"model": {"base": "a.safetensors"}, "data": {"folders": [{"path": "p"}]}}
# What every field is tried with: of each kind, in and out of every range that a field has.
VALUES = [
    *(True, "", "x", "auto", "#ffffff", "cuda:1", [], ["x"], [1], [[]], [[0, 1]], [[1000, 1]], [[0, -1]], [[0, 1, 2]]),
    *([["a", 1]], [[0]], [{}], [{"path": "p"}], [{"path": ""}], [{"path": "p", "repeats": 0}], [{"path": "p", "x": 1}]),
    *({}, {"a": 1}, {"a": "b"}, {"a": [1, 2]}, {"a": ["b"]}, {"a": {}}, {"": 1}, {"a": -1}, {"a": 1001}),
    *(0, 1, -1, 2, 7, 63, 64, 65, 75, 96, 100, 257, 1000, 1001, 4096, 4097, 10**7, 10**7 + 1, 2**31, 2**31 + 1),
    *(0.5, -0.5, 0.001, 0.95, 1.5, 1e-6, 20.5, 100.5),
    *(word for field in form_fields().values() for word in field.choices),
]


def with_value(path, value):
    section, name = path.split(".")
    profile = json.loads(json.dumps(GOOD))
    profile.setdefault(section, {})[name] = value
    return profile


def test_it_is_a_schema_of_the_dialect_that_it_names():
    found = schema.schema()
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["additionalProperties"] is False and found["required"] == ["model", "data"]
    assert json.loads(schema.text()) == json.loads(json.dumps(found))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_profile_is_right(file):
    assert mistakes(schema.schema(), tomllib.loads(file.read_text())) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [": required", ": required"]),
        ("[train]\nstep = 3", ["step: false"]),
        ("[trian]\nsteps = 3", ["trian: false"]),
        ("[train]\nsteps = 0", ["steps: minimum"]),
        ('[train]\nsteps = "3"', ["steps: type"]),
        ("[train]\nmax_grad_norm = true", ["max_grad_norm: type"]),
        ('[objective]\nloss = "l2"', ["loss: enum"]),
        ("[optimizer]\nlearning_rate = 0", ["learning_rate: exclusiveMinimum"]),
        ("[data]\nbucket_step = 33", ["bucket_step: multipleOf"]),
        ('[data]\nbackground = "white"', ["background: pattern"]),
        ("[data]\nfolders = []", ["folders: minItems"]),
        ("[[data.folders]]\nrepeats = 2", ["path: required"]),
        ("[objective]\ntimestep_curve = [[1000, 1]]", ["timestep_curve[0][0]: maximum"]),
        ("[schedule]\ncurve = [[0.5, 1, 2]]", ["[2]: false"]),
        ("[optimizer.rates]\na = -1", ["rates.a: minimum"]),
        ("[optimizer.arguments]\na = { b = 1 }", ["arguments.a: anyOf"]),
        ("[layers]\ntrain = [3]", ["train[0]: type"]),
    ],
)
def test_a_wrong_profile_is_not(text, found):
    profile = tomllib.loads(text)
    if text:
        profile = {**GOOD, **profile}
    said = mistakes(schema.schema(), profile)
    assert all(any(one.endswith(wanted) for one in said) for wanted in found), said
    assert decode(Profile, profile)[1], "the program finds it wrong too"


@pytest.mark.parametrize("path", form_fields())
def test_it_judges_every_field_as_the_program_does(path):
    judge, judged = schema.schema(), set()
    for value in VALUES:
        profile = with_value(path, value)
        right = not decode(Profile, profile)[1]
        assert (not mistakes(judge, profile)) is right, (path, value)
        judged.add(right)
    assert judged == {True, False}, "some values are right and some are wrong"


def test_every_field_has_its_label_help_unit_and_default():
    properties = schema.schema()["properties"]
    assert list(properties) == [section.name for section in sections()]
    for path, field in form_fields().items():
        section, name = path.split(".")
        said = properties[section]["properties"][name]
        assert said["title"] == field.label and said["description"].startswith(field.help)
        assert field.unit in said["description"] or field.kind not in ("integer", "number")
        assert field.required or said["default"] == msgspec.to_builtins(field.default)
        assert not field.example or field.example in said["examples"]
        for example in said.get("examples", ()):
            assert mistakes(said, example) == []


def test_every_default_is_right():
    properties = schema.schema()["properties"]
    for path, field in form_fields().items():
        section, name = path.split(".")
        assert (
            field.required
            or mistakes(properties[section]["properties"][name], json.loads(msgspec.json.encode(field.default))) == []
        )


def test_the_shipped_file_is_up_to_date():
    shipped = places.shipped_profiles_folder() / schema.FILE_NAME
    assert shipped.read_text() == schema.text(), "run `aozora-tui schema --output profiles/profile.schema.json`"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_profile_names_it_in_its_first_line(file):
    assert file.read_text().split("\n")[0] == schema.DIRECTIVE == "#:schema ./profile.schema.json"


def test_it_lies_beside_every_profile_that_names_it(tmp_path):
    profile = tmp_path / "mine.toml"
    schema.keep_beside(profile, f"{schema.DIRECTIVE}\n[model]\n")
    assert (tmp_path / schema.FILE_NAME).read_text() == schema.text()


@pytest.mark.parametrize("text", ["", "[model]\n", "#:schema https://example.org/x.json\n", "# a comment\n"])
def test_profiles_that_do_not_name_it_get_none(tmp_path, text):
    schema.keep_beside(tmp_path / "mine.toml", text)
    assert list(tmp_path.iterdir()) == []


def test_an_older_one_of_ours_is_replaced_and_one_of_others_is_not(tmp_path):
    beside = tmp_path / schema.FILE_NAME
    for before, after in (
        (json.dumps({"title": schema.TITLE}), schema.text()),
        (json.dumps({"title": "of somebody else"}), None),
        ("no json", None),
        ("[1]", None),
    ):
        beside.write_text(before)
        schema.keep_beside(tmp_path / "mine.toml", schema.DIRECTIVE)
        assert beside.read_text() == (after or before)


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    schema.keep_beside(blocked / "mine.toml", schema.DIRECTIVE)


def test_the_present_one_is_not_written_again(tmp_path):
    schema.keep_beside(tmp_path / "mine.toml", schema.DIRECTIVE)
    beside = tmp_path / schema.FILE_NAME
    before = beside.stat()
    schema.keep_beside(tmp_path / "mine.toml", schema.DIRECTIVE)
    assert (beside.stat().st_ino, beside.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_it_needs_nothing_heavy():
    code = "import sys, engine.contract.schema as s; s.text(); print({'torch', 'numpy', 'PIL'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
