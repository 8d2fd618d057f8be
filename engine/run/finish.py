"""What a run leaves for other programs: the export, in the form that the profile asks for."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from torch import Tensor

from engine import __version__
from engine.contract import events
from engine.contract.profile import digest
from engine.contract.sections import Profile
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
) -> Path:
    """Export `weights`, the trained UNet tensors, into the run's folder; returns the file or folder.

    Raises Interrupted, ValueError and OSError with nothing left behind; a resume does it again."""
    session.phase("export", step)
    objective, save = profile.objective, profile.save
    name = f"{session.run.name}-step{step:06d}"
    metadata = {
        "aozora.version": __version__,
        "aozora.profile_digest": digest(profile),
        "aozora.steps": str(step),
        "aozora.pictures": str(len(dataset.items)),
        "aozora.objective": msgspec.json.encode(objective).decode(),
    }
    trained = Trained(
        unet=weights,
        dtype=DTYPES.get(save.export_precision),
        prediction_type=objective.prediction_type,
        zero_terminal_snr=objective.zero_terminal_snr,
        metadata=metadata,
    )
    if save.export_format == "diffusers":
        first, second = ((files.vocabulary, files.merges) for files in dataset.words.files)
        with _moved_away(session.run.exports / name) as target:
            exported = export_diffusers(
                base,
                trained,
                target,
                vocabularies=(first, second),
                null_condition=objective.null_condition,
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
