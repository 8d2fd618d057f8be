"""Fingerprints read without torch, against those of the engine's own reader."""

import pytest

from engine.contract.atomic import Interrupted
from engine.contract.base_checkpoint import read_base
from engine.contract.fingerprints import fingerprint, tensor_data, tensors_of
from engine.contract.safetensors_header import CheckpointError
from engine.model import single_file


def read(path, part, **options):
    header = read_base(path)
    return fingerprint(header, part, lambda name: tensor_data(header.tensors[name], **options))


@pytest.mark.parametrize("part", ["vae", "text"])
def test_a_file_and_a_folder_have_the_engines_fingerprint(demo_checkpoint, folder, part):
    of_file = single_file.fingerprint(single_file.open_checkpoint(demo_checkpoint), part)
    assert read(demo_checkpoint, part) == of_file
    assert read(folder, part) == of_file, "turned and stacked tensors count as they would stand in a file"


def test_what_was_read_is_counted_and_can_be_stopped(demo_checkpoint):
    header, told = read_base(demo_checkpoint), []
    read(demo_checkpoint, "vae", progress=told.append)
    assert sum(told) == sum(header.tensors[name].bytes for name in tensors_of(header, "vae")) > 0
    with pytest.raises(Interrupted):
        read(demo_checkpoint, "vae", should_stop=lambda: True)


def test_a_file_that_was_cut_short_since_is_said(demo_checkpoint, tmp_path):
    copy = tmp_path / "cut.safetensors"
    copy.write_bytes(demo_checkpoint.read_bytes())
    header = read_base(copy)
    with copy.open("r+b") as file:
        file.truncate(1 << 12)
    with pytest.raises(CheckpointError, match="has become shorter"):
        for part in ("vae", "text"):
            fingerprint(header, part, lambda name: tensor_data(header.tensors[name]))
