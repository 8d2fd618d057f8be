"""What `check` says a start would do here."""

import msgspec
import pytest

from engine.contract import host_memory
from engine.contract.budget import GIB, Forecaster
from engine.contract.check import check_machine
from engine.contract.layers import Layer, read_layers
from engine.contract.outlook import Card, Outlook, look_ahead
from engine.contract.places import shipped_profiles_folder
from engine.contract.plans import Choice
from engine.contract.profile import load
from engine.contract.safetensors_header import Header
from tests.engine.sdxl import published

COMMON = Card("NVIDIA GeForce RTX 3060", 12 * GIB)


@pytest.fixture(scope="module")
def header() -> Header:
    return published()


@pytest.fixture(scope="module")
def sdxl(header: Header) -> Layer:
    return read_layers(header)


@pytest.fixture(autouse=True)
def _much_host_memory(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(host_memory, "available", lambda: 64 * GIB)
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path))  # where no card was measured


@pytest.fixture
def ahead(sdxl: Layer, header: Header):
    def look(cards: tuple[Card, ...] = (), **memory: object) -> Outlook:
        profile = load(shipped_profiles_folder() / "whole-unet.toml")
        profile = msgspec.structs.replace(profile, memory=msgspec.structs.replace(profile.memory, **memory))
        return look_ahead(profile, Forecaster(profile, sdxl, frozenset(sdxl.tensors), header), cards)

    return look


def test_with_a_card_it_says_the_plan_the_budget_and_the_hours(ahead):
    found = ahead((COMMON,))
    assert found.cost.choice.plan == "fast" and "fits 11.5 GiB" in found.plan and not found.problems
    seconds = found.hours * 3600 / 2000 / 32  # whole-unet.toml: 2,000 steps of 32 pictures
    assert seconds == pytest.approx(1.25, rel=0.1) and found.rates.source == "published"


def test_of_several_cards_the_one_that_is_named_counts(ahead):
    cards = (COMMON, Card("NVIDIA H100 80GB HBM3", 79 * GIB))
    assert ahead(cards, device="cuda:1").cost.choice == Choice("plain", checkpointing=False)
    assert ahead(cards, device="cuda").cost.choice.plan == ahead(cards).cost.choice.plan == "fast"
    found = ahead(cards, device="cuda:2")
    assert found.hours is None and "there are 2 cards" in found.plan and "there is no card here" not in found.plan
    assert "there is one card" in ahead((COMMON,), device=f"cuda:{'9' * 5000}").plan
    assert "there is no card here" in ahead((COMMON, Card("", None)), device="cuda:1").plan  # it does not say


def test_without_a_card_only_a_limit_tells(ahead):
    found = ahead()
    assert "there is no card here to ask" in found.plan and found.hours is None and not found.problems
    found = ahead(limit=12.0)
    assert found.cost.choice.plan == "fast" and "12.0 GiB" in found.plan
    assert found.hours > 0 and found.rates.source == "guessed"
    found = ahead(plan="resident")
    assert found.cost.choice == Choice("resident") and found.hours is None


def test_on_the_processor_there_is_no_card_to_fit(ahead):
    found = ahead((COMMON,), device="cpu")
    assert found.cost.choice.plan == "plain" and "processor" in found.plan and found.hours is None


def test_what_fits_nowhere_is_a_warning_with_all_figures(ahead):
    found = ahead((Card("a card", 2 * GIB),))
    (problem,) = found.problems
    assert (problem.path, problem.severity) == ("memory.plan", "warning")
    assert "no plan fits the 1.5 GiB" in problem.text and "stage-major" in problem.text and problem.remedy
    (problem,) = ahead((Card("a card", 6 * GIB),), plan="plain").problems
    assert "plain with checkpointing needs about" in problem.text


def test_too_little_host_memory_is_a_warning_and_none_known_is_no_check(ahead, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host_memory, "available", lambda: 4 * GIB)
    for found in (ahead((COMMON,), plan="resident"), ahead(plan="resident"), ahead(device="cpu")):
        (problem,) = (each for each in found.problems if "GiB of host memory, 4.0 are free" in each.text)
        assert "optimizer.master" in problem.remedy and "memory.limit" not in problem.remedy
        assert 'plan = "auto"' not in problem.remedy and "on the card" not in problem.remedy
    monkeypatch.setattr(host_memory, "available", lambda: None)
    found = ahead((COMMON,), plan="resident")
    assert found.host_free is None and not found.problems


def test_a_card_that_is_not_there_is_an_error(tmp_path):
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    for device, count in (("cuda:1", 1), ("cuda:0", 0), ("cuda", 0), ("auto", 0), ("cpu", 0)):
        memory = msgspec.structs.replace(profile.memory, device=device)
        problems = check_machine(msgspec.structs.replace(profile, memory=memory), tmp_path, cards=(COMMON,)).problems
        found = [problem for problem in problems if problem.path == "memory.device"]
        assert len(found) == count and all(problem.severity == "error" for problem in found)
    memory = msgspec.structs.replace(profile.memory, device="cuda:1")
    problems = check_machine(msgspec.structs.replace(profile, memory=memory), tmp_path).problems
    assert not [problem for problem in problems if problem.path == "memory.device"]
