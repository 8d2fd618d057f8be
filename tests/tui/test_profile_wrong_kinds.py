"""A profile whose every value is of another kind than its field's: it is opened, and every field says what is wrong."""

import pytest
from forms import app, checked, opened, settle, write_profile

from engine.contract.fields import form_fields, sections

VALUES = ("nan", "true", '"\\u001b[31m"', "{ a = 1 }")


def of_nothing_but(value):
    tables = {}
    for path in form_fields():
        table, _, name = path.rpartition(".")
        tables.setdefault(table, []).append(f"{name} = {value}\n")
    return "".join(f"[{table}]\n{''.join(lines)}" for table, lines in tables.items())


@pytest.mark.parametrize("value", VALUES)
async def test_every_section_of_it_can_be_seen(tmp_path, value):
    path = write_profile(tmp_path)
    path.write_text(of_nothing_but(value))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        for section in sections():
            screen.go_to(section.fields[0].path)
            await settle(pilot)
        assert pilot.app.is_running and len(screen.verdict.problems) > 20
        assert path.read_text() == of_nothing_but(value)
