"""Measuring a card, where there is none; the rest is in tests/gpu."""

import os
from pathlib import Path

import pytest
import torch

from engine import __main__
from engine.contract.card_rates import Rates
from engine.run.bench import bench, table

without_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")


def told(path: Path | None) -> tuple[int, str]:
    reading, writing = os.pipe()
    code = bench(path, writing)
    with os.fdopen(reading) as stream:
        return code, stream.read()


@without_card
def test_without_a_card_it_says_so_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    code, text = told(None)
    assert code == 2 and text.startswith("There is no NVIDIA card to measure") and text.count("\n") == 1
    assert not (tmp_path / "data").exists()


@without_card
def test_a_card_that_is_named_but_not_there_is_no_crash(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('model.base = "a.safetensors"\nmemory.device = "cuda:1"\n[[data.folders]]\npath = "p"\n')
    code, text = told(path)
    assert code == 2 and "torch sees no NVIDIA card" in text
    path.write_text("memory.device = 3\n")
    code, text = told(path)
    assert code == 2 and "memory.device" in text


def test_it_can_be_asked_for():
    assert __main__._parse(["bench"]).profile is None
    assert __main__._parse(["bench", "p.toml"]).profile == Path("p.toml")


def test_the_table_has_units():
    lines = table(Rates("Some Card", 25.5e12, 306e9, 24.5e9, 23e9, 17.04e9))
    assert lines[0].startswith("card            Some Card, driver ")
    assert lines[1:] == [
        "bf16 products   25.5 TFLOP/s",
        "its memory      306.0 GB/s",
        "from the host   24.5 GB/s",
        "to the host     23.0 GB/s",
        "both at once    17.0 GB/s each way",
    ]
