"""A run's parts, put together: networks, plan, objective, pace, and the loop that holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypedDict

import torch
from torch import nn

from engine import __version__
from engine.contract import activations, events
from engine.contract.learning_cost import export_bytes
from engine.contract.order import Order
from engine.contract.plans import Choice
from engine.contract.sections import Ema, MasterKind, Profile
from engine.contract.text_tensors import learning_factors
from engine.data.batches import Batches
from engine.memory.compiling import Clock, CompileError, compile_blocks, require_compiler
from engine.memory.graphs import CudaRecorder, Recorder
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.recompute import recompute
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.model import components, conditioner
from engine.model.conditioner import Conditioner
from engine.model.single_file import Checkpoint, fingerprint
from engine.objective.objective import Objective
from engine.objective.randomness import noise_of
from engine.optim.build import build
from engine.optim.optimizer import MakeOptimizer
from engine.optim.slabs import Slabs
from engine.run import checkpoint, conditions, preflight
from engine.run.base import Base
from engine.run.dataset import Dataset
from engine.run.errors import RunError
from engine.run.pace import Pace, Steering
from engine.run.precision import DTYPES
from engine.run.preview import Previewer, previewed_weights
from engine.run.session import Session
from engine.run.train import Training
from engine.run.validate import Validator

STEERING = "steering.json"


def assemble(
    session: Session,
    profile: Profile,
    base: Base,
    dataset: Dataset,
    device: torch.device,
    *,
    choice: Choice,
    losses: tuple[float, ...],
) -> Training:
    """Everything loaded and rehearsed, under the plan of `choice`. `losses` are of the last steps of the run that is
    resumed. Raises RunError for what does not fit, StopRequested, CheckpointError."""
    if compiles(profile, device):
        _require_compiler(session, device)
    session.phase("load")
    again = choice.checkpointing if choice.plan == "plain" else profile.memory.checkpointing
    reader = _conditioner(profile, base.checkpoint, device, checkpointing=again)
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
    making = _Making(session, profile, base, trained, make_optimizer, device, reader)
    plan = making.plan(choice)
    if profile.model.precision == "bf16":
        stored = chain(base.checkpoint.unet().items(), conditioner.stored(base.checkpoint) if text else ())
        plan.adopt((name, tensor) for name, tensor in stored if name in trained)
        _warn_of_nearest(session, profile, plan, rates)
    warn_of_pageable(session)
    session.check()
    window = profile.train.accumulate * profile.train.batch_size
    objective = Objective(profile.objective, profile.train.seed, window=window)
    session.phase("preflight")
    preflight.check_disk(session, plan, export_bytes(profile, base.checkpoint.header, trained))
    preflight.rehearse_update(plan)
    previewer = Previewer(session, profile, base.checkpoint, dataset, device, conditioner=reader)
    validator = Validator(session, profile.objective, dataset, conditioner=reader)

    shown = {weights: partial(plan.shown, average=weights != "latest") for weights in previewed_weights(profile)}

    steering = Steering(session.run.path / STEERING)
    batches = _batches(profile, dataset, device)
    session.emit(events.Epoch(samples=batches.order.samples_per_epoch, micro_batches=batches.order.batches_per_epoch))
    return Training(
        session=session,
        profile=profile,
        plan=plan,
        objective=objective,
        pace=Pace(profile, trained, factors=rates, stopping=text, steering=steering, losses=losses),
        batches=batches,
        clock=Clock() if compiles(profile, device) else None,
        draw=lambda step: previewer.draw(plan.predict, step, shown),
        validate=partial(validator.measure, plan),
        state=_state(profile, base, dataset),
        device=device,
        step=0,
        saved=0,
    )


@dataclass(frozen=True)
class _Making:
    """What every plan is made of."""

    session: Session
    profile: Profile
    base: Base
    trained: frozenset[str]
    make_optimizer: MakeOptimizer
    device: torch.device
    reader: Conditioner | None

    def plan(self, choice: Choice) -> Plan:
        if choice.plan == "stage-major":
            return self._staged(choice)
        unet = self._unet(self.device)
        if choice.plan == "plain":
            if choice.checkpointing:
                recompute(unet, keep=0)
            return PlainPlan(unet, self.trained, self.make_optimizer, **self._shared())
        as_many = partial(_as_many, activations.blocks(self.base.layers), self.profile)
        return RingPlan(unet, self.trained, self.make_optimizer, keep=choice.keep, as_many=as_many, **self._shared())

    def _staged(self, choice: Choice) -> Plan:
        return StageMajorPlan(
            self._unet("cpu"),  # from where its parts visit the device
            self.trained,
            self.make_optimizer,
            device=self.device,
            group=choice.group,
            staying=choice.staying,
            window=self.profile.train.accumulate,
            tick=self.session.check,
            **self._shared(),
        )

    def _unet(self, where: torch.device | str) -> nn.Module:
        unet: nn.Module = components.load_unet(self.base.checkpoint, where, DTYPES[self.profile.model.precision])
        if compiles(self.profile, self.device):
            compile_blocks(unet)
        return unet

    def _recorder(self) -> Recorder | None:
        if self.device.type != "cuda" or not self.profile.memory.graphs:
            return None
        return CudaRecorder(self.device, tries_first=self.profile.memory.compile)

    def _shared(self) -> "_Shared":
        profile = self.profile
        return {
            "conditioner": self.reader,
            "master": profile.optimizer.master,
            "ema": profile.ema,
            "seed": profile.train.seed,
            "recorder": self._recorder(),
        }


def _as_many(blocks: Sequence[activations.Block], profile: Profile, keep: int, shape: torch.Size) -> int:
    """A bucket of fewer pixels, or a batch that is not full, leaves room for more blocks' activations."""
    largest = profile.train.batch_size * (profile.data.resolution // 8) ** 2
    return activations.as_many(blocks, keep, min(1.0, shape[0] * shape[2] * shape[3] / largest))


class _Shared(TypedDict):
    conditioner: Conditioner | None
    master: MasterKind
    ema: Ema
    seed: int
    recorder: Recorder | None


def compiles(profile: Profile, device: torch.device) -> bool:
    return profile.memory.compile and device.type == "cuda"


def _require_compiler(session: Session, device: torch.device) -> None:
    session.phase("compile")
    try:
        require_compiler(device)
    except CompileError as error:
        remedy = "On Debian and Ubuntu: apt install gcc python3-dev. Or set memory.compile = false."
        raise RunError("no-compiler", f"memory.compile = true, but nothing can be compiled: {error}", remedy) from error


def _conditioner(
    profile: Profile, base: Checkpoint, device: torch.device, *, checkpointing: bool
) -> Conditioner | None:
    """None where captions are read from the cache."""
    if profile.text_encoders.train == "none":
        return None
    encoders = components.load_text_encoders(base, device, DTYPES[profile.model.precision])
    return Conditioner(encoders, checkpointing=checkpointing)


def warn_of_pageable(session: Session) -> None:
    """Where the system granted no page-locked memory, the run goes on in ordinary one."""
    if Slabs.refused:
        text = "the system grants no more page-locked memory: copies to and from the card will wait for the computation"
        session.warn("pageable", text, "Raise the limit of locked memory (ulimit -l), or train fewer layers.")


def _warn_of_nearest(session: Session, profile: Profile, plan: Plan, factors: Mapping[str, float]) -> None:
    if profile.optimizer.master != "nearest":
        return
    rate = profile.optimizer.learning_rate
    lost = plan.share_lost(lambda name: rate * factors.get(name, 1.0))
    text = f"{lost:.1%} of the updates at the peak rate, {rate:g}, are lost to rounding in bf16"
    session.warn("nearest-master", text, 'Write optimizer.master = "split" unless that is what you study.')


def _batches(profile: Profile, dataset: Dataset, device: torch.device) -> Batches:
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
        page_locked=device.type == "cuda",
    )


def _state(profile: Profile, base: Base, dataset: Dataset) -> checkpoint.TrainingState:
    return checkpoint.TrainingState(
        step=0,
        profile=profile,
        data_fingerprint=dataset.fingerprint,
        base_fingerprint=fingerprint(base.checkpoint, "unet"),
        version=__version__,
    )
