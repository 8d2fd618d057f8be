"""Days of a run are read soon, in little room, and without freezing a screen."""

import json
import subprocess
import sys
from collections import deque
from itertools import pairwise
from pathlib import Path

import fake_run
import long_run
import msgspec
import pytest
import seen

from aozora_tui.app import AozoraApp
from aozora_tui.reading import TURN, Reading
from aozora_tui.run_state import RunState
from engine.contract import events
from engine.contract.rundir import RunDir

ROOT = Path(__file__).parents[2]
SECONDS, BYTES = 1.0, 60 << 20
# In a process of its own, which nobody else has filled or warmed.
MEASURE = """
import json, sys, time
from collections import deque
from pathlib import Path
from aozora_tui.reading import Reading
from engine.contract.rundir import RunDir

run = RunDir(Path(sys.argv[1]))
with run.events.open("rb") as file:
    lines = [file.readline() for _ in range(10_000)]
began = time.process_time()
for line in lines:
    json.loads(line)
plain = (time.process_time() - began) * 25
reading, queue = Reading(run), deque()
began = time.process_time()
reading.read(lambda *call: queue.append(call))
while reading.share is not None:
    call, *arguments = queue.popleft()
    call(*arguments)
took = time.process_time() - began
steps = len(reading.state.history.steps)
(most,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(json.dumps({"took": took, "plain": plain, "most": int(most) << 10, "steps": steps}))
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    run = fake_run.make(tmp_path_factory.mktemp("long"), "cat-20231114-221320")
    long_run.write(run)
    return run


def read_all(reading, after_turn=lambda: None):
    """Turn by turn, as an event loop would."""
    queue = deque()
    reading.read(lambda *call: queue.append(call))
    after_turn()
    while queue:
        call, *arguments = queue.popleft()
        call(*arguments)
        after_turn()


def test_a_quarter_of_a_million_steps_are_there_in_a_second_and_take_little_room(long):
    assert long.events.stat().st_size > 70e6
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, str(long.path)], cwd=ROOT, capture_output=True, check=True, text=True
    )
    found = json.loads(told.stdout)
    assert found["steps"] == long_run.STEPS
    # Of processor time; on a slow machine less than the standard library takes to parse as many lines.
    assert found["took"] < max(SECONDS, 0.8 * found["plain"]), found
    assert found["most"] < BYTES, found


def test_no_turn_reads_more_than_its_share_and_what_is_left_is_told(long):
    shares, offsets = [], [0]
    reading = Reading(long)

    def look():
        shares.append(reading.share)
        offsets.append(reading._tail.offset)

    read_all(reading, look)
    assert max(b - a for a, b in pairwise(offsets)) <= TURN
    told = [share for share in shares if share is not None]
    assert len(told) > 20 and told == sorted(told) and 0 < told[0] < 0.2 and told[-1] < 1
    assert shares[-1] is None and not reading.behind


def test_in_turns_and_all_at_once_are_the_same(tmp_path):
    run = fake_run.make(tmp_path, "cat-20231114-221320")
    at = fake_run.trained(run, 300)
    clipped = [
        msgspec.structs.replace(fake_run.step(n, at=at + 26 * n), clipped=True, grad_norm=9.0) for n in range(301, 700)
    ]
    fake_run.add(run, *clipped)
    whole, reading = RunState(), Reading(run)
    for event in events.Tail(run.events).read():
        whole.apply([event])
    read_all(reading)
    assert reading.state.findings == whole.findings
    assert "health-clipping" in [finding.code for finding in whole.findings]
    assert reading.state.notes == whole.notes and reading.state.pace == whole.pace
    for name, column in whole.history.steps.values.items():
        assert str(reading.state.history.steps[name]) == str(column)
    # What comes later is judged with what was there.
    fake_run.add(run, *[fake_run.step(n, at=at + 26 * n) for n in range(700, 900)])
    read_all(reading)
    assert reading.state.step == 899
    assert "health-clipping" not in [finding.code for finding in reading.state.findings]


def test_a_torn_line_costs_itself_alone(tmp_path):
    run = fake_run.make(tmp_path, "cat-20231114-221320")
    fake_run.add(run, fake_run.started(run), fake_run.step(1, at=1e9))
    with run.events.open("ab") as file:
        file.write(b'{"event":"step","st\n\n{"event":"of a later version","x":1}\n\xff\xfe\n')
    fake_run.add(run, fake_run.step(2, at=1e9 + 1))
    with run.events.open("ab") as file:
        file.write(b'{"event":"step","step":3')
    tail = events.Tail(run.events)
    assert [type(event).__name__ for event in tail.read()] == ["Started", "Step", "Step"]
    assert tail.unreadable == 2 and tail.left == 0
    reading = Reading(run)
    read_all(reading)
    assert reading.state.step == 2


class Keeping(seen.CountingDriver):
    """Keeps what goes to the terminal."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.written = []

    def write(self, data):
        super().write(data)
        self.written.append(data)


async def test_a_screen_says_how_far_it_has_read_and_then_shows_all_of_it(long):
    app = AozoraApp(RunDir(long.path), ticking=False, driver_class=Keeping)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.pause()
        frames = [index for index, data in enumerate(app._driver.written) if "reading" in data]
        assert frames, "nothing was said while it read"
        text = seen.text(app)
        assert "step 250,000/250,000" in text and "reading" not in text and "250k" in text.replace("250,000", "250k")
        assert app.screen.state.watch is not None
        app._driver.sent = 0
        app.tick()
        await pilot.pause()
        assert app._driver.sent == 0
        await pilot.press("c")
        await pilot.pause()
        assert app.screen.state.history.steps.steps[-1] == 250_000
        assert "loss by timestep" in seen.text(app)
