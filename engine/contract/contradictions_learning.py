"""The same of what decides how far each step moves: layers, optimizer, schedule, rates, text encoders, average."""

from collections.abc import Iterator

from engine.contract.curves import require_curve, warmup_steps
from engine.contract.decode import key_path
from engine.contract.patterns import encoders_meant, to_train, trained_encoders
from engine.contract.problems import Problem
from engine.contract.rounding_loss import share_lost
from engine.contract.sections import Profile

MOSTLY = 0.9
LINGERING = 0.5  # of the base in an average at the end
RATES = "optimizer.rates"


def learning_contradictions(profile: Profile) -> Iterator[Problem]:
    """Of the sections layers, optimizer, schedule, text_encoders and ema."""
    yield from _layers(profile)
    yield from _optimizer(profile)
    yield from _rates(profile)
    yield from _schedule(profile)
    yield from _text_encoders(profile)
    yield from _lost(profile)
    yield from _average(profile)


def _layers(profile: Profile) -> Iterator[Problem]:
    learning = trained_encoders(profile.text_encoders)
    for name, patterns in (("train", profile.layers.train), ("freeze", profile.layers.freeze)):
        for pattern in patterns:
            if meant := encoders_meant(pattern):
                text = f'"{pattern}" is of a text encoder, and here stand layers of the UNet'
                remedy = f'Remove it, and write train = "{to_train(meant, learning)}" in [text_encoders].'
                if name == "freeze" or meant <= set(learning):
                    remedy = "Remove it: [text_encoders] says which of them learn."
                yield Problem(f"layers.{name}", text, remedy)


def _optimizer(profile: Profile) -> Iterator[Problem]:
    if profile.optimizer.kind == "imported" and not profile.optimizer.import_path:
        text = 'kind = "imported" needs to be told which class'
        yield Problem("optimizer.import_path", text, 'Write import_path = "prodigyopt.Prodigy", or another.')


def _rates(profile: Profile) -> Iterator[Problem]:
    learning = trained_encoders(profile.text_encoders)
    for pattern, factor in profile.optimizer.rates.items():
        path = key_path(RATES, pattern)
        if pattern == "*" and factor == 0:
            yield Problem(path, "lets nothing learn: every learning rate is 0", "Write a factor above 0.")
        meant = encoders_meant(pattern)
        if meant and meant.isdisjoint(learning):
            text = f'"{pattern}" is of a text encoder that does not learn'
            yield Problem(path, text, f'Remove it, or write train = "{to_train(meant, learning)}" in [text_encoders].')


def _schedule(profile: Profile) -> Iterator[Problem]:
    schedule, steps = profile.schedule, profile.train.steps
    if schedule.shape == "curve":
        try:
            require_curve(schedule.curve, steps)
        except ValueError as error:
            remedy = "Write curve = [[0, 1.0], [1, 0.1]] or other points from 0 to 1, left to right."
            yield Problem("schedule.curve", str(error), remedy)
        return
    if schedule.warmup_steps >= steps:
        never = "be level at its peak" if schedule.shape == "constant" else "fall"
        text = f"the warm-up lasts as long as the run ({steps:,} steps): the rate would never {never}"
        yield Problem("schedule.warmup_steps", text, "Write fewer, or raise train.steps.")
        return
    rest = steps - warmup_steps(schedule, steps)
    if schedule.shape == "restarts" and schedule.cycles > rest:
        text = f"the rate falls {schedule.cycles:,} times in {rest:,} steps"
        yield Problem("schedule.cycles", text, "Lower it, or raise train.steps.", "warning")
    rising = schedule.warmup_steps / steps if schedule.warmup_steps else schedule.warmup
    if schedule.shape == "wsd" and rising + schedule.decay > 1 + 1e-9:
        text = f"warm-up ({rising:.4g}) and decay ({schedule.decay:g}) are together more than the whole run"
        yield Problem("schedule.decay", text, "Lower one of them.")


def _text_encoders(profile: Profile) -> Iterator[Problem]:
    settings, steps = profile.text_encoders, profile.train.steps
    if settings.train == "none":
        return
    if settings.stop_after > steps:
        text = f"is beyond the last step ({steps:,}): they learn to the end"
        yield Problem("text_encoders.stop_after", text, "Lower it, or write 0 if that is meant.", "warning")
    if settings.token_embedding == "row_wise" and profile.optimizer.kind == "imported":
        text = "needs an optimizer of ours: one from a package treats the table as a whole, and rare tokens fly away"
        remedy = 'Write token_embedding = "frozen", or kind = "adafactor" or "adamw" in [optimizer].'
        yield Problem("text_encoders.token_embedding", text, remedy)
    if profile.save.export and profile.save.export_format == "unet":
        text = "a file of the UNet alone cannot hold the trained text encoders"
        yield Problem("save.export_format", text, 'Write export_format = "checkpoint" or "diffusers".')


def _lost(profile: Profile) -> Iterator[Problem]:
    """Of an imported optimizer nobody knows how far its learning rate moves a weight."""
    master, rate = profile.optimizer.master, profile.optimizer.learning_rate
    if profile.model.precision != "bf16" or master not in ("nearest", "stochastic"):
        return
    remedy = 'Write master = "split".'
    if profile.optimizer.kind == "imported":
        if master == "nearest":
            text = "updates of less than half a bf16 step are lost: rounding gives them back"
            yield Problem("optimizer.master", text, remedy, "warning")
        return
    lost = share_lost(rate)
    share = "more than 99 %" if lost > 0.995 else f"about {100 * lost:.0f} %"
    if master == "nearest" and lost >= 0.005:
        text = f"{share} of the updates at {rate:g} are lost: they are less than half a bf16 step"
        yield Problem("optimizer.master", text, remedy, "warning")
    if master == "stochastic" and lost > MOSTLY:
        text = (
            f"what weights gain will mostly be noise at {rate:g}: {share} of the updates are less than half a bf16 step"
        )
        yield Problem("optimizer.master", text, remedy, "warning")


def _average(profile: Profile) -> Iterator[Problem]:
    """With warm-up the first step keeps a tenth of the base at most."""
    ema = profile.ema
    base = ema.decay**profile.train.steps
    if ema.decay and not ema.warmup and base > LINGERING:
        share = f"{100 * base:.0f}" if base < 0.995 else "more than 99"
        text = f"the average would still be {share} % base at the end: each step keeps {ema.decay:g} of it"
        yield Problem("ema.decay", text, "Write warmup = true in [ema], or a lower decay.", "warning")
