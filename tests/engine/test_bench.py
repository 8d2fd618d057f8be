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


def test_what_is_no_file_is_refused():
    code, text = told(Path("/dev/zero"))
    assert code == 2 and "is not a file" in text


def test_a_profile_of_the_processor_is_named_as_such(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('model.base = "a.safetensors"\nmemory.device = "cpu"\n[[data.folders]]\npath = "p"\n')
    code, text = told(path)
    assert code == 2 and "names the processor" in text and text.count("\n") == 1


RATES = Rates("Some Card", 25.5e12, 306e9, 24.5e9, 23e9, 17.04e9)


@pytest.fixture
def card(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("engine.run.base.pick_device", lambda wanted: torch.device("cuda", 0))
    monkeypatch.setattr("engine.run.bench.measure", lambda device: RATES)
    return tmp_path / "data"


@pytest.mark.parametrize("kind", [RuntimeError, torch.AcceleratorError])
def test_a_broken_driver_is_one_sentence(card: Path, monkeypatch, kind: type[Exception]):
    def broken(device: torch.device) -> Rates:
        raise kind("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr("engine.run.bench.measure", broken)
    code, text = told(None)
    assert code == 2 and "aozora-tui doctor" in text and "launch failure" in text and text.count("\n") == 1


def test_what_was_measured_is_told_even_if_it_cannot_be_noted(card: Path):
    card.write_text("no folder")
    code, text = told(None)
    assert code == 1 and "25.5 TFLOP/s" in text and "could not be noted" in text.splitlines()[-1]


def test_a_file_that_cannot_be_read_is_put_aside_and_said(card: Path):
    card.mkdir()
    (card / "cards.json").write_text("{")
    code, text = told(None)
    assert code == 0 and "could not be read" in text and text.splitlines()[-1].startswith("noted in ")
    assert len(list(card.iterdir())) == 2


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
