"""What only torch can tell of a profile before a run: whether an imported optimizer works, as this profile uses it.

Beside `python -m engine verify`, which must answer fast: nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from engine.contract import profile as profiles
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import identify
from engine.contract.layers import read_layers, select
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.text_tensors import learning_factors, learning_text, text_tensors
from engine.contract.unet_names import unet_names

OK, WRONG = 0, 2


def verify(path: Path, stdout: int) -> int:
    """Write {"problems": [...]} to the descriptor `stdout`, one JSON document and a line break, and return the exit
    code: 2 if one of them is an error. If nobody reads there any more, nobody wants it."""
    try:
        settings = profiles.resolved(profiles.load(path), path.absolute().parent)
        problems = optimizer_problems(settings, _header(settings))
    except ProfileError as error:
        problems = list(error.problems)
    with contextlib.suppress(OSError), os.fdopen(stdout, "wb") as stream:
        stream.write(msgspec.json.encode({"problems": problems}) + b"\n")
    return WRONG if errors(problems) else OK


def optimizer_problems(profile: Profile, header: Header | None) -> list[Problem]:
    """Of an imported optimizer, tried on numbers with the dimensions and rates that the run will give it; without the
    base's `header`, with the rates that are known without it. The check cannot import a package that imports torch, and
    hours of caching are no time to find out."""
    settings = profile.optimizer
    if settings.kind != "imported":
        return []
    from engine.optim.import_path import ImportedOptimizerError
    from engine.optim.trial import MATRIX, check

    text = profile.text_encoders
    unknown = {
        "none": {MATRIX},
        "first": {MATRIX, (2, text.rate)},
        "second": {MATRIX, (2, text.rate_2)},
        "both": {MATRIX, (2, text.rate), (2, text.rate_2)},
    }
    try:
        check(
            settings.import_path,
            settings.arguments,
            tensors=(_tensors(profile, header) if header else ()) or unknown[text.train],
            learning_rate=settings.learning_rate,
        )
    except ImportedOptimizerError as error:
        return list(error.problems)
    return []


def _header(profile: Profile) -> Header | None:
    """Of the base; none if it cannot be trained, which is `check`'s to say."""
    try:
        header = read_base(Path(profile.model.base), Path(profile.model.vae) if profile.model.vae else None)
        read_layers(header)
        return header if identify(header).trainable else None
    except ValueError:
        return None


def _tensors(profile: Profile, header: Header) -> set[tuple[int, float]]:
    """Number of dimensions and learning-rate factor of everything that is trained."""
    dims = {ours: len(header.tensors[name].shape) for name, ours in unet_names(header.tensors).items()}
    trained = select(dims, profile.layers.train, profile.layers.freeze).trained
    text = {name: len(tensor.shape) for name, tensor in text_tensors(header).items()}
    trained |= learning_text(text, profile.text_encoders)
    rates = learning_factors(profile, trained)
    return {((dims | text)[name], rates.get(name, 1.0)) for name in trained}
