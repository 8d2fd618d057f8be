"""A run's parts, put together: networks, plan, objective, pace, and the loop that holds them."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

import torch

from engine import __version__
from engine.contract.budget import export_bytes
from engine.contract.sections import Profile
from engine.contract.text_tensors import learning_factors
from engine.data.batches import Batches, Order
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.stage_major import StageMajorPlan
from engine.model import components, conditioner
from engine.model.conditioner import Conditioner
from engine.model.single_file import Checkpoint, fingerprint
from engine.objective.objective import Objective
from engine.objective.randomness import noise_of
from engine.optim.build import build
from engine.optim.optimizer import MakeOptimizer
from engine.run import checkpoint, conditions, preflight
from engine.run.base import Base
from engine.run.dataset import Dataset
from engine.run.pace import Pace, Steering
from engine.run.precision import DTYPES
from engine.run.preview import Previewer
from engine.run.session import Session
from engine.run.train import Training

STEERING = "steering.json"


def assemble(
    session: Session,
    profile: Profile,
    base: Base,
    dataset: Dataset,
    device: torch.device,
    *,
    losses: tuple[float, ...],
) -> Training:
    """Everything loaded and rehearsed. `losses` are of the last steps of the run that is resumed. Raises RunError for
    what does not fit, StopRequested, CheckpointError."""
    session.phase("load")
    reader = _conditioner(profile, base.checkpoint, device)
    text = conditioner.trainable(reader, profile.text_encoders) if reader else frozenset[str]()
    trained = base.trained | text
    rates = learning_factors(profile, trained)
    make_optimizer = partial(
        build,
        profile.optimizer,
        cautions=conditions.cautions(text, profile.text_encoders),
        factors=rates,
        seed=profile.train.seed,
    )
    plan = _plan(session, profile, base, trained, make_optimizer, device=device, reader=reader)
    if profile.model.precision == "bf16":
        stored = chain(base.checkpoint.unet().items(), conditioner.stored(base.checkpoint) if text else ())
        plan.adopt((name, tensor) for name, tensor in stored if name in trained)
        _warn_of_nearest(session, profile, plan, rates)
    session.check()
    window = profile.train.accumulate * profile.train.batch_size
    objective = Objective(profile.objective, profile.train.seed, window=window)
    session.phase("preflight")
    preflight.check_disk(session, plan, export_bytes(profile, base.checkpoint.header, trained))
    preflight.rehearse_update(plan)
    previewer = Previewer(session, profile, base.checkpoint, dataset, device, conditioner=reader)

    shown = partial(plan.shown, average=profile.ema.previews)

    steering = Steering(session.run.path / STEERING)
    return Training(
        session=session,
        profile=profile,
        plan=plan,
        objective=objective,
        pace=Pace(profile, trained, factors=rates, stopping=text, steering=steering, losses=losses),
        batches=_batches(profile, dataset),
        draw=lambda step: previewer.draw(plan.predict, step, shown),
        state=_state(profile, base, dataset),
        device=device,
        step=0,
        saved=0,
    )


def plan_name(profile: Profile) -> str:
    """What `auto` stands for."""
    return "plain" if profile.memory.plan == "auto" else profile.memory.plan


def _plan(
    session: Session,
    profile: Profile,
    base: Base,
    trained: frozenset[str],
    make_optimizer: MakeOptimizer,
    *,
    device: torch.device,
    reader: Conditioner | None,
) -> Plan:
    dtype, master, seed = DTYPES[profile.model.precision], profile.optimizer.master, profile.train.seed
    if plan_name(profile) == "stage-major":
        return StageMajorPlan(
            components.load_unet(base.checkpoint, "cpu", dtype),  # from where its parts visit the device
            trained,
            make_optimizer,
            device=device,
            conditioner=reader,
            master=master,
            ema=profile.ema,
            seed=seed,
            group=profile.memory.group,
            window=profile.train.accumulate,
            tick=session.check,
        )
    unet = components.load_unet(base.checkpoint, device, dtype)
    if profile.memory.checkpointing:
        unet.enable_gradient_checkpointing()
    return PlainPlan(unet, trained, make_optimizer, conditioner=reader, master=master, ema=profile.ema, seed=seed)


def _conditioner(profile: Profile, base: Checkpoint, device: torch.device) -> Conditioner | None:
    """None where captions are read from the cache."""
    if profile.text_encoders.train == "none":
        return None
    encoders = components.load_text_encoders(base, device, DTYPES[profile.model.precision])
    return Conditioner(encoders, checkpointing=profile.memory.checkpointing)


def _warn_of_nearest(session: Session, profile: Profile, plan: Plan, factors: Mapping[str, float]) -> None:
    if profile.optimizer.master != "nearest":
        return
    rate = profile.optimizer.learning_rate
    lost = plan.share_lost(lambda name: rate * factors.get(name, 1.0))
    text = f"{lost:.1%} of the updates at the peak rate, {rate:g}, are lost to rounding in bf16"
    session.warn("nearest-master", text, 'Write optimizer.master = "split" unless that is what you study.')


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
        dataset.conditions(),
        seed=train.seed,
        conditional_dropout=profile.objective.conditional_dropout,
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
