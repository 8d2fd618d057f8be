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


def _optimizer(*kinds: str) -> OnlyWith:
    return _choice("optimizer", "kind", *kinds)


def _encoders(*trained: str) -> OnlyWith:
    return _choice("text_encoders", "train", *trained)


_FALLING = _choice("schedule", "shape", "cosine", "linear", "polynomial", "restarts", "wsd", "rex")
_AVERAGED = OnlyWith(lambda profile: profile.ema.decay > 0, "without a decay above 0")
_AVERAGED_PREVIEWS = OnlyWith(
    lambda profile: profile.ema.decay > 0 and bool(profile.preview.prompts),
    "without a decay above 0 and preview.prompts",
)
_ON_A_CARD = OnlyWith(lambda profile: profile.memory.device != "cpu", 'with device = "cpu"')
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
    "optimizer.master": OnlyWith(
        lambda profile: profile.model.precision != "fp32", 'with model.precision = "fp32", which is its own master'
    ),
    "optimizer.weight_decay": OnlyWith(
        lambda profile: profile.optimizer.kind != "imported", "on an imported optimizer, which has it in its arguments"
    ),
    "optimizer.decay_exponent": _optimizer("adafactor"),
    "optimizer.clip_threshold": _optimizer("adafactor"),
    "optimizer.momentum": _optimizer("adafactor"),
    "optimizer.beta1": _optimizer("adamw"),
    "optimizer.beta2": _optimizer("adamw"),
    "optimizer.epsilon": _optimizer("adamw"),
    "optimizer.moments": _optimizer("adamw"),
    "optimizer.import_path": _optimizer("imported"),
    "optimizer.arguments": _optimizer("imported"),
    "schedule.warmup": OnlyWith(
        lambda profile: profile.schedule.shape != "curve" and not profile.schedule.warmup_steps,
        "beside warmup_steps, or on a drawn curve",
    ),
    "schedule.warmup_steps": OnlyWith(lambda profile: profile.schedule.shape != "curve", "on a drawn curve"),
    "schedule.minimum": _FALLING,
    "schedule.power": _choice("schedule", "shape", "polynomial"),
    "schedule.cycles": _choice("schedule", "shape", "restarts"),
    "schedule.decay": _choice("schedule", "shape", "wsd"),
    "schedule.curve": _choice("schedule", "shape", "curve"),
    "text_encoders.rate": _encoders("first", "both"),
    "text_encoders.rate_2": _encoders("second", "both"),
    "text_encoders.token_embedding": _encoders("first", "second", "both"),
    "text_encoders.element_clip": OnlyWith(
        lambda profile: profile.text_encoders.train != "none" and profile.optimizer.kind != "imported",
        'with train = "none", or with an imported optimizer',
    ),
    "text_encoders.stop_after": _encoders("first", "second", "both"),
    "ema.warmup": _AVERAGED,
    "ema.previews": _AVERAGED_PREVIEWS,
    "ema.previews_of_both": _AVERAGED_PREVIEWS,
    "ema.export": OnlyWith(
        lambda profile: profile.ema.decay > 0 and profile.save.export,
        "without a decay above 0 and save.export = true",
    ),
    "memory.limit": _ON_A_CARD,
    "memory.keep": _choice("memory", "plan", "fast"),
    "memory.group": _choice("memory", "plan", "stage-major"),
    "memory.graphs": _ON_A_CARD,
    "memory.compile": _ON_A_CARD,
    "memory.checkpointing": OnlyWith(
        lambda profile: profile.memory.plan in ("auto", "plain") or profile.text_encoders.train != "none",
        'without plan = "auto" or "plain", or text encoders that learn',
    ),
    "validation.every": OnlyWith(lambda profile: profile.validation.pictures > 0, "without validation.pictures"),
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
