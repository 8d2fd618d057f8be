"""A run of days, written in a second: a quarter of a million steps of one sample each."""

import fake_run
import msgspec

from engine.contract import events

STEPS = 250_000
STARTED = fake_run.START + 40


def write(run, steps=STEPS, *, upto=None):
    """Steps from 1 to `upto`, or all, a second each; a loss for every number of four digits."""
    told = msgspec.structs.replace(
        fake_run.step(1, at=1.0), loss=0.0625, updates={}, timesteps=(777,), losses=(0.0625,), spent={}
    )
    line = events.encode(told)
    assert line.count(b"0.0625") == 2 and line.count(b"777") == 1
    before, after = line.replace(b"777", b"%(t)d").replace(b"0.0625", b"0.%(l)04d").split(b'"step":1,')
    form = before.replace(b'"time":1.0', b'"time":%(at)d.0') + b'"step":%(n)d,' + after
    with run.events.open("ab") as file:
        file.write(events.encode(fake_run.started(run, steps=steps)))
        file.write(events.encode(events.Phase(time=STARTED, name="train", step=0)))
        block = []
        for number in range(1, (upto or steps) + 1):
            values = {b"at": STARTED + number, b"n": number, b"t": number * 7919 % 1000, b"l": number * 31 % 9973 + 1}
            block.append(form % values)
            if len(block) == 10_000:
                file.write(b"".join(block))
                block.clear()
        file.write(b"".join(block))
