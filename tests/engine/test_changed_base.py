"""A base checkpoint that is changed while a run has it open: said, never read, never carried into an export."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from engine.contract.safetensors_header import read_header
from engine.model.components import load_text_encoders, load_unet, load_vae
from engine.model.single_file import BaseChangedError, Checkpoint, fingerprint, open_checkpoint, raw
from tests.engine.exports import OneAtATime, digests, exported, in_folder

UNET = "model.diffusion_model."
FORMS = ["checkpoint", "unet", "diffusers"]


def truncate(path: Path) -> None:
    os.truncate(path, 4096)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    """Other values in the same place, as `cp OTHER BASE` leaves it."""
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))


CHANGES = pytest.mark.parametrize("change", [truncate, empty, overwrite], ids=lambda change: change.__name__)


@pytest.fixture
def path(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A base of our own, last written long ago."""
    path = tmp_path / "base.safetensors"
    shutil.copy(demo_checkpoint, path)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def write(demo_folder: Path, tmp_path: Path):
    def write(base: Checkpoint, form: str, **changes: object) -> Path:
        if form == "diffusers":
            return in_folder(base, tmp_path / "out" / "model", demo_folder, **changes)
        return exported(base, tmp_path / "out" / "model.safetensors", form=form, **changes)

    return write


def assert_said(path: Path, read: Callable[[], object]) -> None:
    with pytest.raises(BaseChangedError) as caught:
        read()
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"{path} was changed ") and "put it back as it was" in str(caught.value)


@CHANGES
@pytest.mark.parametrize("mapped", [True, False])
def test_a_changed_base_is_not_read(path, change, mapped):
    base = open_checkpoint(path)
    if mapped:
        fingerprint(base, "unet")
    change(path)
    name = f"{UNET}input_blocks.0.0.weight"
    for read in (
        base.files.require_unchanged,
        lambda: fingerprint(base, "text"),
        lambda: base.tensor(name),
        lambda: raw(base, name),
        lambda: load_unet(base, "cpu", torch.float32),
        lambda: load_vae(base, "cpu"),
        lambda: load_text_encoders(base, "cpu", torch.float32),
        lambda: dict(base.unet()),
    ):
        assert_said(path, read)


@CHANGES
@pytest.mark.parametrize("form", FORMS)
def test_a_changed_base_is_not_exported(path, write, tmp_path, form, change):
    base = open_checkpoint(path)
    fingerprint(base, "unet")
    change(path)
    assert_said(path, lambda: write(base, form))
    assert not any((tmp_path / "out").glob("*"))


class LastChanges(OneAtATime):
    """Changes the base as soon as the last of its tensors was asked for."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], change: Callable[[], None]) -> None:
        super().__init__(tensors)
        self.change = change

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = super().__getitem__(name)
        if len(self.made) == len(self.tensors):
            self.change()
        return tensor


@CHANGES
@pytest.mark.parametrize("form", ["unet", "diffusers"])
def test_a_change_behind_the_last_tensor_that_is_read_is_found(path, write, tmp_path, form, change):
    """Whatever the export copies last is a trained tensor, so nothing of the base is read after the change."""
    base = open_checkpoint(path)
    last = {"unet": base.unet(), "diffusers": base.text_encoder_2()}[form]
    watched = LastChanges({name: tensor.clone() for name, tensor in last.items()}, lambda: change(path))
    named = "unet" if form == "unet" else "text_encoder_2"
    assert_said(path, lambda: write(base, form, **{named: watched}))
    assert len(watched.made) == len(watched.tensors)
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_base_whose_name_another_file_takes_is_still_the_same(path, demo_checkpoint, write, tmp_path, form, mapped):
    """As a download or an export to the same name does it: the open file is untouched."""
    base = open_checkpoint(path)
    if mapped:
        fingerprint(base, "unet")
    other = tmp_path / "other.safetensors"
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)
    out = write(base, form)
    files = [out] if out.is_file() else list(out.glob("unet/*.safetensors"))
    described = read_header(files[0]).metadata
    assert described["aozora.base_sha256"] == hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    if form == "checkpoint":
        assert digests(out) == digests(demo_checkpoint)


def test_a_changed_vae_of_its_own_is_found(path, demo_checkpoint, tmp_path):
    vae = tmp_path / "vae.safetensors"
    shutil.copy(demo_checkpoint, vae)
    os.utime(vae, (1e9, 1e9))
    base = open_checkpoint(path, vae)
    overwrite(vae)
    load_unet(base, "cpu", torch.float32)
    assert_said(vae, lambda: load_vae(base, "cpu"))
    asked = []
    out = tmp_path / "out" / "model.safetensors"
    assert_said(vae, lambda: exported(base, out, should_stop=lambda: asked.append(True)))
    assert not asked, "the base is not hashed first"


def test_a_touch_of_the_base_is_no_harm_to_who_reads_it_anew(path):
    base = open_checkpoint(path)
    os.utime(path)
    assert_said(path, base.files.require_unchanged)
    assert fingerprint(open_checkpoint(path), "unet")


def test_files_are_closed_with_their_checkpoint(path):
    def opened() -> int:
        links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return sum(link == path for link in links)

    base = open_checkpoint(path)
    tensor = base.tensor(f"{UNET}input_blocks.0.0.weight")
    before = tensor.clone()
    assert opened() > 0
    del base
    assert torch.equal(tensor, before)
    del tensor
    assert opened() == 0
