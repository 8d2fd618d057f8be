"""Numbers that no run has, in a file of events that somebody or something has written into: they are left out and
counted, and what is at the edge of what a run may have ends nothing."""

import time
from collections.abc import Iterator
from typing import Any, get_args

import fake_run
import msgspec
import pytest
import seen
from msgspec import inspect

from aozora_tui import cli, plain
from aozora_tui.app import AozoraApp
from aozora_tui.run_numbers import groups
from aozora_tui.run_state import RunState
from engine.contract import events, places
from engine.contract.events import Tail

KINDS = get_args(events.AnyEvent)
BEYOND = (10**400, 2**63, -(2**63), -1, -(10**400))
BEYOND_REALS = ("1e308", "-1e308", "1e999", *map(str, BEYOND[:1]))


def plausible(kind: inspect.Type, edge: str) -> Any:
    """A value of the type at its lower or upper edge."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            value = kind.ge if edge == "low" else kind.le
            return value if value is not None else 0
        case inspect.StrType():
            return "x"
        case inspect.BoolType():
            return edge == "high"
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.UnionType():
            return plausible(next(each for each in kind.types if not isinstance(each, inspect.NoneType)), edge)
        case inspect.VarTupleType():
            return [plausible(kind.item_type, edge)] * 2
        case inspect.DictType():
            return {name: plausible(kind.value_type, edge) for name in ("unet", "data", "learn", "update")}
        case inspect.AnyType():
            return 10**9
    raise AssertionError(kind)


def document(kind: type[events.Event], edge: str) -> dict[str, Any]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    made = {field.name: plausible(field.type, edge) for field in info.fields}
    return {"event": info.tag} | made | {"time": 1.7e9}


def encoded(given: dict[str, Any]) -> str:
    return msgspec.json.encode(given).decode()


def absurd(kind: type[events.Event]) -> Iterator[str]:
    """Lines in which one number is beyond what a run may have."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        parts = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for part in parts:
            found = {inspect.IntType: map(str, BEYOND), inspect.FloatType: BEYOND_REALS}.get(type(part), ())
            for text in found:
                yield encoded(document(kind, "low") | {field.name: "@"}).replace('"@"', text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_no_run_has_makes_a_line_that_cannot_be_read(kind):
    whole = encoded(document(kind, "high"))
    assert events.decode(whole.encode()) is not None
    for line in absurd(kind):
        found, torn = events.decode_block(f"{whole}\n{line}\n".encode())
        assert len(found) == 1 and torn == 1, line[:300]


def test_events_of_a_later_protocol_are_none_of_the_torn_ones():
    later = b'{"event":"later","time":1}\n{"event":7}\n[1]\n3\n'
    assert events.decode_block(later) == ([], 0)
    assert events.decode_block(b'{"event":"step"}\n{"event":"st\n') == ([], 2)


@pytest.fixture(params=["low", "high"])
def run(request, own_place):
    made = fake_run.make(places.runs_folder(), "cat-20231114-221320")
    fake_run.trained(made, 20)
    with made.events.open("a") as file:
        for kind in KINDS:
            if kind not in (events.Finished, events.Failed):
                file.write(f"{encoded(document(kind, request.param))}\n")
            file.writelines(f"{line}\n" for line in absurd(kind))
        file.write(f"{encoded(document(events.Step, request.param))}\n")
    fake_run.trained(fake_run.make(places.runs_folder(), "dog-20231114-221320"), 30)
    return made


def test_every_command_has_words_for_numbers_at_the_edge(run, capsys):
    for words in (["watch", "cat", "--plain"], ["watch", "cat", "--json"], ["runs"], ["runs", "--json"]):
        assert cli.main(words) in (0, 1), words
    assert cli.main(["compare", "cat", "dog", "--plain"]) in (0, 1)
    assert cli.main(["compare", "cat", "dog", "--json"]) in (0, 1)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_the_numbers_and_lines_are_words(run):
    tail, state = Tail(run.events), RunState()
    told = tail.read()
    state.apply(told)
    assert tail.unreadable == sum(len(list(absurd(kind))) for kind in KINDS)
    for now in (0.0, time.time(), 1e11):
        assert groups(state, now)
    assert state.share is None or 0 <= state.share <= 1
    view = plain.View(run=run.name, folder=run.path)
    for event in told:
        view, lines = plain.fold(view, event)
        assert all(isinstance(line, str) for line in lines)


@pytest.mark.parametrize("key", ["c", "n", "g", "l", "x"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_every_screen_of_the_run_stands(run, size, key):
    app = AozoraApp(run, ticking=False)
    async with app.run_test(size=size) as pilot:
        await pilot.press(key)
        await seen.work_done(app)
        await pilot.pause()
        before = app.screen
        await pilot.press("right", "plus", "pagedown", "tab")
        await pilot.pause()
        assert app.screen is before and seen.text(app).strip()
