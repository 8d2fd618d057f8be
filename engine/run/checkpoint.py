"""Resumable checkpoints: a folder that appears whole, is verified before it is trusted, and pruned last.

step-000123/   weights.safetensors    fp32 masters of the trained tensors, by diffusers name
               optimizer.safetensors  moments, by parameter name, in the precision they are kept in
               average.safetensors    fp32 running average of the same tensors, in a run that keeps one
               state.json             the step, and what a resume must agree with
               manifest.json          size and hash of each of these; written last
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Size, Tensor

from engine.contract.atomic import Entry, fsync_folder, require_free, write_safetensors, write_text
from engine.contract.events import UNREADABLE
from engine.contract.profile_values import differences, values_of
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.memory.plan import Plan
from engine.model.single_file import tensor_bytes, tensor_entry
from engine.run.errors import RunError

# Settings that a person may well mean to change in a run, and that make another run of it: said aloud.
CHANGES_WHAT_IS_LEARNT = (
    "train.steps",
    "train.damping",
    "optimizer.learning_rate",
    "optimizer.rates",
    "optimizer.master",
    "schedule.",
    "text_encoders.rate",
    "text_encoders.stop_after",
    "ema.decay",
    "ema.warmup",
)
# Settings that change neither what has been learnt nor what will be drawn: other previews, another card.
MAY_CHANGE = (
    "save.",
    "preview.",
    "validation.every",
    "ema.previews",
    "ema.export",
    "train.max_skipped",
    "memory.",
    "model.base",
    "model.vae",
    "model.tokenizer",
    "model.fetch_tokenizer",
    "data.folders",
    "data.cache",
)
WEIGHTS, OPTIMIZER, STATE, MANIFEST = "weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
AVERAGE = "average.safetensors"


class TrainingState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a resume needs besides tensors, and what must be the same again: the profile, but for `MAY_CHANGE`, because
    position and everything that is drawn are functions of it; the pictures and the base by their content. `losses` are
    of the last steps: what a spike is measured by."""

    step: int
    profile: Profile
    data_fingerprint: str
    base_fingerprint: str
    version: str
    losses: tuple[float, ...] = ()


class NotFiniteError(ArithmeticError):
    """A weight is beyond saving: it must never take the place of a good checkpoint."""


class FileRecord(Struct, frozen=True):
    bytes: int
    blake2b: str


def save(folder: Path, state: TrainingState, plan: Plan) -> tuple[Path, int, float]:
    """Write `folder`/step-N whole and verify it. Returns (path, bytes, seconds). Raises NoSpaceError and OSError, and
    NotFiniteError for weights that are not, with nothing changed."""
    began = time.monotonic()
    final = folder / f"step-{state.step:06d}"
    if final.exists() and not problems(final):
        return final, _size(final), 0.0
    partial = final.with_suffix(".tmp")
    shutil.rmtree(partial, ignore_errors=True)
    weights = plan.weights()
    others = {OPTIMIZER: plan.optimizer_state(), AVERAGE: plan.averages()}
    needed = tensor_bytes_of(plan)
    folder.mkdir(parents=True, exist_ok=True)
    require_free(final, round(needed * 1.1))
    try:
        partial.mkdir()
        _write_masters(partial / WEIGHTS, weights, plan.shapes)
        written = [WEIGHTS, *(file for file, tensors in others.items() if tensors), STATE]
        for file in written[1:-1]:
            entries = [tensor_entry(name, _finite(name, tensor)) for name, tensor in others[file].items()]
            write_safetensors(partial / file, entries, {"format": "pt"})
        write_text(partial / STATE, msgspec.json.encode(state).decode())
        records = {name: _record(partial / name) for name in written}
        write_text(partial / MANIFEST, msgspec.json.encode(records).decode())
        fsync_folder(partial)
        if wrong := problems(partial):
            raise OSError(f"{final.name} does not read back as it was written ({wrong}): check the disk")
        damaged = final.with_suffix(".old.tmp")
        if final.exists():  # a damaged one of the same step: the new one takes its place
            final.rename(damaged)
        partial.rename(final)
        fsync_folder(folder)
        _remove(damaged)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final, _size(final), time.monotonic() - began


def tensor_bytes_of(plan: Plan) -> int:
    """The tensors of one checkpoint."""
    beside = chain(plan.optimizer_state().values(), plan.averages().values())
    masters = 4 * sum(shape.numel() for shape in plan.shapes.values())
    return masters + sum(tensor.numel() * tensor.element_size() for tensor in beside)


def changes(path: Path, profile: Profile) -> str:
    """The settings, in words, in which a resume may differ from the checkpoint but does not go unsaid; empty if none.
    Raises RunError, naming every field, if the checkpoint was made with settings that a resume must keep."""
    found = differences(values_of(read_state(path).profile), values_of(profile))
    listed = {each.field.path: f"{each.field.path} was {each.before}, is {each.after}" for each in found}
    if wrong := [text for where, text in listed.items() if not where.startswith(MAY_CHANGE + CHANGES_WHAT_IS_LEARNT)]:
        text = f"{path.name} was made with other settings: {'; '.join(wrong)}"
        raise RunError("resume-differs", text, "Restore the run's profile.toml, or start a new run.")
    return "; ".join(text for where, text in listed.items() if where.startswith(CHANGES_WHAT_IS_LEARNT))


def restore(path: Path, plan: Plan, expected: TrainingState) -> int:
    """Load a verified checkpoint into `plan`; returns its step. Raises RunError naming what differs."""
    state = read_state(path)
    for name, (what, remedy) in _MUST_AGREE.items():
        if getattr(state, name) != getattr(expected, name):
            raise RunError("resume-differs", f"{path.name} was made with another {what}", remedy)
    try:
        averages = load_file(path / AVERAGE) if (path / AVERAGE).exists() else {}
        plan.restore(load_file(path / WEIGHTS), load_file(path / OPTIMIZER), averages)
    except ValueError as error:
        raise RunError("resume-differs", f"{path} does not fit: {error}", "Restore the run's profile.toml.") from error
    return state.step


_MUST_AGREE = {
    "base_fingerprint": ("base checkpoint", "Put back the file that this run started from."),
    "data_fingerprint": ("set of pictures", "Put back the dataset.json that belongs to this run."),
}


def read_state(path: Path) -> TrainingState:
    """Raises RunError for a state of another version of this program."""
    try:
        return msgspec.json.decode((path / STATE).read_bytes(), type=TrainingState)
    except msgspec.DecodeError as error:
        text = f"{path / STATE} cannot be understood ({error})"
        raise RunError("resume-differs", text, "It belongs to another version: resume with that one.") from error


def newest(folder: Path, report: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies, or None if there is none at all. Each damaged one that is passed over is
    reported. Raises RunError if all are damaged: days of work are not to begin anew unasked."""
    for path in reversed(_listed(folder)):
        wrong = problems(path)
        if not wrong:
            return path
        report(f"{path.name} is damaged and was passed over: {wrong}")
    if present(folder):
        remedy = "Check the disk, or restore one from a backup; to begin anew, start a new run."
        raise RunError("checkpoint-damaged", f"not one checkpoint in {folder} is as it was written", remedy)
    return None


def problems(path: Path) -> str:
    """What is wrong with a checkpoint folder; empty if every file has the size and hash of the manifest."""
    try:
        records = msgspec.json.decode((path / MANIFEST).read_bytes(), type=dict[str, FileRecord])
        for name in {WEIGHTS, OPTIMIZER, STATE, *records}:
            if name not in records or records[name] != _record(path / name):
                return f"{name} is not as it was written"
    except (OSError, SafetensorError, *UNREADABLE) as error:
        return str(error) or type(error).__name__
    return ""


def prune(folder: Path, newest_good: Path, keep: int) -> None:
    """Keep `newest_good`, which has just verified, and of the others the latest that verify, `keep` in all; remove the
    rest. A damaged one never counts as one that is kept. Raises OSError."""
    kept = {newest_good}
    for path in reversed(_listed(folder)):
        if len(kept) < keep and path not in kept and not problems(path):
            kept.add(path)
    for path in _listed(folder):
        if path not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_symlink():  # moved to another disk by hand: what it points to is not ours to delete
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def present(folder: Path) -> bool:
    """Whether there is any checkpoint, good or bad."""
    return bool(_listed(folder))


def sweep(run: RunDir) -> None:
    """Remove what a killed save, export or preview left. Only under the run's lock."""
    for path in (*run.checkpoints.glob("step-*.tmp"), *run.exports.glob(".*.tmp"), *run.samples.glob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _write_masters(path: Path, weights: Mapping[str, Tensor], shapes: Mapping[str, Size]) -> None:
    """One master at a time: all of them joined at once would be a second UNet in fp32."""

    def data(name: str) -> Callable[[], memoryview]:
        return lambda: tensor_bytes(_finite(name, weights[name]))

    entries = [Entry(name, "F32", tuple(shape), data(name)) for name, shape in shapes.items()]
    write_safetensors(path, entries, {"format": "pt"})


def _finite(name: str, master: Tensor) -> Tensor:
    if not bool(torch.isfinite(master).all()):
        raise NotFiniteError(f"{name} holds values that are not finite")
    return master


def _record(path: Path) -> FileRecord:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    return FileRecord(path.stat().st_size, digest)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())
