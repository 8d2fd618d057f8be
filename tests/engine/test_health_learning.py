"""What the steps of a run tell of its health, and what they must not be taken for."""

import math
import random

import pytest

from engine.contract import events
from engine.contract.health import Watch
from tests.engine.histories import Run, codes, cosine, fold, noisy, started

FALLING = 0.09  # noise of a window of 64, as a share
SINGLE = 0.7  # and of a single picture


def flat(step):
    return 0.12


def heavy_tailed(seed):
    """Student's t with three degrees of freedom in the logarithm."""
    source = random.Random(seed)

    def loss(step):
        spread = math.sqrt(sum(source.gauss(0, 1) ** 2 for _ in range(3)) / 3)
        return 0.12 * math.exp(0.5 * source.gauss(0, 1) / spread)

    return loss


def by_timestep(seed):
    """Single pictures whose loss hangs on the timestep, hundredfold."""
    source = random.Random(seed)

    def loss(step):
        t = source.random()
        return (0.002 + 0.25 * math.exp(-6 * t) + 0.7 * math.exp(-80 * t)) * source.lognormvariate(0, 0.3)

    return loss


def from_scratch(step):
    return 0.05 + math.exp(-step / 60)


def mostly(share, seed=0):
    source = random.Random(seed)
    return lambda step: source.random() < share


WELL = {
    "noisy, one picture a step": Run(8000, loss=noisy(flat, SINGLE)),
    "noisier still": Run(8000, loss=noisy(flat, 1.2, seed=1)),
    "heavy tails": Run(6000, loss=heavy_tailed(2)),
    "by timestep": Run(6000, loss=by_timestep(3)),
    "fine-tuning that falls by a tenth": Run(4000, accumulate=64, loss=noisy(lambda s: 0.12 - 3e-6 * s, FALLING, 4)),
    "falls ever slower": Run(8000, loss=noisy(lambda s: 0.1 * s**-0.15, FALLING, 5)),
    "flat from the start": Run(6000, loss=noisy(flat, FALLING, 6)),
    "from scratch": Run(3000, lr=cosine(3000, 2e-3), loss=noisy(from_scratch, 0.3, 7)),
    "flat where a cosine ends": Run(
        3000, lr=cosine(3000), loss=noisy(lambda s: 0.12 * (1 + 0.5 * math.exp(-s / 500)), 0.05, 8)
    ),
    "clipped while warming up": Run(
        2000, lr=cosine(2000, warmup=0.2), clipped=lambda s: s < 380, norm=lambda s: 3.0 if s < 380 else 0.4
    ),
    "half of the steps clipped": Run(2000, clipped=mostly(0.5), norm=lambda s: 1.0),
    "a spike now and then": Run(4000, loss=lambda s: 3.0 if s % 150 == 0 else 0.12),
    "warm-up that disturbs": Run(
        2000, lr=cosine(2000), loss=noisy(lambda s: 0.12 * (1 + 0.15 * (s < 100) * s / 100), FALLING, 9)
    ),
}


@pytest.mark.parametrize("kind", WELL)
def test_a_run_that_is_well_is_left_in_peace(kind):
    assert fold(WELL[kind].events()) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_demo_and_its_like_are_too_short_to_be_judged(seed):
    source = random.Random(seed)
    short = Run(
        48,
        accumulate=4,
        loss=noisy(lambda s: 0.3 + math.exp(-s / 10), 0.4, seed),
        lr=cosine(48, 2e-3, warmup=0.1),
        clipped=lambda s: source.random() < 0.9,
        norm=lambda s: 2.0,
        seconds=lambda s: 0.1,
        spent=lambda s: {"data": 0.3, "learn": 0.3, "update": 0.1},
        save_every=24,
    )
    watch = Watch()
    assert fold(short.events(), watch) == [] and watch.findings == ()


def found(run, code, watch=None):
    (finding,) = (each for each in fold(run.events(), watch) if each.code == code)
    return finding


@pytest.mark.parametrize("seed", range(3))
def test_a_plain_after_a_fall_is_a_plateau_and_says_by_how_much_it_fell(seed):
    run = Run(4000, loss=noisy(lambda s: 0.12 * (1 + 0.5 * math.exp(-s / 200)), 0.03, seed))
    finding = found(run, "health-plateau")
    assert finding.level == "notice" and "0.1" in finding.text and "after a fall of 2" in finding.text
    assert 500 < finding.since_step < 2500 and "previews" in finding.remedy


def test_a_plateau_ends_when_the_loss_falls_again():
    run = Run(
        6000,
        loss=noisy(lambda s: 0.12 * (1 + 0.5 * math.exp(-s / 200)) * (1 if s < 3000 else 3000 / s), 0.03),
    )
    watch = Watch()
    assert codes(fold(run.events(), watch)) == ["health-plateau"] and watch.findings == ()


@pytest.mark.parametrize(("sigma", "times"), [(FALLING, 2), (SINGLE, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_rises_far_above_its_best_diverges(sigma, times, seed):
    run = Run(4000, loss=noisy(lambda s: 0.12 * min(times, math.exp(max(0, s - 2000) / 300)), sigma, seed))
    finding = found(run, "health-divergence")
    assert finding.level == "danger" and 2000 < finding.since_step <= 2600
    assert "times the best" in finding.text and "lr 0.3" in finding.remedy


def test_a_divergence_that_came_down_again_is_over():
    watch = Watch()
    run = Run(3000, loss=noisy(lambda s: 0.12 * (2 if 1000 < s < 1500 else 1), FALLING))
    assert codes(fold(run.events(), watch)) == ["health-divergence"] and watch.findings == ()


def test_spikes_that_come_again_and_again_are_counted():
    run = Run(2000, loss=lambda s: 3.0 if s > 1000 and s % 20 == 0 else 0.12)
    finding = found(run, "health-spikes")
    assert 1000 < finding.since_step < 1500 and "of the last 256 losses are spikes" in finding.text
    assert "the median is 0.12" in finding.text and "the highest is 3" in finding.text


def test_clipping_of_nearly_every_step_says_the_usual_norm():
    watch = Watch()
    run = Run(3000, clipped=lambda s: 500 < s < 2000, norm=lambda s: 2.5 if 500 < s < 2000 else 0.4)
    finding = found(run, "health-clipping", watch)
    assert 500 < finding.since_step < 700 and "2.5" in finding.text and "max_grad_norm above 2.5" in finding.remedy
    assert watch.findings == ()


def test_a_rate_of_zero_in_the_middle_is_told_and_says_who_commanded_it():
    for others, remedy in (({}, "schedule"), ({999: [events.Steered(step=999, factor=0.0)]}, "aozora-tui lr 1")):
        run = Run(4000, 1100, lr=lambda s: 1e-6 if s < 1000 else 0.0, others=others)
        finding = found(run, "health-rate")
        assert finding.since_step == 1000 and remedy in finding.remedy and "0 since step 1000" in finding.text


def test_a_rate_that_comes_back_is_no_matter():
    watch = Watch()
    assert codes(fold(Run(4000, lr=lambda s: 0.0 if 996 <= s <= 1001 else 1e-6).events(), watch)) == []
    held = fold(Run(4000, 1200, lr=lambda s: 0.0 if 1000 <= s <= 1100 else 1e-6).events(), watch)
    assert codes(held) == ["health-rate"] and watch.findings == ()


@pytest.mark.parametrize("lr", [cosine(2000), lambda s: (1 - (s - 1) / 2000) ** 10])
def test_a_schedule_may_end_at_zero(lr):
    assert fold(Run(2000, lr=lr).events()) == []


def skip(step, *names):
    return events.Skipped(step=step, reason="a loss is not finite", names=names)


def test_steps_that_are_skipped_again_and_again_name_the_picture_they_share():
    others = {step: [skip(step + 1, "a.png", f"{step}.png")] for step in (100, 150, 200)}
    watch = Watch()
    finding = found(Run(4000, 300, others=others), "health-skipped", watch)
    assert finding.since_step == 101 and finding.text.endswith("each time with a.png") and "out of" in finding.remedy
    assert finding.level == "warning" and watch.findings == (finding,)
    fold(list(Run(4000, 600).events())[1:], watch)
    assert watch.findings == ()


def test_two_skipped_steps_are_no_pattern_and_three_at_once_are_worse():
    assert fold(Run(4000, 900, others={step: [skip(step + 1)] for step in (100, 150, 500, 800)}).events()) == []
    finding = found(Run(4000, 900, others={step: [skip(step + 1)] for step in (100, 102, 104)}), "health-skipped")
    assert finding.level == "danger" and "each time" not in finding.text


def test_of_few_pictures_none_is_accused():
    every = [f"{n}.png" for n in range(40)]
    finding = found(Run(4000, 900, others={step: [skip(step + 1, *every)] for step in (9, 90, 190)}), "health-skipped")
    assert "png" not in finding.text and "rate" in finding.remedy


def test_a_loss_of_zero_or_beyond_all_measure_breaks_nothing():
    told = [started(), *list(Run(600, loss=lambda s: (0.0, 3e38, 1e-30)[s % 3]).events())[1:]]
    assert codes(fold(told)) in ([], ["health-spikes"])
