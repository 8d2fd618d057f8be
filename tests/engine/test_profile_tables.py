"""Tables of names of the person's own choice: read, written, compared, and each mistake named."""

from pathlib import Path

import msgspec
import pytest

from engine.contract.check import check_file
from engine.contract.fields import form_fields
from engine.contract.profile import digest, dump, parse, resolved, salvage
from engine.contract.profile_values import differences, values_of
from tests.engine.test_profile import MINIMAL, problems_of

TABLES = """
[optimizer]
kind = "imported"
import_path = "torch.optim.NAdam"
[optimizer.rates]
attn2 = 1
"mid_block.*" = 0.25
[optimizer.arguments]
betas = [0.9, 1]
decoupled_weight_decay = true
foreach = false
weight_decay = 0.1
name = "x"
steps = 3
"""


def test_tables_are_read_written_and_compared():
    profile, problems = parse(MINIMAL + TABLES, "p")
    assert profile is not None and problems == []
    optimizer = profile.optimizer
    assert optimizer.rates == {"attn2": 1.0, "mid_block.*": 0.25}
    assert optimizer.arguments == {
        "betas": [0.9, 1.0],
        "decoupled_weight_decay": True,
        "foreach": False,
        "weight_decay": 0.1,
        "name": "x",
        "steps": 3,
    }
    assert type(optimizer.arguments["steps"]) is int and type(optimizer.rates["attn2"]) is float
    assert parse(dump(profile), "written") == (profile, [])
    assert resolved(profile, Path("/")).optimizer == optimizer
    plain = parse(MINIMAL, "p")[0]
    assert plain is not None and digest(plain) != digest(profile)
    rates = msgspec.structs.replace(optimizer, rates={"attn2": 1.0})
    other = msgspec.structs.replace(profile, optimizer=rates)
    (found,) = differences(values_of(profile), values_of(other))
    assert found.field.path == "optimizer.rates"
    assert (found.before, found.after) == ({"attn2": 1.0, "mid_block.*": 0.25}, {"attn2": 1.0})


@pytest.mark.parametrize(
    ("lines", "path", "text", "remedy"),
    [
        (
            "rates = { 'mid_block.*' = -1 }",
            'optimizer.rates."mid_block.*"',
            "-1 is not a number from 0 to 1,000",
            "The least allowed is 0.",
        ),
        (
            "rates = { attn2 = 2000 }",
            "optimizer.rates.attn2",
            "2000 is not a number from 0 to 1,000",
            "The most allowed is 1,000.",
        ),
        (
            "rates = { attn2 = '0.5' }",
            "optimizer.rates.attn2",
            '"0.5" is not a number from 0 to 1,000',
            "Remove the quotes.",
        ),
        ("rates = { attn2 = nan }", "optimizer.rates.attn2", "nan is not a number", "Write a finite number."),
        ("rates = { attn2 = true }", "optimizer.rates.attn2", "true is not a number", "Correct it."),
        ("rates = { '' = 1 }", 'optimizer.rates.""', "a name is empty", "Write what the value is for."),
        ('rates = { "a\\u0000" = 1 }', 'optimizer.rates."a\\u0000"', "a name holds a NUL", "Write what"),
        ("rates = { 'a\"]b' = [] }", 'optimizer.rates."a\\"]b"', "a list is not a number", "Correct it."),
        ("rates = 3", "optimizer.rates", "a table is expected, not 3", "Write it as [optimizer.rates]."),
        ("arguments = []", "optimizer.arguments", "a table is expected", "Write it as [optimizer.arguments]."),
        (
            "arguments = { betas = [0.9, 'x'] }",
            "optimizer.arguments.betas",
            'element 2 of the list, "x", is not a number',
            "Correct it.",
        ),
        (
            "arguments = { betas = ['0.9', true] }",
            "optimizer.arguments.betas",
            'element 1 of the list, "0.9", is not a number',
            "Remove the quotes.",
        ),
        (
            "arguments = { betas = [0.9, [1]] }",
            "optimizer.arguments.betas",
            "element 2 of the list, a list, is not a number",
            "Correct it.",
        ),
        (
            "arguments = { betas = [0.9, inf] }",
            "optimizer.arguments.betas",
            "element 2 of the list, inf, is not a number",
            "Write a finite number.",
        ),
        ("arguments = { eps = inf }", "optimizer.arguments.eps", "inf is not true", "Write a finite number."),
        ("arguments = { a = {} }", "optimizer.arguments.a", "a table is not true or false", "Correct it."),
        ('arguments = { a = "b\\u0000" }', "optimizer.arguments.a", "holds a NUL", "Remove it."),
        ("arguments = { a = 1979-05-27 }", "optimizer.arguments.a", "date is not true or false", "Correct it."),
    ],
)
def test_a_wrong_entry_of_a_table_is_named_and_hides_nothing(
    tmp_path: Path, lines: str, path: str, text: str, remedy: str
):
    """The other mistakes, and what the machine says, stay."""
    start = f"{MINIMAL}[train]\nsteps = 0\n[optimizer]\n{lines}\n"
    found = problems_of(start)
    assert list(found) == ["train.steps", path]
    assert found[path][0].startswith(text) and found[path][1].startswith(remedy)
    rest = salvage(start, parse(start, "p")[1])
    assert rest is not None and rest.optimizer.rates == {} == rest.optimizer.arguments
    (tmp_path / "p.toml").write_text(start)
    named = [problem.path for problem in check_file(tmp_path / "p.toml").problems]
    assert {"train.steps", path, "model.base"} <= set(named) and named.count(path) == 1


def test_only_the_wrong_entry_of_a_table_is_left_out():
    text = f"{MINIMAL}[optimizer.rates]\n'mid_block.*' = -1\nattn2 = 0.5\n"
    rest = salvage(text, parse(text, "p")[1])
    assert rest is not None and rest.optimizer.rates == {"attn2": 0.5}


def test_tables_have_rows_in_the_form():
    for name, example in {"rates": {"attn2": 0.5}, "arguments": {"betas": [0.9, 0.99]}}.items():
        field = form_fields()[f"optimizer.{name}"]
        assert (field.kind, field.default, field.required) == ("table", {}, False)
        assert field.problems(example) == [] and len(field.problems({"a": {}})) == 1
        assert field.expected.startswith("a table: for each name, ")
