"""Settings of the objective that are each valid and together impossible, or unwise."""

from collections.abc import Iterator

import msgspec

from engine.contract.curves import over_timesteps
from engine.contract.problems import Problem
from engine.contract.sections import Objective
from engine.contract.timesteps import mean_weight

# Less than this on average means: no timestep that counts is ever drawn, but for the far tails of a density.
NOTHING = 1e-12


def objective_contradictions(objective: Objective) -> list[Problem]:
    """Errors first."""
    wrong = [*_impossible_pairs(objective), *_wrong_curves(objective)]
    return [*(wrong or _nothing_learnt(objective)), *_unwise(objective)]


def _impossible_pairs(objective: Objective) -> Iterator[Problem]:
    off = "Write zero_terminal_snr = false (true is the default)"
    if objective.zero_terminal_snr and objective.prediction_type == "epsilon":
        text = "epsilon cannot be learnt at zero terminal SNR: the last timestep holds no signal to scale"
        yield Problem("objective.zero_terminal_snr", text, f"{off}, or choose v_prediction.")
    if objective.prediction_type != "flow":
        return
    if objective.zero_terminal_snr:
        text = "rectified flow has its own noise scale, which already ends in pure noise"
        yield Problem("objective.zero_terminal_snr", text, f"{off}.")
    if objective.loss_weight.startswith("debiased_"):
        text = f"{objective.loss_weight} has no form for rectified flow: its program defines none"
        remedy = 'Write loss_weight = "debiased", the form of the paper carried over to flow, or "min_snr".'
        yield Problem("objective.loss_weight", text, remedy)


def _wrong_curves(objective: Objective) -> Iterator[Problem]:
    drawn = [("weight_curve", objective.weight_curve)] if objective.weight_curve else []
    if objective.timesteps == "curve":
        drawn.append(("timestep_curve", objective.timestep_curve))
    for name, points in drawn:
        try:
            over_timesteps(points)
        except ValueError as error:
            remedy = f"Write {name} = [[0, 0.5], [999, 1.0]] or other points from timestep 0 to 999, left to right."
            yield Problem(f"objective.{name}", str(error), remedy)


def _nothing_learnt(objective: Objective) -> list[Problem]:
    if mean_weight(objective) > NOTHING:
        return []
    remedy = "Draw other timesteps, or let these count."
    plain = msgspec.structs.replace(objective, weight_curve=())
    blamed = "loss_weight" if mean_weight(plain) <= NOTHING else "weight_curve"
    if blamed == "loss_weight":
        remedy = "Draw other timesteps, or raise objective.weight_floor."
    text = "lets nothing count at the timesteps that are drawn: nothing would be learnt"
    return [Problem(f"objective.{blamed}", text, remedy)]


def _unwise(objective: Objective) -> Iterator[Problem]:
    if objective.timestep_curve and objective.timesteps != "curve":
        text = f'is drawn, but timesteps = "{objective.timesteps}" does not use it'
        remedy = 'Write timesteps = "curve", or remove the curve.'
        yield Problem("objective.timestep_curve", text, remedy, "warning")
    if objective.noise_offset > 0 and objective.zero_terminal_snr and objective.prediction_type != "flow":
        text = "is superfluous at zero terminal SNR, which learns dark and bright by itself"
        yield Problem("objective.noise_offset", text, "Write noise_offset = 0.0.", "warning")
