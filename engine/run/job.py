"""From a profile to a finished file: the phases of a run, in their order."""

import gc
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from engine import __version__
from engine.contract import check, events, places
from engine.contract.atomic import Interrupted
from engine.contract.budget import export_bytes
from engine.contract.layers import Layer, count, read_layers, select
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.safetensors_header import CheckpointError
from engine.contract.sections import Profile
from engine.data.batches import Batches, Order
from engine.memory.plain import PlainPlan
from engine.model import components, demo
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint
from engine.objective.objective import Objective
from engine.objective.randomness import noise_of
from engine.optim.adafactor import AdafactorSettings
from engine.run import checkpoint, preflight
from engine.run.dataset import Dataset, has_snapshot, prepare
from engine.run.errors import RunError
from engine.run.finish import write_export
from engine.run.precision import DTYPES
from engine.run.preview import Previewer
from engine.run.session import Session, StopRequested
from engine.run.train import Training


@dataclass(frozen=True)
class Base:
    """The checkpoint to start from and what of it is trained."""

    checkpoint: Checkpoint
    layers: Layer
    trained: frozenset[str]


def execute(session: Session, profile: Profile) -> None:
    """Run `profile`, its paths absolute, in the session's folder, from its last checkpoint if it has one. Emits
    everything up to Finished. Raises ProfileError, RunError, CacheError, ValueError or OSError for what went wrong."""
    began = time.monotonic()
    step = 0
    try:
        build_demo_if_named(session, profile)
        base = open_base(profile, resumed=has_snapshot(session.run))
        device = pick_device(profile.memory.device)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: latents, and fp32 runs, on any card alike
        if profile.memory.threads:
            torch.set_num_threads(profile.memory.threads)
        checkpoint.sweep(session.run)
        resume = checkpoint.newest(session.run.checkpoints, lambda text: _warn_damaged(session, text))
        if resume:
            if changed := checkpoint.changes(resume, profile):
                session.warn("resume-changed", f"the run goes on with other settings: {changed}", "")
            step = checkpoint.read_state(resume).step
        _announce(session, profile, base, device, step)
        dataset = prepare(session, profile, base.checkpoint, device)
        _free(device)
        training, previewer, unet = _assemble(session, profile, base, dataset, device)
        if resume:
            checkpoint.restore(resume, training.plan, training.state)
            training.step = training.saved = step
        complete = training.run()
        step = training.step
        exported = None
        if complete:
            exported = _finish(session, profile, base, training, previewer, unet, dataset=dataset)
    except (StopRequested, Interrupted):
        complete, exported = False, None
    session.emit(
        events.Finished(
            step=step,
            reason="finished" if complete else "stopped",
            seconds=time.monotonic() - began,
            export=str(exported) if exported else None,
        )
    )


def build_demo_if_named(session: Session, profile: Profile) -> None:
    """Make the demo's files where a profile names them and they are not there yet."""
    named = [Path(profile.model.base), *(Path(folder.path) for folder in profile.data.folders)]
    if any(check.is_demo(path) for path in named) and not demo.is_built(places.demo_folder()):
        session.phase("demo")
        demo.build_demo(places.demo_folder(), session.progress("demo", "files"))


def open_base(profile: Profile, *, resumed: bool) -> Base:
    """Raises ProfileError with everything that is wrong on this machine."""
    if wrong := errors(check.check_machine(profile, Path.cwd(), new_run=not resumed).problems):
        raise ProfileError("profile", wrong)
    base = open_checkpoint(Path(profile.model.base), Path(profile.model.vae) if profile.model.vae else None)
    try:
        components.verify(base)
    except CheckpointError as error:
        raise ProfileError("profile", [Problem("model.base", str(error), "Fetch the file again.")]) from error
    layers = read_layers(base.header)
    return Base(base, layers, select(layers.tensors, profile.layers.train, profile.layers.freeze).trained)


def pick_device(wanted: str) -> torch.device:
    """Raises RunError if a card is asked for and there is none."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunError(
            "no-cuda", f"memory.device is {wanted}, but torch sees no NVIDIA card", "Run `aozora-tui doctor`."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        text = f"memory.device is {wanted}, but there are {torch.cuda.device_count()} cards"
        raise RunError("no-cuda", text, "Cards are counted from cuda:0.")
    return device


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({torch.get_num_threads()} threads)"


def _warn_damaged(session: Session, text: str) -> None:
    session.warn("checkpoint-damaged", text, "Check the disk; an older checkpoint is used.")


def _free(device: torch.device) -> None:
    """Give the encoders' memory back, and count the peak of the training from here."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _announce(session: Session, profile: Profile, base: Base, device: torch.device, step: int) -> None:
    session.emit(
        events.Started(
            protocol=events.PROTOCOL,
            run=session.run.name,
            token=session.token,
            step=step,
            steps=profile.train.steps,
            accumulate=profile.train.accumulate,
            batch_size=profile.train.batch_size,
            plan="plain",
            parameters_trained=count(base.layers, base.trained),
            parameters_total=base.layers.parameters,
            device=device_name(device),
        )
    )


def _assemble(
    session: Session, profile: Profile, base: Base, dataset: Dataset, device: torch.device
) -> tuple[Training, Previewer, torch.nn.Module]:
    session.phase("load")
    half = profile.model.precision == "bf16"
    unet = components.load_unet(base.checkpoint, device, DTYPES[profile.model.precision])
    if profile.memory.checkpointing:
        unet.enable_gradient_checkpointing()
    optimizer = profile.optimizer
    settings = AdafactorSettings(optimizer.decay_exponent, optimizer.clip_threshold, optimizer.weight_decay)
    plan = PlainPlan(unet, base.trained, settings)
    if half:
        plan.adopt((name, tensor) for name, tensor in base.checkpoint.unet().items() if name in base.trained)
    session.check()
    window = profile.train.accumulate * profile.train.batch_size
    objective = Objective(profile.objective, profile.train.seed, window=window)
    session.phase("preflight")
    preflight.check_disk(session, plan, export_bytes(profile, base.checkpoint.header, base.trained))
    preflight.rehearse(session, plan, dataset, objective, batch_size=profile.train.batch_size)
    previewer = Previewer(session, profile, base.checkpoint, dataset, device)
    training = Training(
        session=session,
        profile=profile,
        plan=plan,
        objective=objective,
        batches=_batches(profile, dataset),
        draw=lambda step: previewer.draw(unet, step),
        state=_state(profile, base, dataset),
        device=device,
        step=0,
        saved=0,
    )
    return training, previewer, unet


def _batches(profile: Profile, dataset: Dataset) -> Batches:
    train, items = profile.train, dataset.items
    sampled = profile.data.latents == "sampled"
    order = Order(
        list(zip((item.bucket for item in items), dataset.chunks, strict=True)),
        [item.repeats for item in items],
        seed=train.seed,
        batch_size=train.batch_size,
    )
    return Batches(
        dataset.cache,
        items,
        order,
        seed=train.seed,
        conditional_dropout=profile.objective.conditional_dropout,
        null=dataset.null(),
        posterior_noise=partial(noise_of, train.seed, stream="posterior") if sampled else None,
    )


def _state(profile: Profile, base: Base, dataset: Dataset) -> checkpoint.TrainingState:
    return checkpoint.TrainingState(
        step=0,
        profile=profile,
        data_fingerprint=dataset.fingerprint,
        base_fingerprint=fingerprint(base.checkpoint, "unet"),
        version=__version__,
    )


def _finish(
    session: Session,
    profile: Profile,
    base: Base,
    training: Training,
    previewer: Previewer,
    unet: torch.nn.Module,
    *,
    dataset: Dataset,
) -> Path | None:
    """The last preview and the export. Raises StopRequested or Interrupted; a resume does it again."""
    if profile.preview.at_end:
        previewer.draw(unet, training.step)
    if not profile.save.export:
        return None
    return write_export(session, profile, base.checkpoint, training.plan.weights(), step=training.step, dataset=dataset)
