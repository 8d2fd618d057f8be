"""At the start: which memory plan the run takes on this machine, said before hours are spent on anything."""

from dataclasses import dataclass

import msgspec
import torch

from engine.contract import activations, events, host_memory
from engine.contract.budget import Forecast, Forecaster
from engine.contract.calibration import CONTEXT, GIB
from engine.contract.card_rates import rates_of
from engine.contract.plan_choice import NothingFitsError, Room, card_room, choose, on_processor, remedy_for
from engine.contract.plans import Choice, too_many_kept
from engine.contract.sections import Profile
from engine.run.base import Base
from engine.run.errors import RunError
from engine.run.session import Session


@dataclass(frozen=True)
class Taken:
    """`rehearsed`: of how many micro-batches together the card is shown its fullest."""

    choice: Choice
    planned: events.Planned
    rehearsed: int = 1


def take_plan(session: Session, profile: Profile, base: Base, device: torch.device) -> Taken:
    """Raises RunError, with the figures, if no plan fits, if there is too little host memory, or if `keep` is more than
    there is to be kept."""
    host = host_memory.available()
    if problem := too_many_kept(profile, len(activations.blocks(base.layers))):
        raise RunError("profile", f"{problem.path} {problem.text}", problem.remedy)
    if device.type != "cuda":
        return _on_processor(profile, base, host)
    forecaster = Forecaster(profile, base.layers, base.trained, base.checkpoint.header)
    may_use = card_room(profile.memory, free_bytes(device))
    rates = rates_of(torch.cuda.get_device_name(device))
    try:
        chosen = choose(profile, forecaster, Room(may_use, host), rates)
    except NothingFitsError as error:
        raise RunError("no-plan-fits", str(error), error.remedy) from error
    _require_host(profile, chosen.cost, chosen.cost.host, host)
    if not chosen.fits:
        session.warn("tight-memory", chosen.why, chosen.remedy)
    if profile.memory.limit:
        _hold(profile.memory.limit, device)
    event = _planned(chosen.cost, chosen.why)
    event = msgspec.structs.replace(
        event, needs=chosen.cost.device, room=max(0, may_use), step_seconds=chosen.step or 0.0, rates=rates.source
    )
    return Taken(chosen.choice, event, rehearsed(profile, chosen.choice, forecaster.waiting))


def _on_processor(profile: Profile, base: Base, host: int | None) -> Taken:
    """Everything is in host memory."""
    memory = msgspec.structs.replace(profile.memory, device="cpu")
    profile = msgspec.structs.replace(profile, memory=memory)
    forecaster = Forecaster(profile, base.layers, base.trained, base.checkpoint.header)
    choice = on_processor(profile, len(forecaster.blocks))
    cost = forecaster.under(choice)
    _require_host(profile, cost, cost.device + cost.host, host)
    return Taken(choice, _planned(cost, f"{choice}, on the processor"))


def rehearsed(profile: Profile, choice: Choice, waiting: int) -> int:
    """Whole groups, and as many as it takes for what may stay on the card to do so. `waiting` bytes are a step's."""
    most = profile.train.accumulate
    pictures = -(-choice.staying * most // max(1, waiting))
    return min(most, choice.group * max(1, -(-pictures // choice.group)))


def free_bytes(device: torch.device) -> int:
    """Of the card, with what this process holds already: its context, and torch's cache."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) + round(CONTEXT)


def _require_host(profile: Profile, cost: Forecast, needed: int, free: int | None) -> None:
    if free is not None and needed > free:
        text = f"{cost.choice} needs about {needed / GIB:.1f} GiB of host memory, {free / GIB:.1f} are free"
        raise RunError("host-memory", text, remedy_for(profile, card=False, host=True))


def _hold(limit: float, device: torch.device) -> None:
    """torch takes no more than that; the context is not torch's to count."""
    total = torch.cuda.get_device_properties(device).total_memory
    share = min(1.0, max(0.0, limit * GIB - CONTEXT) / total)
    torch.cuda.set_per_process_memory_fraction(share, device.index or 0)


def _planned(cost: Forecast, why: str) -> events.Planned:
    choice = cost.choice
    return events.Planned(
        plan=choice.plan,
        checkpointing=choice.checkpointing,
        keep=choice.keep,
        group=choice.group,
        staying=choice.staying,
        host=cost.host,
        why=why,
    )
