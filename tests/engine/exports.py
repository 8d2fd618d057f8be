"""Exports in a line, and what is in them: for the tests of everything that writes the finished model."""

import hashlib
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from engine.contract.atomic import never
from engine.contract.safetensors_header import TensorInfo, read_header
from engine.model.export import Trained, export
from engine.model.export_diffusers import export_diffusers
from engine.model.single_file import Checkpoint, open_checkpoint

TRAINING = {"unet": {}, "dtype": None, "prediction_type": "v_prediction", "zero_terminal_snr": True, "metadata": {}}


def exported(
    base: Checkpoint | Path,
    out: Path,
    form: str = "checkpoint",
    should_stop: Callable[[], bool] = never,
    **changes: object,
) -> Path:
    opened = open_checkpoint(base) if isinstance(base, Path) else base
    return export(opened, Trained(**(TRAINING | changes)), out, form=form, should_stop=should_stop).path


def in_folder(
    base: Checkpoint,
    out: Path,
    demo_folder: Path,
    null_condition: str = "empty_prompt",
    should_stop: Callable[[], bool] = never,
    **changes: object,
) -> Path:
    """With the demo's tokenizer."""
    vocabulary = json.loads((demo_folder / "tokenizer" / "vocab.json").read_text("utf-8"))
    merges = (demo_folder / "tokenizer" / "merges.txt").read_text("utf-8").splitlines()[1:]
    pair = (vocabulary, merges)
    return export_diffusers(
        base,
        Trained(**(TRAINING | changes)),
        out,
        vocabularies=(pair, pair),
        null_condition=null_condition,
        should_stop=should_stop,
    ).path


def narrowed(source: Path, out: Path, **more: torch.Tensor) -> Path:
    """The same checkpoint in fp16, with more tensors."""
    tensors = {name: t.half() if t.dtype == torch.float32 else t for name, t in load_file(source).items()}
    save_file(tensors | more, out, metadata=dict(read_header(source).metadata))
    return out


def state_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def digests(path: Path) -> dict[str, str]:
    """{tensor: its dtype, shape and a digest of its bytes}, in the file's order."""
    content = path.read_bytes()

    def data(info: TensorInfo) -> bytes:
        return b"".join(content[piece.start : piece.start + piece.bytes] for piece in info.pieces)

    tensors = read_header(path).tensors
    return {name: f"{i.dtype}{i.shape}{hashlib.sha256(data(i)).hexdigest()}" for name, i in tensors.items()}


def assert_same(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


class OneAtATime(Mapping[str, torch.Tensor]):
    """Makes each tensor when it is asked for, and sees how many of those before it are still held."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.tensors = tensors
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        self.most = max(self.most, sum(made() is not None for made in self.made))
        tensor = self.tensors[name].clone()
        self.made.append(weakref.ref(tensor))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
