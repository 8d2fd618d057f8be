"""Where the profile, the base checkpoint and what other programs will make of the export contradict each other."""

from collections.abc import Iterator

from engine.contract.checkpoint_kind import Kind
from engine.contract.problems import Problem
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile, Save

# As the node ModelSamplingDiscrete of ComfyUI calls them.
_SAMPLINGS = {"v_prediction": "v_prediction", "epsilon": "eps"}


def check_markers(profile: Profile, header: Header, kind: Kind) -> Iterator[Problem]:
    """Warnings only: each may be meant."""
    yield from _base_against_itself(header, kind)
    yield from _profile_against_base(profile, header, kind)
    save = profile.save
    if profile.objective.prediction_type == "flow" and save.export and save.export_format != "diffusers":
        text = "no marker says rectified flow: ComfyUI and A1111 will take the export for epsilon, and draw noise"
        remedy = "In ComfyUI, put a ModelSamplingSD3 node between the checkpoint and the sampler."
        yield Problem("objective.prediction_type", text, remedy, "warning")


def _base_against_itself(header: Header, kind: Kind) -> Iterator[Problem]:
    """A folder has no markers to disagree with, and rectified flow none that it could have."""
    if header.scheduler or kind.prediction_type not in _SAMPLINGS or kind.prediction_type == kind.comfyui:
        return
    text = (
        f"{header.path.name} announces {kind.prediction_type} ({kind.announced_by}), but its marker keys say "
        f"{kind.comfyui}: ComfyUI reads only those, and has been sampling it as {kind.comfyui}"
    )
    sampling = _SAMPLINGS[kind.prediction_type]
    remedy = f"Find out which is true: in ComfyUI, a ModelSamplingDiscrete node set to {sampling} samples as announced."
    yield Problem("model.base", text, remedy, "warning")


def _profile_against_base(profile: Profile, header: Header, kind: Kind) -> Iterator[Problem]:
    objective, save = profile.objective, profile.save
    ours, theirs = objective.prediction_type, kind.prediction_type
    base = f"{header.path.name} announces"
    if ours != theirs:
        text = (
            f"the profile trains {ours}, but {base} {theirs} ({kind.announced_by}); {_sampled_as(ours, save)}pictures "
            "come out as noise until the run has been long enough to convert it"
        )
        yield Problem("objective.prediction_type", text, f"Write {theirs} unless you mean to convert it.", "warning")
    elif objective.zero_terminal_snr and not kind.zero_terminal_snr:
        text = (
            f"the profile trains with zero terminal SNR, but {base} none ({kind.announced_by}); "
            f"{_drawn_by(save, 'carry')} start from pure noise, where this base was never trained: until the run has "
            "taught it that, pictures come out flat or burnt"
        )
        yield Problem("objective.zero_terminal_snr", text, "Write false unless you mean to convert it.", "warning")
    elif kind.zero_terminal_snr and not objective.zero_terminal_snr:
        text = (
            f"the profile trains without zero terminal SNR, but {base} it ({kind.announced_by}); "
            f"{_drawn_by(save, 'lack')} no longer start from pure noise: very dark and very bright pictures turn grey"
        )
        yield Problem("objective.zero_terminal_snr", text, "Write true unless you mean to convert it.", "warning")


def _sampled_as(prediction_type: str, save: Save) -> str:
    """What says so in the export, and to whom; no marker says rectified flow."""
    if save.export and save.export_format == "diffusers":
        return f"the exported folder's scheduler will say so, and diffusers will sample it as {prediction_type}: "
    if save.export and prediction_type != "flow":
        return f"the export will carry the profile's markers, so ComfyUI will sample it as {prediction_type}: "
    return ""


def _drawn_by(save: Save, verb: str) -> str:
    """Who will act on the zero terminal SNR that the export will `carry` or `lack`; previews do without an export."""
    if not save.export:
        return "pictures will"
    if save.export_format == "diffusers":
        return f"the exported folder's scheduler will {verb} it, so diffusers will"
    return f"the export will {verb} ztsnr, so ComfyUI will"
