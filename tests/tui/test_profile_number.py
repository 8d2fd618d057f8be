"""Numbers with + and -: steps that fit the number, and never in the way of typing one."""

import pytest
import seen
from forms import app, opened, row, settle, write_profile

from aozora_tui.screens.profile_number import spelt_default, stepped
from engine.contract.fields import form_fields

NUMBERS = [field for field in form_fields().values() if field.kind in ("integer", "number")]


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "up", "down"),
    [
        ("optimizer.learning_rate", "1e-5", "2e-5", "9e-6"),
        ("optimizer.learning_rate", "9e-6", "1e-5", "8e-6"),
        ("optimizer.learning_rate", "2.5E-6", "3.5e-6", "1.5e-6"),
        ("optimizer.learning_rate", "0.0001", "0.0002", "0.00009"),
        ("optimizer.learning_rate", "", "0.000002", "9e-7"),
        ("optimizer.beta2", "0.999", "0.9991", "0.998"),
        ("optimizer.beta1", "0.9", "0.91", "0.8"),
        ("objective.conditional_dropout", "0.1", "0.2", "0.09"),
        ("objective.conditional_dropout", "0", "0.01", None),
        ("objective.conditional_dropout", "0.01", "0.02", "0.00"),
        ("objective.conditional_dropout", "1", None, "0.9"),
        ("objective.logit_mean", "-0.5", "-0.4", "-0.6"),
        ("objective.logit_mean", "0.0", "0.1", "-0.1"),
        ("memory.limit", "7.5", "8.5", "6.5"),
        ("train.steps", "500", "550", "450"),
        ("train.steps", "100", "150", "95"),
        ("train.steps", "20", "25", "19"),
        ("train.steps", "1", "2", None),
        ("preview.width", "1024", "1056", "992"),
        ("data.resolution", "1024", "1088", "960"),
        ("train.steps", "500x", None, None),
        ("train.steps", "inf", None, None),
    ],
)
def test_a_step_fits_the_number_and_its_range(name, text, up, down):
    field = form_fields()[name]
    found = stepped(field, text, 1), stepped(field, text, -1)
    assert found[0] == up
    assert found[1] == down or (found[1] is not None and down is not None and float(found[1]) == float(down))


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.path)
def test_steps_from_the_default_stay_in_the_range_and_end(field):
    for by in (1, -1):
        text, seen_before = spelt_default(field), set()
        while text is not None and text not in seen_before and len(seen_before) < 60:
            seen_before.add(text)
            raw = int(text) if field.kind == "integer" else float(text)
            assert not field.problems(raw) or (field.path == "data.max_tokens"), text
            text = stepped(field, text, by)
        assert text not in seen_before


async def test_plus_and_minus_step_a_number_as_one_change(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("plus", "plus", "minus")
        assert screen.file.get("train.steps") == 550
        assert row(screen, "train.steps").editor.value == "550"
        await pilot.press("ctrl+down")
        assert screen.file.get("train.steps") == 500
        await pilot.press("ctrl+up")
        assert "550" in seen.text(pilot.app)


async def test_signs_can_be_typed(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "optimizer.learning_rate")
        for typed in ("1e-5", "-3", "+2", "1e+3", "-1.5e-7"):
            await pilot.press("end", "ctrl+u", *typed)
            assert row(screen, "optimizer.learning_rate").editor.value == typed
            await settle(pilot)
            assert screen.file.get("optimizer.learning_rate") == float(typed)
