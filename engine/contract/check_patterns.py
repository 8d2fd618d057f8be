"""Patterns of the profile against the tensors that the base checkpoint has, and whether they let anything learn."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from engine.contract.decode import key_path
from engine.contract.layers import Layer, select
from engine.contract.patterns import encoders_meant, matcher, mend, to_train, trained_encoders
from engine.contract.problems import Problem
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.text_tensors import TOKEN_EMBEDDING, learning_factors, learning_text, text_tensors


def check_patterns(profile: Profile, root: Layer, header: Header) -> Iterator[Problem]:
    """Whether text encoders that a pattern begins with learn at all, the contradictions have said."""
    layers, encoders = profile.layers, text_tensors(header)
    for path, patterns in (("layers.train", layers.train), ("layers.freeze", layers.freeze)):
        for pattern in patterns:
            if not encoders_meant(pattern) and not _matches(pattern, root.tensors):
                text = f'"{pattern}" matches no tensor of the UNet'
                yield Problem(path, text, mend(pattern, _words(root.tensors)))
    yield from _check_rates(profile, root, encoders)
    trained = select(root.tensors, layers.train, layers.freeze).trained
    if not trained:
        yield Problem("layers.train", "nothing is left to train", "Select at least one layer.")
    elif profile.optimizer.rates.get("*") != 0:
        yield from _check_all_rest(profile, trained, learning_text(encoders, profile.text_encoders))


def _check_rates(profile: Profile, root: Layer, encoders: Collection[str]) -> Iterator[Problem]:
    learning = trained_encoders(profile.text_encoders)
    moving = learning_text(encoders, profile.text_encoders)
    for pattern in profile.optimizer.rates:
        path = key_path("optimizer.rates", pattern)
        if _matches(pattern, root.tensors) or _matches(pattern, moving):
            continue
        meant = encoders_meant(pattern)
        if meant and meant.isdisjoint(learning):
            continue
        matched = [name for name in encoders if matcher(pattern)(name)]
        if not matched:
            names = encoders if meant else (*root.tensors, *(encoders if learning else ()))
            network = "the text encoders" if meant else "the UNet or the text encoders" if learning else "the UNet"
            yield Problem(path, f'"{pattern}" matches no tensor of {network}', mend(pattern, _words(names)))
            continue
        resting = {name.split(".")[0] for name in matched}
        if resting.isdisjoint(learning):
            text = f'"{pattern}" is of a text encoder that does not learn'
            remedy = f'Remove it, or write train = "{to_train(resting, learning)}" in [text_encoders].'
            yield Problem(path, text, remedy)
        elif all(name.endswith(TOKEN_EMBEDDING) for name in matched):
            text = f'"{pattern}" has no effect: the token embedding is frozen'
            yield Problem(path, text, 'Remove it, or write token_embedding = "row_wise" in [text_encoders].', "warning")
        else:
            text = f'"{pattern}" has no effect: the UNet reads CLIP-L before its last layer, which never learns'
            yield Problem(path, text, "Remove it.", "warning")


def _check_all_rest(profile: Profile, unet: Collection[str], text: Collection[str]) -> Iterator[Problem]:
    """A factor of 0 is rest, and after text_encoders.stop_after the encoders rest as well."""
    settings = profile.text_encoders
    stop = settings.stop_after if 0 < settings.stop_after < profile.train.steps else 0
    found = learning_factors(profile, (*unet, *text))
    if not _all_rest(unet, found):
        return
    if _all_rest(text, found):
        what = "every layer and text encoder" if text else "every layer"
        wrong = f"let nothing learn: the learning rate of {what} that is trained is 0"
        yield Problem("optimizer.rates", wrong, "Write a factor above 0.")
    elif stop:
        wrong = f"lets nothing learn after step {stop:,}: the learning rate of every layer of the UNet is 0"
        remedy = "Write 0, or a factor above 0 in [optimizer.rates]."
        yield Problem("text_encoders.stop_after", wrong, remedy)


def _all_rest(names: Iterable[str], found: Mapping[str, float]) -> bool:
    return all(found.get(name) == 0 for name in names)


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(map(matcher(pattern), names))


def _words(names: Iterable[str]) -> list[str]:
    return sorted({part for name in names for part in name.split(".") if not part.isdecimal()})
