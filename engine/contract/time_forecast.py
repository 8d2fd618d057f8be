"""How long a run will take on a card: from what is computed, what crosses the link and what moves in the card's memory.

A model, fitted to the measurements in `calibration`; within some ten percent where the card's rates were measured.
Previews, checkpoints and encoding are not in it.
"""

from engine.contract import activations, calibration
from engine.contract.budget import Forecaster
from engine.contract.card_rates import Rates
from engine.contract.learning_cost import resting_bytes, weight_bytes
from engine.contract.plans import Choice, within
from engine.contract.sections import Profile


def flop(forecaster: Forecaster, choice: Choice) -> float:
    """Of a picture of 1024 x 1024, forward and backward. What text encoders compute is not counted."""
    share = min(1.0, forecaster.learning.parameters / max(1, forecaster.learning.total))
    once = calibration.FORWARD + calibration.BACKWARD_INPUTS + share * calibration.BACKWARD_WEIGHTS
    match choice.plan:
        case "plain":
            return once + (calibration.RECOMPUTED_ALL if choice.checkpointing else 0.0)
        case "stage-major":
            return once + calibration.RECOMPUTED_UNITS
        case _:
            kept = activations.share_kept(forecaster.blocks, choice.keep)
            return once + calibration.RECOMPUTED_ALL - kept * calibration.RECOMPUTED_BLOCKS


def step_seconds(profile: Profile, forecaster: Forecaster, choice: Choice, rates: Rates) -> float:
    """Of a step: all its micro-batches, and the update. Groups are taken to be full."""
    choice = within(choice, profile.train.accumulate)
    device, link = (
        _device_seconds(profile, forecaster, choice, rates),
        _link_seconds(profile, forecaster, choice, rates),
    )
    exposed = calibration.EXPOSED * link if choice.plan == "stage-major" else 0.0
    micro = max(device + exposed, link)
    return profile.train.accumulate * micro + _update_seconds(profile, forecaster, choice, rates)


def _device_seconds(profile: Profile, forecaster: Forecaster, choice: Choice, rates: Rates) -> float:
    """Of a micro-batch on the card itself."""
    work = flop(forecaster, choice)
    again = work / (calibration.FORWARD + calibration.BACKWARD_INPUTS + calibration.BACKWARD_WEIGHTS)
    size = weight_bytes(profile) / 2
    products = rates.products / (1.0 if size == 1 else calibration.FP32_SLOWER)
    pictures = forecaster.pixels * (work / products + again * size * calibration.MOVED / rates.memory)
    together = choice.group if choice.plan == "stage-major" else 1
    moved = size * calibration.MOVED_A_PARAMETER * forecaster.learning.total / rates.memory
    replayed = pictures + again * (moved + calibration.REPLAYED) / together
    return replayed if profile.memory.graphs else max(replayed, again * calibration.EAGER / together)


def _link_seconds(profile: Profile, forecaster: Forecaster, choice: Choice, rates: Rates) -> float:
    """What crosses the link for a micro-batch, one way and the other at once."""
    size, learning = weight_bytes(profile), forecaster.learning
    match choice.plan:
        case "plain":
            return 0.0
        case "stage-major":
            times = profile.train.accumulate
            waiting = max(0, forecaster.waiting - choice.staying) / times
            up = 2.5 * waiting + 2 * size * learning.total / times
            down = 1.9 * waiting + 4 * learning.parameters / times
            return max(up, down) / rates.both
        case _:
            return 4 * learning.parameters / rates.both


def _update_seconds(profile: Profile, forecaster: Forecaster, choice: Choice, rates: Rates) -> float:
    parameters, size = forecaster.learning.parameters, weight_bytes(profile)
    resting = sum(resting_bytes(profile))
    sums = 0 if choice.plan == "plain" else 4
    weights = size if choice.plan == "stage-major" else 0
    crossing = (resting + sums + weights) * parameters / rates.both
    told = calibration.UPDATE_TENSOR * len(forecaster.learning.sizes)
    return max(crossing, told, calibration.UPDATE_BYTES * parameters / rates.memory)
