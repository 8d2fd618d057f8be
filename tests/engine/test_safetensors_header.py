"""Tables of contents made to confuse, to stall or to fill memory: each is refused in one sentence, and at once."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract.base_checkpoint import read_base
from engine.contract.safetensors_header import CheckpointError, read_header

SECONDS = 5  # far more than any of these takes; without their limits they take minutes


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"still busy after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """What is said of a file with this header, behind its name."""

    def read(text: str | bytes, data: bytes = b"") -> str:
        path, header = tmp_path / "model.safetensors", text.encode() if isinstance(text, str) else text
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)
        with pytest.raises(CheckpointError) as caught:
            read_header(path)
        said = str(caught.value)
        assert said.startswith(f"{path} ") and said.isprintable() and len(said) < len(str(path)) + 200
        return said.removeprefix(f"{path} ")

    return read


def entry(shape: str, end: int = 4) -> str:
    return f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, {end}]}}}}'


@pytest.mark.parametrize(
    "header",
    [
        r'{"__metadata__": {"x": "\ud800"}}',
        r'{"__metadata__": {"\udfff": "x"}}',
        r'{"evil\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"__metadata__": {"x": "\xed\xa0\x80"}}',
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_texts_that_are_not_unicode_are_refused(refused, header):
    assert "damaged header: it holds a text that is not" in refused(header) or "header is not JSON" in refused(header)


def test_a_pair_of_surrogates_is_one_letter(write_header):
    header = read_header(write_header({}, header={"__metadata__": {"x": "\U0001f600"}}, data=b""))
    assert "\\ud83d" in json.dumps("\U0001f600") and header.metadata == {"x": "\U0001f600"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (entry("[" + ",".join(["99999999999999999999"] * 400_000) + "]"), "has a shape of 400,000 dimensions"),
        (entry("[" + ",".join(["9" * 4299] * 3000) + "]"), "has a shape of 3,000 dimensions"),
        (entry(f"[1, {'9' * 4299}]"), "no natural number below 2^63"),
        (entry(f"[0, {'9' * 9000}]", 0), "has a damaged header: it holds a number of thousands of digits"),
        (entry("[1]", int("9" * 4299)), "no natural number below 2^63"),
        (entry(f"[0, {1 << 63}]", 0), "no natural number below 2^63"),
        (entry("[1,1,1,1,1,1,1,1,1]"), "has a shape of 9 dimensions"),
        (entry("[Infinity]"), "no natural number"),
        (entry("[1e400]"), "no natural number"),
        ('{"a": ' * 100_000, "is not a safetensors file: its header is not JSON"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "is not a safetensors file: its header is not JSON"),
    ],
)
def test_shapes_and_numbers_without_end_are_refused(refused, text, says):
    assert says in refused(text, bytes(4))


def test_the_largest_number_that_fits_is_still_one(write_header):
    table = {"a": {"dtype": "F32", "shape": [0, (1 << 63) - 1], "data_offsets": [0, 0]}}
    assert read_header(write_header({}, header=table, data=b"")).tensors["a"].shape == (0, (1 << 63) - 1)


def test_a_table_of_more_tensors_than_any_checkpoint_has_is_refused(refused):
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(f'"{number}":{empty}' for number in range(100_001)) + "}"
    assert refused(text) == "is not a checkpoint: its header names 100,001 tensors"


def test_a_header_larger_than_any_checkpoints_is_not_even_read(refused):
    said = refused('{"a":[' + "{}," * 6_000_000 + "{}]}")
    assert said == "is not a checkpoint: its header alone has 18,000,010 bytes"


def test_what_is_no_file_is_not_waited_for(tmp_path):
    pipe, service = tmp_path / "pipe.safetensors", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(service))
        for path in (pipe, service, Path("/dev/zero"), Path("/dev/null")):
            with pytest.raises(CheckpointError, match=r"is not a file but a device, a pipe or a socket$"):
                read_base(path)


@pytest.mark.parametrize("name", ["a\0b", "half\ud800"])
def test_a_path_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="names a file that cannot be") as caught:
        read_base(tmp_path / name)
    assert str(caught.value).isprintable()
