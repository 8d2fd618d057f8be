"""Everything that can be known to be wrong before a run starts, without torch: the profile against this machine."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract import activations, places
from engine.contract.base_checkpoint import read_base
from engine.contract.budget import Forecast, Forecaster
from engine.contract.check_markers import check_markers
from engine.contract.check_patterns import check_patterns
from engine.contract.checkpoint_kind import Kind, identify
from engine.contract.contradictions import contradictions
from engine.contract.folder import holding
from engine.contract.in_doubt import certain
from engine.contract.layers import Layer, read_layers, select
from engine.contract.outlook import Card, Outlook, look_ahead, missing_card
from engine.contract.plans import too_many_kept
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.profile import parse, read_text, salvage
from engine.contract.safetensors_header import CheckpointError, Header
from engine.contract.sections import Profile
from engine.contract.tokenizer_files import TokenizerError, find_tokenizers, may_fetch
from engine.contract.tokenizer_tables import require_sound
from engine.contract.vae_file import read_vae


@dataclass(frozen=True)
class Checked:
    """`kind` is what the base checkpoint is, when it could be read, also beside a profile that is wrong elsewhere;
    `outlook` needs every value."""

    profile: Profile | None
    problems: tuple[Problem, ...]
    outlook: Outlook | None = None
    kind: Kind | None = None

    @property
    def forecast(self) -> Forecast | None:
        """Under the plan that would be taken."""
        return self.outlook.cost if self.outlook else None

    @property
    def ok(self) -> bool:
        return self.profile is not None and not errors(self.problems)


@dataclass(frozen=True)
class OnMachine:
    """What this machine says of a profile, as in `Checked`."""

    problems: tuple[Problem, ...]
    outlook: Outlook | None = None
    kind: Kind | None = None


def check_file(path: Path, cards: Sequence[Card] = ()) -> Checked:
    """The profile in `path`: what is wrong in it, and with what it names on this machine, which has these `cards`."""
    try:
        return check_text(read_text(path), path, cards)
    except ProfileError as error:
        return Checked(None, error.problems)


def check_text(text: str, path: Path, cards: Sequence[Card] = ()) -> Checked:
    """The same for a text that is not saved yet; `path` is where relative names in it start."""
    profile, problems = parse(text, str(path))
    rest = profile or salvage(text, problems)
    if rest is None:
        return Checked(None, tuple(problems))
    here = check_machine(rest, path.parent, wrong=() if profile else problems, cards=cards)
    if profile is None:
        more = (*certain(contradictions, rest, problems), *here.problems)
        found = (*problems, *(problem for problem in more if not _is_said(problem.path, problems)))
    else:
        # What the base announces comes before what the settings contradict: it says which of them is right.
        found = (*here.problems, *problems)
    return Checked(profile, found, here.outlook if profile else None, here.kind)


def _is_said(path: str, problems: Sequence[Problem]) -> bool:
    """Of a setting, or of something in it."""
    return any(path == said.path or path.startswith((f"{said.path}.", f"{said.path}[")) for said in problems)


def check_machine(
    profile: Profile,
    base: Path,
    *,
    new_run: bool = True,
    wrong: Sequence[Problem] = (),
    cards: Sequence[Card] = (),
) -> OnMachine:
    """What the profile names: does it exist, is it what it should be, is there room for what the run will write.
    A resumed run has its pictures in the cache and its checkpoints on the disk: neither is looked at again. Settings
    named in `wrong` only have their defaults: what rests on those is not said."""
    problems = [*certain(lambda settings: _check_card(settings, cards), profile, wrong)]
    problems += _check_tokenizer(profile, base)
    if new_run:
        problems += [*_check_folders(profile, base), *_check_writable(profile, base)]
    checkpoint = places.expand(profile.model.base, base)
    if not checkpoint.exists() and is_demo(checkpoint):
        return OnMachine(tuple(problems))  # built by the run itself
    vae = places.expand(profile.model.vae, base) if profile.model.vae else None
    unusable = list(_check_vae(vae))
    problems += unusable
    try:
        header, kind, root = _read(checkpoint, None if unusable else vae)
    except ValueError as error:
        return OnMachine((*problems, _unusable_base(str(error).rstrip("."), checkpoint)))
    trained = select(root.tensors, profile.layers.train, profile.layers.freeze)
    problems += certain(lambda settings: check_markers(settings, header, kind), profile, wrong)
    problems += certain(lambda settings: check_patterns(settings, root, header), profile, wrong)
    problems += certain(lambda settings: _check_keep(settings, root), profile, wrong)
    outlook = look_ahead(profile, Forecaster(profile, root, trained.trained, header), cards)
    if new_run:
        problems += _check_disk(outlook.cost)
    return OnMachine(tuple(problems), outlook, kind)


def _unusable_base(sentence: str, checkpoint: Path) -> Problem:
    """Most sentences say behind a colon what to do."""
    advises = ": " in sentence.replace(str(checkpoint), "")
    return Problem("model.base", sentence, "" if advises else "Name an SDXL .safetensors file, or a diffusers folder.")


def _read(checkpoint: Path, vae: Path | None) -> tuple[Header, Kind, Layer]:
    """Raises ValueError."""
    header = read_base(checkpoint, vae)
    kind = identify(header)
    if not kind.trainable:
        raise CheckpointError(kind.why_not)
    return header, kind, read_layers(header)


def is_demo(path: Path) -> bool:
    """Whether the path is one of the demo's own files, which the engine builds when they are absent."""
    return path.is_relative_to(places.demo_folder())


def _check_vae(vae: Path | None) -> Iterator[Problem]:
    try:
        if vae is not None:
            read_vae(vae)
    except CheckpointError as error:
        yield Problem("model.vae", str(error), "Name an SDXL VAE, or leave it empty for the base checkpoint's own.")


def _check_tokenizer(profile: Profile, base: Path) -> Iterator[Problem]:
    folder = places.expand(profile.model.tokenizer, base) if profile.model.tokenizer else None
    if folder is not None and is_demo(folder) and not folder.exists():
        return
    model = places.expand(profile.model.base, base)
    try:
        for place in dict.fromkeys(find_tokenizers(folder, model)):
            require_sound(place)
    except TokenizerError as error:
        if profile.model.fetch_tokenizer and may_fetch(folder, model):
            text = f"{error.text}: the run will load it from the Hugging Face hub"
            remedy = "If this machine cannot reach it, run `pip install 'aozora-tui[offline]'`."
            yield Problem("model.tokenizer", text, remedy, "warning")
        else:
            yield Problem("model.tokenizer", error.text, error.remedy)


def _check_folders(profile: Profile, base: Path) -> Iterator[Problem]:
    paths = [places.expand(folder.path, base) for folder in profile.data.folders]
    for index, (path, held) in enumerate(zip(paths, holding(paths), strict=True)):
        where = f"data.folders[{index}].path"
        if is_demo(path) and not path.exists():
            continue
        if not path.is_dir():
            what = "is not a folder" if path.exists() else "does not exist"
            yield Problem(where, f"{path} {what}", "Name the folder that holds the pictures.")
        elif not held and holding([path])[0]:
            text = f"{path} holds no picture that is not in another of these folders"
            yield Problem(where, text, "Remove it, or leave it: those pictures are drawn once.", "warning")
        elif not held:
            yield Problem(where, f"{path} holds no picture", "Put png, jpg, webp, bmp, tiff or avif files there.")


def _check_writable(profile: Profile, base: Path) -> Iterator[Problem]:
    for where, folder, remedy in (
        ("data.cache", places.expand(profile.data.cache, base), "Name a folder of yours."),
        ("runs", places.runs_folder(), "Mend its permissions, or set AOZORA_RUNS to a folder of yours."),
    ):
        existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            yield Problem(where, f"{folder} cannot be written", remedy)


def _check_card(profile: Profile, cards: Sequence[Card]) -> Iterator[Problem]:
    if problem := missing_card(profile, cards):
        yield problem


def _check_keep(profile: Profile, root: Layer) -> Iterator[Problem]:
    if problem := too_many_kept(profile, len(activations.blocks(root))):
        yield problem


def _check_disk(cost: Forecast) -> Iterator[Problem]:
    folder = places.runs_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < cost.disk * 1.1:
        text = (
            f"the run writes up to {cost.disk / 1e9:.1f} GB (checkpoints and export), {existing} has {free / 1e9:.1f}"
        )
        yield Problem("save.keep", text, "Keep fewer checkpoints, free some space, or set AOZORA_RUNS.")
