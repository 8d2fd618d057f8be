"""Two profiles are compared by what they mean, wherever they come from."""

import json
from pathlib import Path

import pytest

from engine.contract.fields import form_fields
from engine.contract.profile import dump, parse, resolved
from engine.contract.profile_values import default_of, differences, settled, values_of, written_values

BASE = '[model]\nbase = "a.safetensors"\n'
WHOLE = BASE + '[[data.folders]]\npath = "pics"\n'


def between(before: str, after: str, *folders: Path) -> list[tuple[str, object, object]]:
    found = differences(written_values(before), written_values(after), folders or None)
    return [(each.field.path, each.before, each.after) for each in found]


def test_a_default_that_is_written_down_is_no_difference_in_any_kind_of_field():
    lines: dict[str, list[str]] = {}
    for field in form_fields().values():
        if not field.required and field.kind != "table":
            lines.setdefault(field.section, []).append(f"{field.name} = {json.dumps(default_of(field))}\n")
    whole = "".join(f"[{section}]\n{''.join(texts)}" for section, texts in lines.items() if section != "model")
    assert "prompts = []" in whole and 'train = ["*"]' in whole
    assert between(BASE, BASE + whole) == []


def test_what_differs_comes_in_the_forms_order_with_the_default_where_nothing_is_written():
    after = '[train]\nsteps = 9\nbatch_size = 4\n[model]\nbase = "b.safetensors"\n'
    assert between(BASE + "[train]\nsteps = 7\n", after) == [
        ("model.base", "a.safetensors", "b.safetensors"),
        ("train.steps", 7, 9),
        ("train.batch_size", 1, 4),
    ]
    assert between(BASE, "") == [("model.base", "a.safetensors", None)]


def test_a_path_that_leads_to_the_same_place_is_no_difference_if_the_folders_are_known():
    after = '[model]\nbase = "/x/a.safetensors"\n[[data.folders]]\npath = "/x/pics"\nrepeats = 1\n'
    assert between(WHOLE, after, Path("/x"), Path("/y")) == []
    assert [path for path, *_ in between(WHOLE, after, Path("/z"), Path("/y"))] == ["model.base", "data.folders"]
    assert [path for path, *_ in between(WHOLE, after)] == ["model.base", "data.folders"]


def test_a_profile_that_was_read_has_the_values_that_it_writes_out():
    profile = parse(WHOLE + '[schedule]\nshape = "curve"\ncurve = [[0, 1], [0.5, 0.25]]\n', "p")[0]
    assert profile is not None
    profile = resolved(profile, Path("/x"))
    assert differences(values_of(profile), written_values(dump(profile))) == ()
    assert values_of(profile)["schedule.curve"] == [[0, 1.0], [0.5, 0.25]]


def test_what_is_wrong_in_a_profile_can_be_compared_too():
    text = 'data = 3\n[train]\nsteps = "12x"\n[model]\nbase = 5\n'
    assert between(BASE, text) == [("model.base", "a.safetensors", 5), ("train.steps", 1000, "12x")]
    broken = "[[data.folders]]\npath = 5\n"
    assert [path for path, *_ in between("", broken, Path("/x"), Path("/x"))] == ["data.folders"]
    with pytest.raises(ValueError, match=r"end of document|line 1"):
        written_values("[[")


def test_paths_are_left_as_they_are_where_nobody_knows_their_folder():
    assert settled(form_fields()["model.base"], "a", None) == "a"
    assert settled(form_fields()["model.base"], "a", Path("/x")) == "/x/a"
    assert settled(form_fields()["model.base"], "", Path("/x")) == ""
