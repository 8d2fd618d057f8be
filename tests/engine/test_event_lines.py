"""Lines between versions: an older app before a newer engine's, and the other way round; and how long they are."""

import random

import msgspec
import pytest

from engine.contract import events

STEP = events.Step(
    time=1789012345.1234567,
    step=123_456,
    loss=0.12345678901234567,
    lr=1.2345678901234567e-06,
    grad_norm=0.12345678901234567,
    clipped=False,
    seconds=1.2345678901234567,
    samples_per_second=1.2345678901234567,
    memory_peak=12_345_678_901,
    memory_reserved=12_345_678_901,
    updates={"unet": 1.23e-05, "text_encoder": 1.23e-05, "text_encoder_2": 1.23e-05, "token_embedding": 1.23e-05},
    spent={"data": 0.001234, "learn": 12.34, "update": 1.234},
)
MACHINE = events.Machine(
    time=1789012345.1234567,
    card="GPU-12345678-1234-1234-1234-123456789012",
    card_used=1 << 40,
    card_total=1 << 40,
    utilisation=100,
    power=1234.567,
    power_limit=1234.567,
    temperature=100,
    temperature_limit=100,
    throttled=("thermal", "power", "hardware", "sync"),
    run_memory=1 << 45,
    host_used=1 << 45,
    host_total=1 << 45,
    disk_free=1 << 50,
)


class OldStep(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="step"):
    """As the first engine told it."""

    step: int
    loss: float
    losses: tuple[float, ...] = ()
    updates: dict[str, float] = {}
    time: float = 0.0


class OldPhase(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="phase"):
    name: str


OLD = msgspec.json.Decoder(OldStep | OldPhase)


def test_an_older_app_reads_a_newer_step_and_passes_over_what_it_does_not_know():
    old = OLD.decode(events.encode(STEP))
    assert (old.step, old.loss, old.updates) == (STEP.step, STEP.loss, STEP.updates)
    with pytest.raises(msgspec.ValidationError):  # which its reader takes for an event of a later protocol
        OLD.decode(events.encode(MACHINE))
    assert events.is_whole(events.encode(MACHINE))


def test_an_older_step_has_spent_nothing_and_a_machine_of_few_words_says_no_more():
    fields = msgspec.json.decode(events.encode(STEP))
    del fields["spent"]
    assert events.decode(msgspec.json.encode(fields)) == msgspec.structs.replace(STEP, spent={})
    assert events.decode(b'{"event":"machine","disk_free":5,"later":[1]}') == events.Machine(disk_free=5)


def test_both_survive_their_lines():
    for event in (STEP, MACHINE):
        assert events.decode(events.encode(event)) == event


def step_of(samples: int, least: float, most: float) -> events.Step:
    source = random.Random(samples)
    losses = tuple(float(f"{source.uniform(least, most):.5g}") for _ in range(samples))
    timesteps = tuple(source.randrange(100, 1000) for _ in range(samples))
    return msgspec.structs.replace(STEP, losses=losses, timesteps=timesteps)


@pytest.mark.parametrize("samples", [1, 64, 256])
def test_usual_samples_fit_a_line(samples: int):
    step = step_of(samples, 0.001, 0.9)
    assert events.fitting(step) is step and len(events.encode(step)) < events.LONGEST_LINE


def test_samples_that_do_not_fit_are_left_out_and_the_step_is_told():
    long = step_of(256, 1e-5, 1e-4)
    told = events.fitting(msgspec.structs.replace(long, time=0.0))
    assert told == msgspec.structs.replace(long, time=0.0, losses=(), timesteps=())


def test_no_step_at_the_limit_is_too_long_once_it_is_stamped():
    for samples in range(150, 257):
        unstamped = msgspec.structs.replace(step_of(samples, 1e-5, 1e-4), time=0.0)
        stamped = msgspec.structs.replace(events.fitting(unstamped), time=STEP.time)
        assert len(events.encode(stamped)) <= events.LONGEST_LINE


def test_the_longest_machine_fits_a_line():
    assert len(events.encode(MACHINE)) < 600
