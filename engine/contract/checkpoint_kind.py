"""What a checkpoint is, from its table of contents: the model family, and what it was trained to predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from engine.contract.model_family import family
from engine.contract.safetensors_header import PREDICTION_KEY, Header, TensorInfo
from engine.contract.sections import PredictionType

AnyPrediction = PredictionType | Literal["edm", "edm_v"]

_MODELSPEC_KEY = "modelspec.prediction_type"
# What trainers have written there; the specification itself knows "epsilon" and "v" only.
_MODELSPEC_WORDS: Mapping[str, PredictionType] = {
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
    "vpred": "v_prediction",
    "v_pred": "v_prediction",
    "epsilon": "epsilon",
    "eps": "epsilon",
}
_OUR_WORDS: Mapping[str, PredictionType] = {word: word for word in get_args(PredictionType)}
_SCHEDULER_WORDS: Mapping[str, PredictionType] = {
    "v_prediction": "v_prediction",
    "epsilon": "epsilon",
    "flow_prediction": "flow",
}


@dataclass(frozen=True)
class Kind:
    """What a checkpoint says it is. `why_not` is empty for a whole SDXL checkpoint that can be trained here, else one
    sentence.

    `prediction_type` and `zero_terminal_snr` are the most trustworthy of what it announces, and `announced_by` says
    where that stands; `comfyui` is what ComfyUI takes the file for, which reads the marker keys only. Rectified flow
    has no marker.
    """

    name: str
    why_not: str
    prediction_type: AnyPrediction
    zero_terminal_snr: bool
    announced_by: str
    comfyui: AnyPrediction

    @property
    def trainable(self) -> bool:
        return not self.why_not


@dataclass(frozen=True)
class _Announced:
    prediction_type: AnyPrediction
    zero_terminal_snr: bool
    by: str


def identify(header: Header) -> Kind:
    """Which model family the tensor names and shapes belong to, and what the checkpoint announces to predict."""
    announced = _announced(header)
    name, reason = family(header)
    if not reason and announced.prediction_type in ("edm", "edm_v"):
        name, reason = "SDXL with an EDM schedule", "uses EDM noise levels, which no objective here can continue"
    elif not reason and (word := str(header.scheduler.get("prediction_type", "epsilon"))) not in _SCHEDULER_WORDS:
        name = "SDXL of another kind"
        reason = f"predicts {word} (its scheduler_config.json), which no objective here can continue"
    why_not = f"{header.path.absolute().name} {reason}." if reason else ""
    return Kind(
        name,
        why_not,
        announced.prediction_type,
        announced.zero_terminal_snr,
        announced.by,
        _as_comfyui_reads(header.tensors),
    )


def _announced(header: Header) -> _Announced:
    """Markers of EDM come first: no export of ours carries them, whatever metadata was kept from its base."""
    tensors, scheduler = header.tensors, header.scheduler
    marked = _as_comfyui_reads(tensors)
    if marked in ("edm", "edm_v"):
        return _Announced(marked, False, "the edm_ markers")
    if said := _OUR_WORDS.get(header.metadata.get(PREDICTION_KEY, "")):
        zero_terminal = "ztsnr" in tensors or bool(scheduler.get("rescale_betas_zero_snr"))
        return _Announced(said, said == "v_prediction" and zero_terminal, f"its own metadata ({PREDICTION_KEY})")
    if marked == "v_prediction":
        zero_terminal = "ztsnr" in tensors
        return _Announced(marked, zero_terminal, f"the v_pred {'and ztsnr markers' if zero_terminal else 'marker'}")
    alone = "; its ztsnr marker does nothing in ComfyUI without v_pred" if "ztsnr" in tensors else ""
    if said := _MODELSPEC_WORDS.get(header.metadata.get(_MODELSPEC_KEY, "").lower()):
        zero_terminal = said == "v_prediction" and "ztsnr" in tensors
        return _Announced(said, zero_terminal, f"{_MODELSPEC_KEY} in its metadata{alone}")
    if scheduler:
        return _by_scheduler(header)
    return _Announced("epsilon", False, f"no marker: epsilon is assumed, as ComfyUI does{alone}")


def _as_comfyui_reads(names: Mapping[str, TensorInfo]) -> AnyPrediction:
    """The order of `SDXL.model_type` in its comfy/supported_models.py."""
    if "edm_mean" in names and "edm_std" in names:
        return "edm"
    if "edm_vpred.sigma_max" in names:
        return "edm_v"
    return "v_prediction" if "v_pred" in names else "epsilon"


def _by_scheduler(header: Header) -> _Announced:
    said, by = header.scheduler, "its scheduler_config.json"
    scheduler = str(said.get("_class_name", ""))
    if scheduler.startswith("EDM"):
        return _Announced("edm", False, by)
    if scheduler.startswith("FlowMatch"):
        return _Announced("flow", False, by)
    prediction = _SCHEDULER_WORDS.get(str(said.get("prediction_type")), "epsilon")  # diffusers' own default
    return _Announced(prediction, prediction == "v_prediction" and bool(said.get("rescale_betas_zero_snr")), by)
