"""What the box tells of a run's health: data, heat, memory, disk, and checkpoints that do not come."""

import random

import pytest

from engine.contract import events
from engine.contract.health import Watch
from tests.engine.histories import CHECKPOINT, GIB, Run, codes, fold, saved

HOUR = 3600.0


def found(run, code, watch=None):
    (finding,) = (each for each in fold(run.events(), watch) if each.code == code)
    return finding


def waiting(share, since=0, until=10**9):
    return lambda s: {"data": share if since <= s < until else 0.01, "learn": 1 - share, "update": 0.1}


def keeping(count, every, step_seconds, free=300 * GIB, size=CHECKPOINT):
    """The free disk of a run that keeps `count` checkpoints, and removes one only a step after the next is there."""

    def box(elapsed):
        step = int(elapsed // step_seconds)
        written = step // every
        late = written > count and step % every < 1
        return {"disk_free": free - (min(written, count) + late) * size}

    return box


def somebody_else(seed):
    """Files of many GiB that come and go."""
    source = random.Random(seed)
    return lambda elapsed: {"disk_free": 300 * GIB - source.randrange(60) * GIB}


WELL = {
    "a plain run": Run(4000),
    "data that is late now and then": Run(2000, spent=lambda s: waiting(0.9 if s % 20 == 0 else 0.02)(s)),
    "a fifth of the time for data": Run(2000, spent=waiting(0.2)),
    "fast steps on a busy box": Run(300, seconds=lambda s: 0.05, spent=lambda s: {"data": 0.03, "learn": 0.02}),
    "at its power cap and warm": Run(2000, box=lambda t: {"temperature": 84, "throttled": ("power", "sync")}),
    "hot for a minute": Run(2000, box=lambda t: {"throttled": ("thermal",) if 600 <= t < 680 else ()}),
    "a driver that says nothing": Run(
        2000,
        box=lambda t: {"card_used": 0, "card_total": 0, "temperature": None, "temperature_limit": None},
    ),
    "a full card at its usual pace": Run(2000, box=lambda t: {"card_used": 12 * GIB}, reserved=lambda s: 11 * GIB),
    "slower, with room on the card": Run(2000, seconds=lambda s: 1.5 if s < 900 else 3.0),
    "full for a moment while it is slow": Run(
        2000,
        seconds=lambda s: 1.5 if s < 900 else 3.0,
        box=lambda t: {"card_used": 12 * GIB if 1500 <= t < 1550 else 6 * GIB},
    ),
    "its first checkpoints": Run(4000, seconds=lambda s: 10.0, box=keeping(5, 100, 10.0), save_every=100),
    "files of others that come and go": Run(4000, seconds=lambda s: 10.0, box=somebody_else(0)),
    "other files of others": Run(4000, seconds=lambda s: 10.0, box=somebody_else(1)),
    "a file that was copied there once": Run(
        4000, seconds=lambda s: 10.0, box=lambda t: {"disk_free": (300 if t < 5000 else 240) * GIB}
    ),
    "one that took long": Run(
        4000, seconds=lambda s: 10.0, box=lambda t: {"disk_free": 300 * GIB - int(min(60, max(0, t / 20 - 250)) * GIB)}
    ),
    "a drain that lasts longer than the run": Run(
        1000, seconds=lambda s: 10.0, box=lambda t: {"disk_free": 300 * GIB - int(t * GIB / 100)}
    ),
    "irregular checkpoints": Run(
        2000,
        seconds=lambda s: 10.0,
        save_every=0,
        others={s: [saved(s)] for s in (100, 250, 300, 560, 600, 900, 1200, 1500, 1800)},
    ),
    "none yet, for some hours": Run(1000, seconds=lambda s: 20.0, save_every=0),
    "saved by hand at the start": Run(
        3000, save_every=0, seconds=lambda s: 0.5, others={s: [saved(s)] for s in (3, 5, 8, 3000)}
    ),
}


@pytest.mark.parametrize("kind", WELL)
def test_a_box_that_is_well_is_left_in_peace(kind):
    assert fold(WELL[kind].events()) == []


def test_waiting_for_data_is_told_with_its_share_until_it_is_over():
    watch = Watch()
    finding = found(Run(2000, spent=waiting(0.5, since=500, until=1200)), "health-data", watch)
    assert 500 < finding.since_step < 620 and "time went by waiting for data" in finding.text
    assert "cache" in finding.remedy and watch.findings == ()
    watch = Watch()
    assert codes(fold(Run(1000, spent=waiting(0.4)).events(), watch)) == ["health-data"]
    assert watch.findings[0].text.startswith("36% of")


@pytest.mark.parametrize(
    ("hot", "said"),
    [
        ({"throttled": ("thermal", "hardware"), "temperature": 88}, "slowed down by heat: at 88 C, where 93 C"),
        ({"temperature": 91}, "close to being slowed down by heat: at 91 C"),
        ({"throttled": ("thermal",), "temperature": None}, "slowed down by heat: too hot"),
    ],
)
def test_a_card_that_is_too_hot_for_two_minutes_is_told_until_it_has_cooled(hot, said):
    watch = Watch()
    finding = found(Run(2000, box=lambda t: hot if 600 <= t < 1500 else {}), "health-heat", watch)
    assert said in finding.text and 400 < finding.since_step < 500 and watch.findings == ()


def test_a_card_that_hovers_at_its_limit_is_told_once():
    watch = Watch()
    run = Run(8000, box=lambda t: {"temperature": 91 if int(t / 300) % 2 else 88})
    assert codes(fold(run.events(), watch)) == ["health-heat"] == codes(watch.findings)


def test_a_full_card_and_slower_steps_are_a_spill():
    watch = Watch()
    run = Run(
        2000,
        seconds=lambda s: 1.5 if s < 800 or s > 1500 else 4.0,
        box=lambda t: {"card_used": 12 * GIB if t > 1200 else 7 * GIB},
        reserved=lambda s: 10 * GIB,
    )
    finding = found(run, "health-spill", watch)
    assert 800 < finding.since_step < 900 and "2.7 times as long" in finding.text and "12.0 GiB of 12.0" in finding.text
    assert "memory.limit" in finding.remedy and watch.findings == ()


def test_more_memory_than_there_was_room_for_is_a_spill_from_the_start():
    planned = events.Planned(plan="fast", checkpointing=True, keep=0, group=1, why="", host=1, room=10 * GIB)
    over = Run(600, box=lambda t: {"card_used": 12 * GIB}, reserved=lambda s: 11 * GIB)
    began, *rest = over.events()
    (finding,) = fold([began, planned, *rest])
    assert finding.code == "health-spill" and "holds 11.0 GiB, of 10.0 GiB it was to take" in finding.text
    within = Run(600, box=lambda t: {"card_used": 12 * GIB}, reserved=lambda s: 10 * GIB)
    assert fold([began, planned, *list(within.events())[1:]]) == []


def test_a_disk_without_room_for_the_next_checkpoint_is_a_danger_until_there_is_room():
    watch = Watch()
    run = Run(1000, box=lambda t: {"disk_free": (8 if 600 < t < 900 else 300) * GIB})
    finding = found(run, "health-disk", watch)
    assert finding.level == "danger" and "8.0 GiB left" in finding.text and "11.0 GiB" in finding.text
    assert watch.findings == ()


def test_a_disk_that_will_be_full_before_the_run_ends_is_told_with_both_times():
    run = Run(4000, 1950, seconds=lambda s: 10.0, box=lambda t: {"disk_free": 200 * GIB - int(t * GIB / 100)})
    watch = Watch()
    finding, later = fold(run.events(), watch)
    assert " GiB an hour go, " in finding.text and "the run needs 10.1 h" in finding.text and finding.level == "warning"
    assert later.code == "health-disk" and later.level == "danger" and 1880 < later.since_step < 1910
    assert watch.findings[0].text.startswith("the disk has 5.")


def test_a_checkpoint_that_does_not_come_as_usual_is_told_until_it_is_there():
    watch = Watch()
    regular = {s: [saved(s)] for s in (*range(200, 1001, 200), 1800)}
    run = Run(4000, 1790, seconds=lambda s: 10.0, save_every=0, others=regular)
    finding = found(run, "health-checkpoint", watch)
    assert 1400 < finding.since_step < 1410 and "of step 1000" in finding.text and "aozora-tui save" in finding.remedy
    assert "the longest before was 33 min" in finding.text and codes(watch.findings) == ["health-checkpoint"]
    assert watch.take(saved(1800)) == () and watch.findings == ()


def test_half_a_day_without_any_checkpoint_is_told():
    finding = found(Run(4000, seconds=lambda s: 20.0, save_every=0), "health-checkpoint")
    assert "6.0 h of training and no checkpoint yet" in finding.text and 1080 <= finding.since_step < 1100


def test_a_pause_is_no_training():
    """Time passes between the steps, and nothing could be lost in it."""
    told = list(Run(1000, seconds=lambda s: 10.0, save_every=100).events())
    later = [type(e)(**{n: getattr(e, n) for n in e.__struct_fields__} | {"time": e.time + 90 * HOUR}) for e in told]
    assert fold([*told[:500], *later[500:]]) == []
