"""A log as a terminal would have shown it, and finding in it."""

import random
import re
import time

import pyte
import pytest

from aozora_tui.log_text import CHUNK, LogText, Tail, pattern_of, shown
from aozora_tui.log_times import LogTimes


def in_a_terminal(raw):
    screen = pyte.Screen(400, 2)
    pyte.Stream(screen).feed(raw.decode("utf-8", "replace"))
    return screen.display[0].rstrip()


def whole(path, limit=1 << 20):
    text = LogText(path)
    while text.read(limit):
        pass
    return text


def test_a_line_is_what_a_terminal_has_in_the_end():
    made = random.Random(3)
    pieces = [b"\r", b"\b", b"\t", b"\x1b[K", b"\x1b[1K", b"\x1b[2K", b"\x1b[31m", b"\x1b[0m", b"\x1b[5G", b"\x1b[3C"]
    pieces += [b"\x1b[2D", b"loading", " é漢".encode()[:3], b"100%|####  |", b" ", b"x"]
    for _ in range(1500):
        raw = b"".join(made.choice(pieces) for _ in range(made.randrange(14)))
        assert shown(raw + b"\n") == in_a_terminal(raw), raw


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"  3%|3  | 1/30\r100%|##########| 30/30\n", "100%|##########| 30/30"),
        (b"a long first state\rshort\n", "shortg first state"),
        (b"a long first state\r\x1b[Kshort\n", "short"),
        (b"inner 10%\x1b[A\router 5%\n", "outer 5%%"),
        (b"\x1b]0;a title\x07words\n", "words"),
        (b"\x1b]0;never ended", ""),
        (b"\xff\xfe broken\n", "\ufffd\ufffd broken"),
        (b"dos\r\n", "dos"),
        (b"a\xc2\xa0b\xe2\x80\xaec\n", "a b\ufffdc"),
        (b"\x1b[99999999999Cfar", " far"),
    ],
)
def test_what_libraries_write(raw, line):
    assert shown(raw) == line


def test_it_grows_as_the_file_does_and_a_shorter_file_is_another_one(tmp_path):
    path = tmp_path / "log.txt"
    text = LogText(path)
    assert not text.read() and len(text) == 0
    path.write_bytes(b"one\ntw")
    assert text.read() and text.lines(0, 9) == ["one", "tw"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert text.read() and text.lines(0, 9) == ["one", "two"]
    assert not text.read()
    with path.open("ab") as file:
        file.write(b"\nfour\n")
    assert text.read() and text.lines(1, 2) == ["two", ""] and text.lines(3, 5) == ["four"]
    path.write_bytes(b"new\n")
    text.read()
    text.read()
    assert text.lines(0, 9) == ["new"]
    path.unlink()
    assert text.read() and len(text) == 0 and text.lines(0, 3) == []


def test_however_it_is_read_the_lines_and_their_levels_are_the_same(tmp_path):
    path = tmp_path / "log.txt"
    made = random.Random(5)
    words = [b"x" * 7, b"WARNING: slow", b"UserWarning: old", b"ValueError: no", b"error: bad", b"", b"terror", b"a\rb"]
    path.write_bytes(b"\n".join(made.choice(words) for _ in range(400)))
    once = whole(path)
    lines = path.read_bytes().split(b"\n")
    assert once.lines(0, 1000) == [shown(line) for line in lines]
    loud = {b"WARNING: slow": 1, b"UserWarning: old": 1, b"ValueError: no": 2, b"error: bad": 2}
    assert list(once.levels) == [loud.get(line, 0) for line in lines]
    for limit in (1, 13, 64):
        again = whole(path, limit)
        assert (again.starts, again.end) == (once.starts, once.end)


@pytest.mark.parametrize(("words", "line"), [("needle", 1700), ("NEEDLE", None), ("ne+dle$", 1700), ("(unclosed", 3)])
def test_finding_goes_round_both_ends(tmp_path, words, line):
    path = tmp_path / "log.txt"
    lines = [f"line {index}" for index in range(2 * CHUNK + 7)]
    lines[1700], lines[3] = "the Needle", "(unclosed"
    path.write_text("\n".join(lines))
    text = whole(path)
    for start in (0, 1699, 1700, 1701, len(lines) - 1):
        for back in (False, True):
            assert text.find(pattern_of(words), start, back=back) == line
    assert text.count(pattern_of(words)) == ([] if line is None else [line])
    assert text.find(pattern_of(words), 0, back=False, wanted=lambda: False) is None


def test_next_and_before_find_each_line_once(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("\n".join("hit" if index % 5 == 0 else "no" for index in range(50)))
    text, pattern = whole(path), re.compile("hit", re.MULTILINE)
    seen, at = [], -1
    for _ in range(10):
        at = text.find(pattern, at + 1, back=False)
        seen.append(at)
    assert seen == list(range(0, 50, 5))
    assert text.find(pattern, 44, back=True) == 40 and text.find(pattern, 46, back=False) == 0


def test_a_progress_bar_of_days_is_one_line_that_is_not_read_whole(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"begin\n" + b"".join(b"\r%6d/250000" % step for step in range(250_000)) + b"\nend\n")
    text = whole(path)
    began = time.process_time()
    assert text.lines(0, 3) == ["begin", "249999/250000", "end"]
    assert time.process_time() - began < 0.1
    assert Tail(path).read(2) == ["249999/250000", "end"]


def test_three_hundred_thousand_lines_are_taken_in_and_searched_in_little_time(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(
        "".join(f"2026-01-01 12:00:00 INFO step {index} of something that logs\n" for index in range(300_000))
    )
    began = time.process_time()
    text = whole(path)
    assert len(text) == 300_000
    assert text.find(pattern_of("step 299999"), 0, back=False) == 299_999
    assert text.lines(150_000, 40)[0].endswith("step 150000 of something that logs")
    assert time.process_time() - began < 3  # 0.6 s where nothing else runs


def test_the_tail_says_only_what_is_new(tmp_path):
    path = tmp_path / "log.txt"
    tail = Tail(path, window=16)
    assert tail.read(3) is None
    path.write_text("one\n\ntwo\nthree")
    assert tail.read(2) == ["two", "three"]
    assert tail.read(2) is None


def test_times_are_those_of_the_next_mark():
    times = LogTimes()
    for size, at in ((100, 1.0), (100, 2.0), (300, 3.0)):
        times.add(size, at)
    assert [times.at(offset) for offset in (1, 100, 101, 300, 301)] == [1.0, 1.0, 3.0, 3.0, None]
    times.add(50, 9.0)
    assert times.at(50) == 9.0 and times.at(51) is None
