"""Two profiles are compared by what they mean."""

import pytest

from aozora_tui.profile_diff import differences

BASE = '[model]\nbase = "a.safetensors"\n'


def test_a_default_that_is_written_down_is_no_difference():
    assert differences(BASE, BASE + "\n[train]\n# as it is anyway\nbatch_size = 1\n") == ()


def test_what_differs_comes_in_the_forms_order_with_the_default_where_nothing_is_written():
    found = differences(BASE + "[train]\nsteps = 7\n", '[train]\nsteps = 9\n[model]\nbase = "b.safetensors"\n')
    assert [(each.field.path, each.before, each.after) for each in found] == [
        ("model.base", "a.safetensors", "b.safetensors"),
        ("train.steps", 7, 9),
    ]
    (batch,) = differences(BASE, BASE + "[train]\nbatch_size = 4\n")
    assert (batch.field.path, batch.before, batch.after) == ("train.batch_size", 1, 4)


def test_what_is_not_toml_is_refused():
    with pytest.raises(ValueError, match=r"end of document|line 1"):
        differences(BASE, "[[")
