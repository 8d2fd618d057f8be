"""Which plan a run takes where the profile leaves it open: the fastest of those that fit, or a simpler one that is
nearly as fast."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.contract.budget import Forecast, Forecaster
from engine.contract.calibration import GIB, MARGIN, MOST_TOGETHER, STAYING_MARGIN
from engine.contract.card_rates import Rates
from engine.contract.plans import LEAST_GROUP, Choice, as_written
from engine.contract.sections import Memory, Profile
from engine.contract.time_forecast import step_seconds

NEARLY = 1.15  # times as long: what the simpler plan may take; it is also within what a forecast can tell


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
    """`step` seconds, or None on a processor; `why` in a sentence; whether it `fits`, as far as is known, and if not
    what to do."""

    cost: Forecast
    step: float | None
    why: str
    fits: bool = True
    remedy: str = ""

    @property
    def choice(self) -> Choice:
        return self.cost.choice


class NothingFitsError(ValueError):
    """The text lists what each plan needs; `remedy` says what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


def remedy_for(profile: Profile, *, card: bool, host: bool) -> str:
    """Against too little memory of the `card`, or of the `host`."""
    return " ".join([*(_more_card(profile) if card else ()), *(_more_host(profile) if host else ())])


def _more_card(profile: Profile) -> Iterator[str]:
    memory = profile.memory
    ways = ['write memory.plan = "auto"'] if memory.plan != "auto" else []
    ways += ["raise memory.limit"] if memory.limit else []
    ways += ["end other programs on the card", "train fewer layers", "lower data.resolution or train.batch_size"]
    yield _sentence(ways)
    if memory.plan == "auto":
        yield "A plan that is named in memory.plan is tried whatever the forecast says of the card."


def _more_host(profile: Profile) -> Iterator[str]:
    memory, staged = profile.memory, profile.memory.plan in ("auto", "stage-major")
    ways = ["end other programs", "train fewer layers"]
    if memory.device != "cpu":
        ways += ['write memory.plan = "plain"'] if memory.plan not in ("auto", "plain") else []
        ways += ["lower train.accumulate, whose pictures stage-major keeps there"] if staged else []
    yield _sentence([*ways, "keep less beside the weights (optimizer.master, optimizer.moments, ema.decay)"])


def _sentence(ways: list[str]) -> str:
    text = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return f"For host memory, {text}" if ways[0] == "end other programs" else text[0].upper() + text[1:]


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
    if memory.plan == "auto" or memory.limit:  # whoever names the plan alone may want the rest of the card for others
        best = [_filled(forecaster, cost, room.card) for cost in best]
    fitting = [(_likely(profile, forecaster, cost, rates), cost) for cost in best if room.fits(cost)]
    if fitting:
        fastest = min(likely for likely, _ in fitting)
        likely, cost = next(entry for entry in fitting if entry[0] <= NEARLY * fastest)
        step = step_seconds(profile, forecaster, cost.choice, rates)
        reason = "is the fastest" if likely == fastest else "is simpler than any faster one"
        fits = f"fits {_gib(room.card)} GiB of the card: it needs {_gib(cost.device)}"
        why = f"{cost.choice} {reason} that {fits}" if memory.plan == "auto" else f"{cost.choice} {fits}"
        if cost.choice.staying:
            why += f", {_gib(cost.choice.staying)} of it for activations that stay on the card"
        if cost.choice.group > 1:
            why += "; the time is that with full groups"
        return Chosen(cost, step, why)
    if memory.plan == "auto":
        raise NothingFitsError(_refusal(best, room), _remedy(profile, best, room))
    cost = min(best, key=lambda cost: cost.device)
    step = step_seconds(profile, forecaster, cost.choice, rates)
    return Chosen(cost, step, _tight(cost, room), fits=False, remedy=_remedy(profile, [cost], room))


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
    if named in ("auto", "resident") or (named == "fast" and not count):  # which is told as a problem elsewhere
        yield [Choice("resident")]
    if named in ("auto", "stage-major"):
        accumulate = profile.train.accumulate
        written = memory.group if named == "stage-major" else 0
        most = min(written or MOST_TOGETHER, accumulate)
        if not written and most >= LEAST_GROUP:
            yield [Choice("stage-major", group=group) for group in range(most, LEAST_GROUP - 1, -1)]
        # Without groups units are larger: it may need more than a small group, and less where a micro-batch is large.
        yield [Choice("stage-major", group=most if written else 1)]


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


def _likely(profile: Profile, forecaster: Forecaster, cost: Forecast, rates: Rates) -> float:
    """Seconds of a step by which plans are compared: with groups half full, since how many shapes a step's pictures
    have is not known yet."""
    half = replace(cost.choice, group=-(-cost.choice.group // 2))
    return step_seconds(profile, forecaster, half, rates)


def _filled(forecaster: Forecaster, cost: Forecast, card: int) -> Forecast:
    """In stage-major what of the card is left over takes activations that would wait on the host."""
    spare = card - cost.device - round(STAYING_MARGIN)
    if cost.choice.plan != "stage-major" or spare <= 0:
        return cost
    return forecaster.under(replace(cost.choice, staying=min(spare, forecaster.waiting)))


def _refusal(costs: list[Forecast], room: Room) -> str:
    assert room.card is not None
    listed = "; ".join(
        f"{cost.choice} needs {_gib(cost.device)} GiB"
        + (f" and {_gib(cost.host)} of host memory" if room.host is not None and cost.host > room.host else "")
        for cost in sorted(costs, key=lambda cost: cost.device)
    )
    host = f" and {_gib(room.host)} GiB of host memory" if room.host is not None else ""
    return f"no plan fits the {_gib(room.card)} GiB of the card{host} that the run may use: {listed}"


def _remedy(profile: Profile, costs: list[Forecast], room: Room) -> str:
    """By what keeps these from fitting: one that lacks only the host's memory fits the card."""
    short = [
        (room.card is not None and cost.device > room.card, room.host is not None and cost.host > room.host)
        for cost in costs
    ]
    # Where each lacks something, what the least needy ones lack.
    least = [pair for pair in short if sum(pair) == min(map(sum, short))]
    return remedy_for(profile, card=any(card for card, _ in least), host=any(host for _, host in least))


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
