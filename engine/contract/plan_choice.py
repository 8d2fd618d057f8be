"""Which plan a run takes where the profile leaves it open: the fastest of those that fit, or a simpler one that is
nearly as fast."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.contract.budget import Forecast, Forecaster
from engine.contract.calibration import GIB, MARGIN, MOST_TOGETHER
from engine.contract.card_rates import Rates
from engine.contract.plans import LEAST_GROUP, Choice, as_written
from engine.contract.sections import Memory, Profile
from engine.contract.time_forecast import step_seconds

NEARLY = 1.15  # times as long: what the simpler plan may take; it is also within what a forecast can tell
REMEDY = (
    "Raise memory.limit, end other programs on the card, train fewer layers, or lower data.resolution or "
    "train.batch_size; a plan that is named in memory.plan is tried whatever the forecast says."
)


@dataclass(frozen=True)
class Room:
    """Bytes that a run may use, of the card and of host memory; None where that is not known."""

    card: int | None = None
    host: int | None = None

    def fits(self, cost: Forecast) -> bool:
        on_card = self.card is None or cost.device <= self.card
        return on_card and (self.host is None or cost.host <= self.host)


@dataclass(frozen=True)
class Chosen:
    """`step` seconds, or None on a processor; `why` in a sentence; whether it `fits`, as far as is known."""

    cost: Forecast
    step: float | None
    why: str
    fits: bool = True

    @property
    def choice(self) -> Choice:
        return self.cost.choice


class NothingFitsError(ValueError):
    """The text lists what each plan needs; `REMEDY` says what to do."""


def card_room(memory: Memory, free: int) -> int:
    """Bytes of the card that a run may use of `free` ones, its own context included."""
    if memory.limit:
        return min(free, round(memory.limit * GIB))
    return free - round(MARGIN)


def choose(profile: Profile, forecaster: Forecaster, room: Room, rates: Rates) -> Chosen:
    """Pure. Raises NothingFitsError under `auto`; a plan that is named is taken in its cheapest form."""
    memory = profile.memory
    if room.card is None:
        written = as_written(profile)
        return Chosen(forecaster.under(written), None, f"{written}, as far as the profile says it")
    best = [_first_fitting(forecaster, forms, room) for forms in _families(profile, forecaster)]
    fitting = [(step_seconds(profile, forecaster, cost.choice, rates), cost) for cost in best if room.fits(cost)]
    if fitting:
        fastest = min(step for step, _ in fitting)
        step, cost = next(entry for entry in fitting if entry[0] <= NEARLY * fastest)
        reason = "is the fastest" if step == fastest else "is simpler than any faster one"
        fits = f"fits {_gib(room.card)} GiB of the card: it needs {_gib(cost.device)}"
        why = f"{cost.choice} {reason} that {fits}" if memory.plan == "auto" else f"{cost.choice} {fits}"
        return Chosen(cost, step, why)
    if memory.plan == "auto":
        raise NothingFitsError(_refusal(best, room))
    cost = best[-1]
    return Chosen(cost, step_seconds(profile, forecaster, cost.choice, rates), _tight(cost, room), fits=False)


def on_processor(profile: Profile, blocks: int) -> Choice:
    """Where nothing has to fit a card. `blocks`: how many transformer blocks there are."""
    written = as_written(profile)
    if written.plan != "fast":
        return written
    return Choice("fast", written.checkpointing, profile.memory.keep or blocks, written.group)


def _families(profile: Profile, forecaster: Forecaster) -> Iterator[list[Choice]]:
    """Forms of one plan, from the fastest, which needs most of the card, to the cheapest; the simplest plans first."""
    memory, count = profile.memory, len(forecaster.blocks)
    named = memory.plan
    if named in ("auto", "plain"):
        if named == "auto" or not memory.checkpointing:
            yield [Choice("plain", checkpointing=False)]
        if memory.checkpointing:
            yield [Choice("plain", checkpointing=True)]
    if named in ("auto", "fast") and count:
        written = memory.keep if named == "fast" else 0
        yield [Choice("fast", keep=keep) for keep in ([written] if written else range(count, 0, -1))]
    if named in ("auto", "resident"):
        yield [Choice("resident")]
    if named in ("auto", "stage-major"):
        written = memory.group if named == "stage-major" else 0
        most = max(1, min(MOST_TOGETHER, profile.train.accumulate))
        least = min(LEAST_GROUP, most)
        yield [Choice("stage-major", group=group) for group in ([written] if written else range(most, least - 1, -1))]


def _first_fitting(forecaster: Forecaster, forms: list[Choice], room: Room) -> Forecast:
    """Each needs less than the one before it: found by halving. The last one if none fits."""
    low, high = 0, len(forms) - 1
    while low < high:
        middle = (low + high) // 2
        if room.fits(forecaster.under(forms[middle])):
            high = middle
        else:
            low = middle + 1
    return forecaster.under(forms[low])


def _refusal(costs: list[Forecast], room: Room) -> str:
    assert room.card is not None
    listed = "; ".join(
        f"{cost.choice} needs {_gib(cost.device)} GiB"
        + (f" and {_gib(cost.host)} of host memory" if room.host is not None and cost.host > room.host else "")
        for cost in sorted(costs, key=lambda cost: cost.device)
    )
    host = f" and {_gib(room.host)} GiB of host memory" if room.host is not None else ""
    return f"no plan fits the {_gib(room.card)} GiB of the card{host} that the run may use: {listed}"


def _tight(cost: Forecast, room: Room) -> str:
    assert room.card is not None
    if cost.device > room.card:
        return (
            f"{cost.choice} needs about {_gib(cost.device)} GiB of the card, the run may use {_gib(room.card)}: "
            "whether it fits is seen before the first step"
        )
    assert room.host is not None
    return f"{cost.choice} needs about {_gib(cost.host)} GiB of host memory, {_gib(room.host)} are there"


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}"
