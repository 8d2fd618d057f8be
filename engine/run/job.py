"""From a profile to a finished file: the phases of a run, in their order."""

import gc
import time
from functools import partial
from pathlib import Path

import torch

from engine.contract import check, events, places
from engine.contract.atomic import Interrupted
from engine.contract.budget import forecast
from engine.contract.sections import Profile
from engine.model import demo
from engine.run import checkpoint, preflight
from engine.run.assemble import assemble
from engine.run.base import Base, device_name, open_base, pick_device, use
from engine.run.dataset import Dataset, has_snapshot, prepare
from engine.run.finish import write_export
from engine.run.planning import take_plan
from engine.run.session import Session, StopRequested
from engine.run.train import Training


def execute(session: Session, profile: Profile) -> None:
    """Run `profile`, its paths absolute, in the session's folder, from its last checkpoint if it has one. Emits
    everything up to Finished. Raises ProfileError, RunError, CacheError, ValueError or OSError for what went wrong."""
    began = time.monotonic()
    step, losses = 0, tuple[float, ...]()
    try:
        build_demo_if_named(session, profile)
        base = open_base(profile, resumed=has_snapshot(session.run))
        device = pick_device(profile.memory.device)
        use(device)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: latents, and fp32 runs, on any card alike
        if profile.memory.threads:
            torch.set_num_threads(profile.memory.threads)
        checkpoint.sweep(session.run)
        resume = checkpoint.newest(session.run.checkpoints, lambda text: _warn_damaged(session, text))
        if resume:
            if changed := checkpoint.changes(resume, profile):
                session.warn("resume-changed", f"the run goes on with other settings: {changed}", "")
            state = checkpoint.read_state(resume)
            step, losses = state.step, state.losses
        taken = take_plan(session, profile, base, device)
        _announce(session, profile, base, device, step=step, plan=taken.planned)
        dataset = prepare(session, profile, base.checkpoint, device)
        _free(device)
        training = assemble(session, profile, base, dataset, device, choice=taken.choice, losses=losses)
        if resume:
            checkpoint.restore(resume, training.plan, training.state)
            training.step = training.saved = step
            training.unproven = resume
        batch_size = profile.train.batch_size
        preflight.rehearse(
            session,
            training.plan,
            dataset,
            training.objective,
            batch_size=batch_size,
            step=step,
            together=taken.rehearsed,
        )
        complete = training.run()
        step = training.step
        exported = None
        if complete:
            exported = _finish(session, profile, base, training, dataset)
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


def _warn_damaged(session: Session, text: str) -> None:
    session.warn("checkpoint-damaged", text, "Check the disk; an older checkpoint is used.")


def _free(device: torch.device) -> None:
    """Give the encoders' memory back, and count the peak of the training from here."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _announce(
    session: Session, profile: Profile, base: Base, device: torch.device, *, step: int, plan: events.Planned
) -> None:
    cost = forecast(profile, base.layers, base.trained, base.checkpoint.header)
    session.emit(
        events.Started(
            protocol=events.PROTOCOL,
            run=session.run.name,
            token=session.token,
            step=step,
            steps=profile.train.steps,
            accumulate=profile.train.accumulate,
            batch_size=profile.train.batch_size,
            plan=plan.plan,
            parameters_trained=cost.trained,
            parameters_total=cost.total,
            device=device_name(device),
        )
    )
    session.emit(plan)


def _finish(session: Session, profile: Profile, base: Base, training: Training, dataset: Dataset) -> Path | None:
    """The last preview and the export. Raises StopRequested or Interrupted; a resume does it again."""
    if profile.preview.at_end:
        training.draw(training.step)
    if not profile.save.export:
        return None
    write = partial(write_export, session, profile, base.checkpoint, step=training.step, dataset=dataset)
    plan, path = training.plan, None
    if not profile.ema.decay or profile.ema.export in ("latest", "both"):
        with plan.shown(average=False, compute=False) as weights:
            path = write(weights)
    if profile.ema.decay and profile.ema.export in ("average", "both"):
        with plan.shown(compute=False) as weights:
            path = write(weights, suffix="-average", which="average")
    return path
