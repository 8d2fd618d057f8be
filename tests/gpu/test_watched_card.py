"""What a card tells of itself, and how long it stood still."""

import time
from pathlib import Path

import pytest
import torch

from engine.run.base import use
from engine.run.machine import Lookout, uuid_of
from engine.run.windows import Standstill

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]
CARD = torch.device("cuda", 0)
WAIT = 0.2  # seconds for which a slow disk is waited for
BUSY = 4_000_000_000  # cycles: 2 s at 2 GHz


def wait() -> None:
    ends = time.monotonic() + WAIT
    while time.monotonic() < ends:
        pass


def test_waiting_counts_where_the_card_has_nothing_to_do_and_not_where_it_is_busy():
    use(CARD)
    torch.cuda.synchronize(CARD)
    idle, busy = Standstill(CARD), Standstill(CARD)
    with idle.waiting():
        wait()
    torch.cuda._sleep(BUSY)
    with busy.waiting():
        wait()
    assert idle.seconds() == pytest.approx(WAIT, rel=0.2) and busy.seconds() < 0.1 * WAIT


def test_the_card_that_torch_computes_on_is_found_by_its_uuid(tmp_path: Path):
    use(CARD)
    held = torch.zeros(1 << 28, device=CARD)
    with Lookout(tmp_path, uuid_of(CARD)) as lookout:
        told = lookout.due()
    assert told is not None and told.card.startswith("GPU-")
    total = torch.cuda.get_device_properties(CARD).total_memory
    assert told.card_total == pytest.approx(total, rel=0.05) and told.card_used > held.nbytes
    assert told.power is not None and told.temperature is not None and told.utilisation is not None
