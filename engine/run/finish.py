"""What a run leaves for other programs: the export, in the form that the profile asks for."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from torch import Tensor

from engine import __version__
from engine.contract import events
from engine.contract.profile import digest
from engine.contract.sections import Profile
from engine.contract.text_tensors import FIRST, SECOND
from engine.model.export import Exported, Trained, export
from engine.model.export_diffusers import export_diffusers
from engine.model.single_file import Checkpoint
from engine.run.dataset import Dataset
from engine.run.precision import DTYPES
from engine.run.session import Session


def write_export(
    session: Session,
    profile: Profile,
    base: Checkpoint,
    weights: Mapping[str, Tensor],
    *,
    step: int,
    dataset: Dataset,
    which: Literal["latest", "average"] = "latest",
    suffix: str = "",
) -> Path:
    """Export `weights`, the trained tensors by name, those of text encoders after `text_encoder.` and
    `text_encoder_2.`, into the run's folder; returns the file or folder. `which` says in the metadata what they are;
    `suffix` ends the name.

    Raises Interrupted, ValueError and OSError with nothing left behind; a resume does it again."""
    session.phase("export", step)
    save = profile.save
    name = f"{session.run.name}-step{step:06d}{suffix}"
    facts = {"aozora.steps": str(step), "aozora.weights": which, "aozora.pictures": str(len(dataset.items))}
    trained = _trained(profile, weights, facts)
    assert save.export_format != "unet" or len(trained.unet) == len(weights), "refused before the run"
    if save.export_format == "diffusers":
        first, second = ((files.vocabulary, files.merges) for files in dataset.words.files)
        with _moved_away(session.run.exports / name) as target:
            exported = export_diffusers(
                base,
                trained,
                target,
                vocabularies=(first, second),
                null_condition=profile.objective.null_condition,
                should_stop=session.should_stop,
            )
    else:
        exported = export(
            base,
            trained,
            session.run.exports / f"{name}.safetensors",
            form=save.export_format,
            should_stop=session.should_stop,
        )
    _announce(session, exported, step)
    return exported.path


def _trained(profile: Profile, weights: Mapping[str, Tensor], facts: Mapping[str, str]) -> Trained:
    objective = profile.objective
    said = {
        "aozora.version": __version__,
        "aozora.profile_digest": digest(profile),
        "aozora.objective": msgspec.json.encode(objective).decode(),
    }
    return Trained(
        unet=_Part(weights, (name for name in weights if not name.startswith((FIRST, SECOND)))),
        text_encoder=_Part(weights, weights, FIRST),
        text_encoder_2=_Part(weights, weights, SECOND),
        dtype=DTYPES.get(profile.save.export_precision),
        prediction_type=objective.prediction_type,
        zero_terminal_snr=objective.zero_terminal_snr,
        metadata=said | dict(facts),
    )


class _Part(Mapping[str, Tensor]):
    """Those of `names` that start with `prefix`, without it. Each tensor is asked for when its turn comes."""

    def __init__(self, weights: Mapping[str, Tensor], names: Iterable[str], prefix: str = "") -> None:
        self._weights = weights
        self._prefix = prefix
        self._names = {name.removeprefix(prefix): None for name in names if name.startswith(prefix)}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._weights[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def _moved_away(target: Path) -> Iterator[Path]:
    """An earlier export of the same step, whose run was cut off before it could say that it had finished, gives way to
    the new one, and comes back if that fails, also after a kill."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)
    if target.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        yield target
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _announce(session: Session, exported: Exported, step: int) -> None:
    # By name: exports/ may be a link to another disk.
    relative = str(session.run.exports.relative_to(session.run.path) / exported.path.name)
    session.emit(events.Saved(kind="export", step=step, path=relative, bytes=exported.bytes, seconds=exported.seconds))
