"""Settings that are each valid and together impossible, or unwise."""

from collections.abc import Iterator

import msgspec

from engine.contract.buckets import make_buckets
from engine.contract.contradictions_learning import learning_contradictions
from engine.contract.curves import over_timesteps
from engine.contract.only_with import without_effect
from engine.contract.problems import Problem
from engine.contract.sections import Data, Objective, Profile
from engine.contract.timesteps import mean_weight

# Less than this on average means: no timestep that counts is ever drawn, but for the far tails of a density.
NOTHING = 1e-12
# Bytes of device memory that encoding takes for a pixel, in one piece, and the VAE's weights. Measured on an H100.
VAE_BYTES_A_PIXEL = {"fp32": 2573, "bf16": 1543}
VAE_WEIGHTS = {"fp32": 0.31 * 2**30, "bf16": 0.155 * 2**30}
MUCH_MEMORY = 12 * 2**30  # more than the usual card has


def contradictions(profile: Profile) -> list[Problem]:
    """Of the whole profile."""
    return [
        *objective_contradictions(profile.objective),
        *learning_contradictions(profile),
        *_between_sections(profile),
        *_large_encoding(profile.data),
        *without_effect(profile),
    ]


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
    if objective.noise_offset > 0 and objective.zero_terminal_snr and objective.prediction_type != "flow":
        text = "is superfluous at zero terminal SNR, which learns dark and bright by itself"
        yield Problem("objective.noise_offset", text, "Write noise_offset = 0.0.", "warning")


def _between_sections(profile: Profile) -> Iterator[Problem]:
    data, save = profile.data, profile.save
    if data.resolution < data.bucket_step:
        text = f"is smaller than one bucket step ({data.bucket_step})"
        yield Problem("data.resolution", text, "Raise it, or lower data.bucket_step.")
    if save.every > profile.train.steps:
        text = f"is beyond the last step ({profile.train.steps}): nothing is saved before the end"
        yield Problem("save.every", text, "Lower it, or write 0 if that is meant.", "warning")
    if profile.model.vae and save.export and save.export_format == "unet":
        text = "encodes the pictures, but an export of the UNet alone does not carry it"
        remedy = 'Load the same VAE beside the export, or write export_format = "checkpoint".'
        yield Problem("model.vae", text, remedy, "warning")


def _large_encoding(data: Data) -> Iterator[Problem]:
    if data.vae_tiling != "off" or data.resolution < data.bucket_step:
        return
    buckets = make_buckets(data.resolution, data.bucket_step)
    largest = max(buckets, key=lambda bucket: (bucket.width * bucket.height, min(bucket)))
    pixels = largest.width * largest.height
    needed = VAE_BYTES_A_PIXEL[data.vae_precision] * pixels + VAE_WEIGHTS[data.vae_precision]
    if needed >= MUCH_MEMORY:
        size = f"{largest.width}x{largest.height}"
        text = f"encoding {size} in one piece takes about {needed / 2**30:.1f} GiB of the card in {data.vae_precision}"
        yield Problem("data.vae_tiling", text, 'Write vae_tiling = "auto".', "warning")
