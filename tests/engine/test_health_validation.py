"""What the loss on held-out pictures tells of a run's health."""

import math
import random

import pytest

from engine.contract import events
from engine.contract.health import Watch
from tests.engine.histories import BEGAN, codes, fold, started


def checks(losses, *, every=100, first=0):
    for number, loss in enumerate(losses):
        step = first + number * every
        yield events.Validated(time=BEGAN + step, step=step, loss=loss, pictures=16, samples=64, seconds=4.0)


def jittered(losses, spread, seed):
    source = random.Random(seed)
    return [loss * (1 + source.gauss(0, spread)) for loss in losses]


FALLS = [0.11 + 0.02 * math.exp(-number / 8) for number in range(30)]
LEARNT_BY_HEART = [*FALLS, *(FALLS[-1] + 0.0008 * number for number in range(20))]


def test_a_loss_that_was_lower_and_rises_is_told_once_with_where_it_was_lowest():
    watch = Watch()
    told = fold([started(), *checks(LEARNT_BY_HEART)], watch)
    assert codes(told) == ["health-rising"]
    assert "it was 0.1105 after step 2,900" in told[0].text and told[0].since_step == 2900
    assert "aozora-tui lr 0.3" in told[0].remedy
    assert codes(watch.findings) == ["health-rising"]
    fold(checks([0.11] * 3, first=5000), watch)
    assert watch.findings == ()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "losses",
    [
        FALLS,
        [0.12] * 200,
        [*FALLS, *(FALLS[-1] * 1.1 for _ in range(3))],  # three looks are not yet a rise
        [*FALLS, *(FALLS[-1] * (1.01 if number % 2 else 1.05) for number in range(20))],
        LEARNT_BY_HEART[:7],
    ],
    ids=["falls", "flat", "three", "comes back", "few"],
)
def test_what_is_no_rise(losses, seed):
    assert fold([started(), *checks(jittered(losses, 0.003, seed))]) == []


@pytest.mark.parametrize("seed", range(20))
def test_noise_hides_no_rise(seed):
    assert codes(fold([started(), *checks(jittered(LEARNT_BY_HEART, 0.003, seed))])) == ["health-rising"]


def test_looks_that_a_resume_has_made_void_count_no_more():
    watch = Watch()
    fold([started(), *checks(LEARNT_BY_HEART)], watch)
    assert codes(watch.findings) == ["health-rising"]
    fold([started(step=2800), *checks(FALLS[-2:] * 4, first=2800)], watch)
    assert watch.findings == ()
