"""What a start of a profile on this machine would do: which plan, on which budget, for how long."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract import host_memory
from engine.contract.budget import Forecast, Forecaster
from engine.contract.calibration import GIB
from engine.contract.card_rates import Rates, rates_of
from engine.contract.plan_choice import NothingFitsError, Room, card_room, choose, on_processor, remedy_for
from engine.contract.problems import Problem
from engine.contract.sections import Profile

_DIGITS = 9


@dataclass(frozen=True)
class Card:
    """As the driver describes it; bytes. None: it does not say."""

    name: str
    free: int | None


@dataclass(frozen=True)
class Outlook:
    """`plan` is a sentence. `hours` of the whole run, without previews, checkpoints and encoding, by `rates`: None if
    no card's could be told. `host_free` bytes, None if nothing tells. `problems` are warnings, and of this moment, not
    of the profile: memory may be free by the time of the start."""

    cost: Forecast
    plan: str
    hours: float | None = None
    rates: Rates | None = None
    host_free: int | None = None
    problems: tuple[Problem, ...] = ()


def look_ahead(profile: Profile, forecaster: Forecaster, cards: Sequence[Card]) -> Outlook:
    """With `cards` as the driver counts them; none where there is none, or none can be asked."""
    memory, host = profile.memory, host_memory.available()
    if memory.device == "cpu":
        cost = forecaster.under(on_processor(profile, len(forecaster.blocks)))
        problems = tuple(_host_problems(profile, cost.device + cost.host, host))
        return Outlook(cost, f"{cost.choice}, on the processor", host_free=host, problems=problems)
    if missing := missing_card(profile, cards):
        cost = choose(profile, forecaster, Room(), rates_of(None)).cost
        return Outlook(cost, f"none: {missing.path} {missing.text}", host_free=host)
    card = _card(memory.device, cards)
    rates = rates_of(card.name if card else None)
    if card is None and not memory.limit:
        chosen = choose(profile, forecaster, Room(), rates)
        said = "chosen when the run starts: there is no card here to ask what is free (memory.limit would say it)"
        if memory.plan != "auto":
            said = f"{chosen.choice} at the least: there is no card here to ask what fits"
        problems = tuple(_host_problems(profile, chosen.cost.host, host))
        return Outlook(chosen.cost, said, host_free=host, problems=problems)
    room = card_room(memory, card.free) if card and card.free is not None else round(memory.limit * GIB)
    try:
        chosen = choose(profile, forecaster, Room(room, host), rates)
    except NothingFitsError as error:
        cost = choose(profile, forecaster, Room(), rates).cost
        refused = Problem("memory.plan", str(error), error.remedy, "warning")
        return Outlook(cost, "none fits", host_free=host, problems=(refused,))
    problems = tuple(_host_problems(profile, chosen.cost.host, host))
    if chosen.cost.device > room:
        remedy = remedy_for(profile, card=True, host=False)
        problems += (Problem("memory.plan", chosen.why, remedy, "warning"),)
    hours = None if chosen.step is None else profile.train.steps * chosen.step / 3600
    return Outlook(chosen.cost, chosen.why, hours, rates, host, problems)


def missing_card(profile: Profile, cards: Sequence[Card]) -> Problem | None:
    """Where the profile names a card by a number that none of them has. Without any, nothing is known of cards."""
    device = profile.memory.device
    if not cards or device == "cpu" or _number(device) < len(cards):
        return None
    there = "there is one card" if len(cards) == 1 else f"there are {len(cards)} cards"
    remedy = "Cards are counted from cuda:0." if len(cards) > 1 else 'Write "auto" or "cuda:0".'
    return Problem("memory.device", f"is {device[:20]}, but {there}", remedy)


def _card(device: str, cards: Sequence[Card]) -> Card | None:
    number = _number(device)
    return cards[number] if number < len(cards) and cards[number].free is not None else None


def _number(device: str) -> int:
    """Of a card; Python refuses to read numbers of thousands of digits."""
    return int(device.partition(":")[2][:_DIGITS] or 0)


def _host_problems(profile: Profile, needed: int, free: int | None) -> list[Problem]:
    if free is None or needed <= free:
        return []
    text = f"the run needs about {needed / GIB:.1f} GiB of host memory, {free / GIB:.1f} are free"
    return [Problem("memory.plan", text, remedy_for(profile, card=False, host=True), "warning")]
