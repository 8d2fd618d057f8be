"""Settings that do something only beside others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from engine.contract.fields import form_fields
from engine.contract.problems import Problem
from engine.contract.sections import Profile


@dataclass(frozen=True)
class OnlyWith:
    """`used` says whether a profile lets the setting have an effect; `otherwise` ends the sentence "has no effect"."""

    used: Callable[[Profile], bool]
    otherwise: str


def _choice(section: str, name: str, *words: str) -> OnlyWith:
    """For a setting that stands in the same section as the choice it belongs to."""
    wanted = " or ".join(f'"{word}"' for word in words)
    return OnlyWith(lambda profile: getattr(getattr(profile, section), name) in words, f"without {name} = {wanted}")


def _null_is_used(profile: Profile) -> bool:
    preview, save = profile.preview, profile.save
    guided_by_it = bool(preview.prompts) and preview.guidance != 1 and not preview.negative.strip()
    announced = save.export and save.export_format == "diffusers"
    return profile.objective.conditional_dropout > 0 or guided_by_it or announced


_EXPORTED = OnlyWith(lambda profile: profile.save.export, "without export = true")

# By path; a setting that is not here has an effect in every profile.
ONLY_WITH: dict[str, OnlyWith] = {
    "model.fetch_tokenizer": OnlyWith(
        lambda profile: not profile.model.tokenizer, "where model.tokenizer names a folder"
    ),
    "objective.huber_delta": _choice("objective", "loss", "huber", "smooth_l1"),
    "objective.min_snr_gamma": _choice("objective", "loss_weight", "min_snr", "debiased_aozora"),
    "objective.weight_floor": OnlyWith(
        lambda profile: profile.objective.loss_weight != "none", 'with loss_weight = "none", which is 1 everywhere'
    ),
    "objective.logit_mean": _choice("objective", "timesteps", "logit_normal"),
    "objective.logit_std": _choice("objective", "timesteps", "logit_normal"),
    "objective.laplace_scale": _choice("objective", "timesteps", "log_snr_laplace"),
    "objective.beta_a": _choice("objective", "timesteps", "beta"),
    "objective.beta_b": _choice("objective", "timesteps", "beta"),
    "objective.timestep_curve": _choice("objective", "timesteps", "curve"),
    "objective.stratified": OnlyWith(
        lambda profile: profile.train.accumulate * profile.train.batch_size > 1,
        "on updates of one picture (train.accumulate x train.batch_size)",
    ),
    "objective.null_condition": OnlyWith(
        _null_is_used, "without conditional_dropout, a preview that has no negative prompt, or a diffusers export"
    ),
    "schedule.minimum": _choice("schedule", "shape", "cosine", "linear"),
    "save.export_format": _EXPORTED,
    "save.export_precision": _EXPORTED,
}


def without_effect(profile: Profile) -> Iterator[Problem]:
    """A warning for each setting that differs from its default and does nothing in this profile."""
    for path, only in ONLY_WITH.items():
        section, name = path.split(".")
        default = form_fields()[path].default
        if getattr(getattr(profile, section), name) != default and not only.used(profile):
            shown = msgspec.json.encode(default).decode()
            yield Problem(
                path, f"has no effect {only.otherwise}", f"Change that, or write {name} = {shown}.", "warning"
            )
