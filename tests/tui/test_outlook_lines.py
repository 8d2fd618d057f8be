"""The plan and the hours, in lines and beside the form."""

import json
import re
from dataclasses import replace

import fake_checkpoint
import pytest
from PIL import Image

from aozora_tui import cli, plain
from aozora_tui.cards import cards, usable
from aozora_tui.screens.profile_text import forecast_text
from engine.contract import events
from engine.contract.budget import Forecast
from engine.contract.card_rates import Rates
from engine.contract.nvml_reading import Reading
from engine.contract.outlook import Card, Outlook
from engine.contract.plans import Choice
from engine.contract.sections import Memory, Train

GIB = 1 << 30
COST = Forecast(
    trained=500,
    total=1000,
    weights=5 * GIB,
    gradients=GIB,
    optimizer=0,
    activations=0,
    overhead=GIB,
    host=2 * GIB,
    checkpoint=10**9,
    export=7 * 10**9,
    disk=9 * 10**9,
    choice=Choice("fast", keep=58),
)
RATES = Rates("Some Card", 1.0, 1.0, 1.0, 1.0, 1.0)
AHEAD = Outlook(COST, "fast with keep = 58 fits", 94.4, RATES, 64 * GIB)
READING = Reading(0, "Some Card", "u", "580", 1, 12 * GIB, 11 * GIB, None, 0, 1.0, 2.0, 40)


@pytest.mark.parametrize(
    ("source", "said"), [("measured", "was measured"), ("published", "engine bench"), ("guessed", "guessed")]
)
def test_hours_say_what_they_rest_on(source, said):
    rates = replace(RATES, source=source)
    lines = plain.outlook(replace(AHEAD, rates=rates), Train(steps=3906, accumulate=64))
    assert lines[0] == "plan           fast with keep = 58 fits"
    assert lines[1].startswith("time           about 94 hours for 3906 x 64 pictures (") and said in lines[1]
    assert len(lines) == 2


def test_without_a_card_there_are_no_hours_and_unknown_host_memory_is_said():
    lines = plain.outlook(replace(AHEAD, hours=None, rates=None, host_free=None), Train())
    assert len(lines) == 2 and "cannot be read here" in lines[1]


@pytest.mark.parametrize(("hours", "said"), [(0.2, "12 minutes"), (1.26, "1.3 hours"), (9.6, "10 hours")])
def test_short_times_are_minutes(hours, said):
    assert f"about {said} for" in plain.outlook(replace(AHEAD, hours=hours), Train())[1]


def test_the_forms_line_has_the_plan_at_every_width_and_the_hours_and_gives_up_the_disk_first():
    wide, narrow = (forecast_text(AHEAD, 12 * GIB, width).plain for width in (118, 78))
    assert "plan fast   card 7.0/12.0 GiB   " in wide and wide.endswith("   time 94.4 h   disk 9 GB")
    assert len(wide) <= 118
    assert "plan fast  card 7.0/12.0 GiB  " in narrow and "time 94.4 h" in narrow and len(narrow) <= 78
    guessed = replace(AHEAD, rates=replace(RATES, source="guessed"))
    assert "time ~94.4 h" in forecast_text(guessed, None, 118).plain
    assert "time" not in forecast_text(replace(AHEAD, hours=None), None, 118).plain


@pytest.mark.parametrize("plan", ["stage-major with group = 2 fits", "none fits"])
def test_the_forms_line_never_cuts_the_plan_and_its_figure(plan):
    big = replace(
        COST, trained=2_567_463_684, total=2_567_463_684, weights=110 * GIB, host=100 * GIB, disk=123_000_000_000
    )
    ahead = replace(AHEAD, cost=replace(big, choice=Choice("stage-major", group=2)), plan=plan)
    said = forecast_text(ahead, 100 * GIB, 78).plain
    assert len(said) <= 78 and "card 112.0/100.0 GiB !" in said and "host 100.0 GiB" in said
    assert "time 94.4 h" in said and "disk" not in said
    assert ("no plan fits" if plan == "none fits" else "stage-major") in said


def test_a_card_that_nobody_knows_has_no_plan_yet():
    assert "plan" not in forecast_text(AHEAD, None, 118).plain


def test_a_run_may_use_its_limit_of_the_card_that_it_names():
    both = (Card("a", 12 * GIB), Card("b", 24 * GIB))
    assert usable(Memory(), both) == 12 * GIB
    assert usable(Memory(device="cuda:1"), both) == 24 * GIB
    assert usable(Memory(device="cuda:1", limit=3), both) == 3 * GIB
    assert usable(Memory(limit=80), both) == 12 * GIB
    assert usable(Memory(limit=3), ()) == 3 * GIB
    assert usable(Memory(device="cuda:2"), both) is None and usable(Memory(device="cpu", limit=3), both) is None


def test_cards_of_which_the_driver_says_too_little_are_none():
    assert [card.free for card in cards((READING,))] == [11 * GIB]
    assert cards((replace(READING, memory_free=None), READING)) == ()
    assert [card.free for card in cards((READING,), emptied=True)] == [12 * GIB]
    assert cards((replace(READING, memory_total=None), READING), emptied=True) == ()


def test_the_plan_of_a_start_is_a_line():
    event = events.Planned(plan="fast", checkpointing=True, keep=58, group=1, why="fast fits", host=1, room=2, needs=1)
    _, lines = plain.fold(plain.View("run"), event)
    assert lines == ["plan fast fits"]
    on_processor = events.Planned(plan="plain", checkpointing=True, keep=0, group=1, why="w", host=1)
    assert plain.fold(plain.View("run"), on_processor)[1] == []


@pytest.fixture
def profile(tmp_path):
    base = fake_checkpoint.write(tmp_path / "base.safetensors")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    path = tmp_path / "mine.toml"
    tokenizer = fake_checkpoint.write_tokenizer(tmp_path / "tokenizer")
    path.write_text(
        f'model.base = "{base}"\nmodel.tokenizer = "{tokenizer}"\n[save]\nkeep = 1\n[memory]\nplan = "plain"\n'
        f'[[data.folders]]\npath = "{pictures}"\n'
    )
    return path


def test_check_names_plan_and_hours_in_its_lines_and_its_document(profile, capsys, monkeypatch):
    big = replace(READING, name="NVIDIA H100 80GB HBM3", memory_free=79 * GIB)
    monkeypatch.setattr("engine.contract.nvml.read_all", lambda pid=None: (big,))
    cli.main(["check", str(profile)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("plan           plain with checkpointing fits 78.5 GiB of the card") for line in lines)
    assert any(line.startswith("time           about ") and "published" in line for line in lines)
    cli.main(["check", str(profile), "--json"])
    found = json.loads(capsys.readouterr().out)["forecast"]
    assert found["rates"] == "published" and found["hours"] > 0 and found["choice"]["plan"] == "plain"


def test_check_warns_of_a_card_that_is_full(profile, capsys, monkeypatch):
    monkeypatch.setattr("engine.contract.nvml.read_all", lambda pid=None: (replace(READING, memory_free=2 * GIB),))
    profile.write_text(profile.read_text().replace('"plain"', '"auto"'))
    cli.main(["check", str(profile), "--json"])
    found = json.loads(capsys.readouterr().out)
    (warning,) = (problem for problem in found["problems"] if problem["path"] == "memory.plan")
    assert warning["severity"] == "warning" and "no plan fits the 1.5 GiB of the card" in warning["text"]
    assert found["ok"] and found["forecast"]["plan"] == "none fits"
    cli.main(["check", str(profile)])
    told = capsys.readouterr()
    assert "no plan fits the 1.5 GiB" in told.err


def test_check_where_nothing_fits_tells_the_needs_of_the_leanest_plan(profile, capsys, monkeypatch):
    monkeypatch.setattr("engine.contract.nvml.read_all", lambda pid=None: (READING,))
    profile.write_text(profile.read_text().replace('"plain"', '"auto"\nlimit = 3.0'))
    cli.main(["check", str(profile), "--json"])
    found = json.loads(capsys.readouterr().out)
    (warning,) = (problem for problem in found["problems"] if problem["path"] == "memory.plan")
    first = re.search(r"may use: (.+?) needs ([0-9.]+) GiB", warning["text"])  # sorted by their needs
    least = found["forecast"]
    assert least["choice"]["plan"] == "stage-major" and first[1].startswith("stage-major")
    assert f"{least['device'] / GIB:.1f}" == first[2]
    cli.main(["check", str(profile)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"device memory  {least['device'] / GIB:.2f} GiB") for line in lines)
    said = " ".join(" ".join(lines).split())
    assert f"plan none fits: the leanest, {first[1]}, needs what stands above" in said


def test_check_without_a_card_says_that_it_cannot_say(profile, capsys, monkeypatch):
    monkeypatch.setattr("engine.contract.nvml.read_all", lambda pid=None: ())
    profile.write_text(profile.read_text().replace('"plain"', '"auto"'))
    cli.main(["check", str(profile)])
    out = capsys.readouterr().out
    assert "plan           chosen when the run starts: there is no card here" in out and "\ntime " not in out
