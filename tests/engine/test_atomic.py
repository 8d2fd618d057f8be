import os
import resource
import stat
from pathlib import Path

import pytest
from safetensors import safe_open

from engine.contract import atomic
from engine.contract.atomic import Entry, Interrupted, NoSpaceError, write_atomically, write_safetensors, write_text
from engine.contract.safetensors_header import read_header


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state.json"
    write_text(path, "old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_failed_check_keeps_the_old_file(tmp_path):
    path = tmp_path / "state.json"
    write_text(path, "old")

    def refuse(written):
        assert written.read_bytes() == b"new"
        raise OSError("reads back differently")

    with pytest.raises(OSError, match="differently"):
        write_atomically(path, lambda file: file.write(b"new"), check=refuse)
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_new_files_follow_the_umask_and_old_ones_keep_their_mode(tmp_path):
    previous = os.umask(0o027)
    try:
        new = write_text(tmp_path / "new", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    new.chmod(0o600)
    write_text(new, "y")
    assert stat.S_IMODE(new.stat().st_mode) == 0o600


def test_a_symlink_stays_and_its_target_changes(tmp_path):
    target = tmp_path / "disk" / "model"
    write_text(target, "old")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert write_text(link, "new") == target
    assert link.is_symlink() and target.read_text() == "new"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    full = Path("/dev/full")

    def fill(file):
        with full.open("wb", buffering=0) as device:
            device.write(b"x")

    with pytest.raises(NoSpaceError, match="filled up while model was being written"):
        write_atomically(tmp_path / "model", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_the_size_of_files_is_not_told_as_a_full_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(NoSpaceError, match=r"larger than a file in .* may be, by a limit of the shell"):
            write_text(tmp_path / "model", "x" * (1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_refused_before_writing_with_both_numbers(tmp_path):
    huge = Entry("w", "F32", (1 << 50,), lambda: b"")
    with pytest.raises(NoSpaceError, match=r"needs 4194304\.00 GiB.*GiB free"):
        write_safetensors(tmp_path / "model.safetensors", [huge], {})
    assert list(tmp_path.iterdir()) == []


def test_long_names_can_be_written(tmp_path):
    name = "ü" * 127
    assert write_text(tmp_path / name, "x").name == name


def test_mixed_dtypes_are_aligned_named_in_order_and_read_back(tmp_path):
    entries = [
        Entry("b.half", "F16", (3,), lambda: b"\x00\x3c" * 3),
        Entry("a.marker", "F32", (0,), lambda: b""),
        Entry("c.long", "I64", (1, 2), lambda: bytes(range(16))),
        Entry("d.full", "F32", (), lambda: b"\x00\x00\x80\x3f"),
    ]
    path = write_safetensors(tmp_path / "model.safetensors", entries, {"b": "2", "a": "ä"})
    again = write_safetensors(tmp_path / "again.safetensors", entries, {"a": "ä", "b": "2"})
    assert path.read_bytes() == again.read_bytes()
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"a": "ä", "b": "2"}
        assert file.get_tensor("b.half").tolist() == [1.0, 1.0, 1.0]
        assert file.get_tensor("d.full").item() == 1.0
        assert file.get_tensor("c.long").shape == (1, 2)
        assert file.get_tensor("a.marker").shape == (0,)
    for name, info in read_header(path).tensors.items():
        assert info.pieces[0].start % atomic.DTYPE_BYTES[info.dtype] == 0, name
    header = path.read_bytes()
    names = [entry.name.encode() for entry in entries]
    assert sorted(names, key=header.index) == names


def test_a_stop_between_tensors_removes_the_temporary_file(tmp_path):
    answers = iter([False, True])
    entries = [Entry(name, "U8", (1,), lambda: b"x") for name in "abc"]
    with pytest.raises(Interrupted):
        write_safetensors(tmp_path / "model.safetensors", entries, {}, should_stop=lambda: next(answers))
    assert list(tmp_path.iterdir()) == []


def test_wrong_data_and_double_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has 1 bytes, its shape and dtype say 8"):
        write_safetensors(tmp_path / "m", [Entry("a", "F32", (2,), lambda: b"x")], {})
    with pytest.raises(ValueError, match="two tensors are named a"):
        write_safetensors(tmp_path / "m", [Entry("a", "U8", (1,), lambda: b"x")] * 2, {})
    assert list(tmp_path.iterdir()) == []


def test_free_bytes_looks_at_the_nearest_existing_folder(tmp_path):
    # Other processes write meanwhile: the same file system, about the same number.
    assert atomic.free_bytes(tmp_path / "not" / "yet") == pytest.approx(atomic.free_bytes(tmp_path), rel=0.05)
