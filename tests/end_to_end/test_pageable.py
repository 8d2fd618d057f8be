"""Page-locked memory that is refused: the run goes on, and says what that costs."""

from pathlib import Path

import pytest
import torch

from engine.contract import events
from engine.optim.slabs import Slabs
from engine.run.assemble import warn_of_pageable
from tests.end_to_end.harness import of_type, session_in


def test_a_refusal_is_told_once_and_ordinary_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Slabs, "refused", False)
    session = session_in(tmp_path)
    warn_of_pageable(session)
    assert of_type(session.run, events.Warned) == []
    zeros = torch.zeros

    def refusing(*sizes: int, pin_memory: bool = False, **options: object) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return zeros(*sizes, **options)

    monkeypatch.setattr(torch, "zeros", refusing)
    slabs = Slabs(page_locked=True)
    assert slabs.zeros(3, torch.float32).tolist() == [0, 0, 0] and not slabs.page_locked
    warn_of_pageable(session)
    (warned,) = of_type(session.run, events.Warned)
    assert warned.code == "pageable" and "ulimit" in warned.remedy
