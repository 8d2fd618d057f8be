"""A card in words, and whose processes use it."""

from dataclasses import replace

import pytest

from aozora_tui import card_words
from aozora_tui.card_owners import owners
from engine.contract.nvml_reading import Process, Reading, Slice
from tests.engine.fake_nvml import GIB, FakeNvml, connect

(READING,) = connect(FakeNvml()).read_all()
NOTHING = Reading(index=3)


def said(reading, owned=()):
    return [text for _, text in card_words.lines(reading, dict(owned))]


def test_everything_that_is_known_is_a_line():
    assert card_words.lines(READING, {42: "run eel-1"}) == [
        ("memory", "7.0 of 12.0 GiB in use: 3.0 by runs, 4.0 by others; 5.0 free"),
        ("utilisation", "87 %, its memory 40 %"),
        ("power", "152 of 200 W"),
        ("temperature", "64 C, slows itself down at 93"),
        ("clocks", "SM 1875 of 3105 MHz, memory 10251 of 10501 MHz, state P2"),
        ("slowed down", "by its power limit"),
        ("fan", "55 %"),
        ("PCIe", "generation 3 x8 (of 4 x16), 2.0 MiB/s in, 3.0 KiB/s out"),
        ("process", "run eel-1  pid 42  3.0 GiB  python3"),
        ("process", "pid 7  n/a  a process of another container or user"),
    ]


def test_what_a_driver_does_not_tell_is_not_made_up():
    assert said(NOTHING)[0].startswith("n/a: the driver does not tell")
    assert said(NOTHING)[1:] == [
        "n/a, its memory n/a",
        "n/a",
        "n/a",
        "SM n/a, memory n/a",
        "n/a",
        "n/a",
        "n/a",
    ]
    assert card_words.brief(NOTHING) == ["n/a", "n/a", "n/a", "n/a", ""]
    assert card_words.title(NOTHING) == "GPU 3  a card without a name"


def test_whose_memory_it_is_is_told_only_where_somebody_knows():
    assert card_words.split(READING, None) == card_words.Split(None, 7 * GIB, 5 * GIB, 12 * GIB)
    assert card_words.split(READING, 3 * GIB) == card_words.Split(3 * GIB, 4 * GIB, 5 * GIB, 12 * GIB)
    # What the driver counts a moment later may be less than what the process holds.
    assert card_words.split(READING, 8 * GIB).others == 0
    assert card_words.held(READING, {}) is None and card_words.held(READING, {7: "this run"}) is None
    both = {42: "this run", 9: "run b"}
    reading = replace(READING, processes=(*READING.processes, Process(9, GIB, None)))
    assert card_words.held(reading, both) == 4 * GIB and card_words.held(reading, both, "this run") == 3 * GIB


def test_a_divided_card_says_into_what():
    parts = (Slice(0, "NVIDIA H100 3g.40gb", "MIG-1", 7 * GIB, 40 * GIB), Slice(1, None, None))
    assert card_words.divided(parts) == "by MIG into 3g.40gb 7.0 of 40.0 GiB, part 1"
    assert "without a part" in card_words.divided(())


@pytest.mark.parametrize(
    ("reasons", "words"),
    [((), "no"), (None, "n/a"), (("thermal", "power"), "by heat and its power limit"), (("sun",), "by sun")],
)
def test_what_slows_a_card_down_is_in_words(reasons, words):
    assert card_words.slowed(replace(READING, throttled=reasons)) == words


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/usr/bin/python3", "python3"),
        ("/opt/blender/blender -b scene.blend", "blender"),
        ("C:\x1b[2J", "C:\\x1b[2J"),
        ("", "a process of another container or user"),
    ],
)
def test_a_program_is_named_by_its_file_and_steers_no_terminal(name, shown):
    assert card_words.program(Process(1, None, name)) == shown


def test_a_process_belongs_to_the_run_that_it_descends_from(tmp_path):
    def process(pid, parent, name="python3"):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {pid} 0 -1")

    process(100, 1)
    process(101, 100, "a (b) S 7 c")
    process(102, 101)
    process(200, 1)
    process(300, 300)  # no such thing, but nothing may loop
    found = owners((100, 101, 102, 200, 300, 999), {100: "this run"}, tmp_path)
    assert found == {100: "this run", 101: "this run", 102: "this run"}
