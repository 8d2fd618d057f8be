"""The watch over a run: what it remembers, what it costs, and what it does to an engine, which is nothing."""

import pickle
import sys
from pathlib import Path

import pytest

from engine.contract import events, health, rundir
from engine.contract.health import RULES, Watch
from engine.run.session import Emitter, Session
from tests.engine.histories import GIB, Run, codes, fold, machine, noisy, saved, started

HOT = {"throttled": ("thermal",)}
PLAIN = Run(3000, loss=noisy(lambda step: 0.12, 0.7))


def looks(*each, since=0.0, apart=30.0):
    """Events of the box: (how many, fields) ..."""
    time = since
    for count, fields in each:
        for _ in range(count):
            time += apart
            yield machine(time=time, **fields)


def test_what_ends_and_holds_again_within_the_hour_is_shown_and_not_told_again():
    watch = Watch()
    told = list(looks((10, HOT), (10, {}), (10, HOT), (10, {})))
    assert codes(fold(told[:20], watch)) == ["health-heat"] and watch.findings == ()
    assert fold(told[20:30], watch) == [] and codes(watch.findings) == ["health-heat"]
    assert watch.findings[0].time == told[23].time
    fold(told[30:], watch)
    assert codes(fold(looks((10, HOT), since=4000.0), watch)) == ["health-heat"]


def test_a_clock_that_was_set_back_silences_nothing():
    watch = Watch()
    assert codes(fold(looks((4, HOT), (9, {}), since=1e9), watch)) == ["health-heat"]
    assert codes(fold(looks((4, HOT), since=5e8), watch)) == ["health-heat"]


def test_the_evidence_of_what_holds_is_the_newest_and_its_beginning_stays():
    watch = Watch()
    (begun,) = fold(looks((4, HOT | {"temperature": 88})), watch)
    fold(looks((4, HOT | {"temperature": 91}), since=1000.0), watch)
    (held,) = watch.findings
    assert (held.time, held.since_step) == (begun.time, begun.since_step) and "at 91 C" in held.text != begun.text


def test_a_resume_forgets_what_came_after_the_step_it_starts_from():
    """Here a loss that diverged: the better course that follows is judged by what was before."""
    rising = Run(3000, 1400, loss=lambda step: 0.12 if step < 1000 else 0.4)
    watch = Watch()
    assert codes(fold(rising.events(), watch)) == ["health-divergence"]
    again = Run(3000, first=901, time=1.9e9)
    assert fold(again.events(), watch) == [] and watch.findings == ()
    fresh, resumed = Watch(), Watch()
    fold(Run(3000, 900).events(), fresh)
    fold(rising.events(), resumed)
    resumed.take(started(900, time=1.9e9))
    fresh.take(started(900, time=1.9e9))
    assert resumed._past.curve == fresh._past.curve
    kept = list(resumed._past.blocks)
    assert kept[-1].last == 896 and kept == list(fresh._past.blocks)[-len(kept) :]


def test_a_resume_from_after_it_began_keeps_what_is_wrong_with_learning_and_asks_the_box_anew():
    watch = Watch()
    zero = Run(4000, 1200, lr=lambda step: 1e-6 if step < 1000 else 0.0, box=lambda elapsed: HOT)
    assert sorted(codes(fold(zero.events(), watch))) == ["health-heat", "health-rate"]
    watch.take(started(1150, time=1.9e9))
    assert codes(watch.findings) == ["health-rate"]
    watch.take(started(950, time=1.9e9))
    assert watch.findings == ()


def test_it_judges_the_same_in_one_go_and_event_by_event_and_heeds_no_warning_of_its_own():
    told = list(Run(3000, box=lambda t: HOT, loss=lambda s: 0.12 if s < 1500 else 0.5).events())
    alone, echoing = Watch(), Watch()
    begun = fold(told, alone)
    for event in told:
        for finding in echoing.take(event):
            warned = events.Warned(time=event.time, code=finding.code, text=finding.text, remedy=finding.remedy)
            assert echoing.take(warned) == ()
    assert echoing.findings == alone.findings and codes(begun) == ["health-heat", "health-divergence"]


def test_a_step_costs_few_calls_and_a_long_run_no_more_memory_than_a_short_one():
    watch, told = Watch(), list(PLAIN.events())
    calls = 0

    def count(frame, kind, argument):
        nonlocal calls
        calls += kind in ("call", "c_call")

    sys.setprofile(count)
    fold(told, watch)
    sys.setprofile(None)
    assert calls < 30 * len(told)  # 250,000 of them in less than a second: a few microseconds each
    sizes = []
    for _ in range(12):
        sizes.append(len(pickle.dumps(watch)))
        last = watch._past.step
        fold(list(Run(40_000, last + 3000, first=last + 1).events())[1:], watch)
    assert max(sizes) < 200_000 and sizes[-1] < 1.3 * sizes[6]


def test_events_of_an_older_engine_are_judged_by_what_they_say():
    """No machine, no times by part."""
    watch = Watch()
    old = (
        type(event)(**{name: getattr(event, name) for name in event.__struct_fields__ if name != "spent"})
        for event in Run(3000, loss=lambda step: 0.12 if step < 1500 else 0.5).events()
        if not isinstance(event, events.Machine)
    )
    assert codes(fold(old, watch)) == ["health-divergence"]


def test_steps_without_a_start_are_no_error():
    assert fold(list(Run(600).events())[1:]) == [] and fold([saved(3), machine(), *looks((9, {}))]) == []


def test_every_code_says_that_it_is_of_health_and_every_rule_is_asked():
    assert all(code.startswith("health-") for code in RULES)
    asked = {
        code for codes in (*health.BY_BLOCKS.values(), health.BY_SETTLED_LOOKS, health.BY_CHECKS) for code in codes
    }
    assert asked == set(RULES) and asked >= health.OF_THE_BOX


@pytest.fixture
def session(tmp_path: Path) -> Session:
    run = rundir.create(tmp_path, "watched")
    emitter = Emitter(None)
    emitter.attach(run.events)
    return Session(run, emitter, "token")


def written(session: Session) -> list[events.AnyEvent]:
    return events.Tail(session.run.events).read()


def test_the_engine_warns_of_what_its_own_events_show(session: Session):
    session.emit(started())
    for _ in range(6):
        session.emit(machine(temperature=92))
    told = written(session)
    assert [type(event).__name__ for event in told] == ["Started", *["Machine"] * 4, "Warned", *["Machine"] * 2]
    assert told[5].code == "health-heat" and "92 C" in told[5].text and told[5].remedy


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("a"), ValueError("b"), TypeError("c")])
def test_a_rule_that_fails_costs_the_watching_and_never_the_run(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
):
    def broken(past, holds):
        raise error

    monkeypatch.setitem(RULES, "health-heat", broken)
    for _ in range(6):
        session.emit(machine(temperature=92))
    assert [type(event).__name__ for event in written(session)] == ["Machine"] * 6
    assert capsys.readouterr().err.count("Traceback") == 1


def test_more_checkpoints_than_anybody_keeps_fill_the_disk():
    def box(elapsed):
        return {"disk_free": 400 * GIB - 10 * GIB * int(elapsed // 600)}

    run = Run(6000, seconds=lambda step: 6.0, save_every=100, box=box, others={})
    assert codes(fold(run.events()))[:1] == ["health-disk"]
