"""What the forecasts of time rest on, measured. `pytest -m gpu -s tests/gpu/test_bench.py` prints it."""

import time

import pytest
import torch

from engine.contract import card_rates
from engine.run.bench import measure, table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
]


def test_a_card_is_measured_in_a_few_seconds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path))
    began = time.monotonic()
    rates = measure(torch.device("cuda"))
    assert time.monotonic() - began < 20
    assert 1e12 < rates.products < 5e15 and 5e10 < rates.memory < 2e13
    assert 5e8 < rates.both <= 1.05 * max(rates.up, rates.down) < 5e11
    card_rates.keep(rates)
    assert card_rates.rates_of(rates.card) == rates
    with capsys.disabled():
        print("\n" + "\n".join(table(rates)))  # noqa: T201 - the figures are what this test is run for
