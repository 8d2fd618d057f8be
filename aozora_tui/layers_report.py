"""What a selection of layers trains, from a checkpoint's header alone: no tensor is loaded."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from aozora_tui.find_profile import find_profile
from aozora_tui.inspect_file import placed
from aozora_tui.learning import LABELS, Learning, learning
from aozora_tui.text import factor, printable
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import identify
from engine.contract.layers import Layer, human, read_layers, select
from engine.contract.patterns import mend
from engine.contract.profile import load
from engine.contract.safetensors_header import CheckpointError, Header
from engine.contract.sections import Profile
from engine.contract.spelling import patterns_for

_MARKS = {"all": ("■", "[x]"), "some": ("◧", "[-]"), "none": ("□", "[ ]")}


class Part(Struct, frozen=True, kw_only=True):
    """A layer with all that is below it: `trained` of its `parameters` learn, at `rates` times the learning rate.
    `depth` is 0 for the whole UNet and for a text encoder."""

    path: str
    label: str
    depth: int
    parameters: int
    trained: int
    rates: tuple[float, ...]


class Chosen(Struct, frozen=True, kw_only=True):
    """What `train` without `freeze` selects in `checkpoint`. `unmatched` are the patterns that match no tensor, each
    with a remedy, `shortest` a short list that selects the same. `parts` in the order of the forward pass, each after
    the one around it, then the text encoders that a profile trains; the counts are with those."""

    checkpoint: str
    train: tuple[str, ...]
    freeze: tuple[str, ...]
    unmatched: dict[str, str]
    shortest: tuple[str, ...]
    parameters: int
    trained: int
    tensors: int
    trained_tensors: int
    parts: tuple[Part, ...]


def look(source: str, train: Sequence[str], freeze: Sequence[str], *, depth: int) -> Chosen:
    """`source` is a checkpoint, or a profile, whose own selection counts where no pattern is given: `freeze` alone is
    put to the profile's `train`, `train` replaces both.

    Raises CheckpointError, with one sentence, if there is no UNet of SDXL to read, and ValueError for a wrong profile
    or pattern.
    """
    base = Path(source)
    own_train: tuple[str, ...] = ("*",)
    own_freeze: tuple[str, ...] = ()
    profile: Profile | None = None
    if _is_profile(source):
        path = find_profile(source)
        profile = load(path)
        base = places.expand(profile.model.base, path.parent)
        own_train, own_freeze = profile.layers.train, profile.layers.freeze
    train, freeze = tuple(train) or own_train, tuple(freeze) or (() if train else own_freeze)
    header, root = _read(base)
    words = sorted({word for name in root.tensors for word in name.split(".") if not word.isdecimal()})
    selection = select(root.tensors, train, freeze)
    found = learning(root, selection.trained, profile, header)
    return Chosen(
        checkpoint=str(base),
        train=train,
        freeze=freeze,
        unmatched={pattern: mend(pattern, words) for pattern in selection.unmatched},
        shortest=tuple(patterns_for(root, selection.trained)),
        parameters=sum(found.sizes.values()),
        trained=found.count(found.trained),
        tensors=len(found.sizes),
        trained_tensors=len(found.trained),
        parts=(*_parts(root, found, 0, depth), *_encoders(found)),
    )


def lines(chosen: Chosen, *, ascii_only: bool) -> list[str]:
    """The same for a person: the tree, then the sum."""
    indented = [f"{'  ' * part.depth}{_mark(part, ascii_only)} {printable(part.label)}" for part in chosen.parts]
    width = max(map(len, indented))
    differ = any(part.rates not in ((), (1.0,)) for part in chosen.parts)
    said = [f"{'':<{width}}  {'total':>7}  {'trained':>7}" + (f"{'rate':>17}" if differ else "")]
    for name, part in zip(indented, chosen.parts, strict=True):
        trained = human(part.trained) if part.trained else "-"
        share = f"{_percent(part.trained, part.parameters):>9}" if part.trained else ""
        rate = f"{_rate(part):>8}" if differ and part.trained else ""
        said.append(f"{name:<{width}}  {human(part.parameters):>7}  {trained:>7}{share}{rate}")
    amount = f"{human(chosen.trained)} of {human(chosen.parameters)} parameters"
    share = _percent(chosen.trained, chosen.parameters)
    said.append(f"trains {amount} ({share}), {chosen.trained_tensors:,} of {chosen.tensors:,} tensors")
    said.append(f"patterns: {_patterns(chosen)}")
    return said


def _patterns(chosen: Chosen) -> str:
    """The shortest; where those that were given are fewer, and these would fill the screen, the given ones."""
    given = (*chosen.train, *chosen.freeze)
    if len(chosen.shortest) <= len(given):
        return "  ".join(map(printable, chosen.shortest)) or "none"
    frozen = f"  but not  {'  '.join(map(printable, chosen.freeze))}" if chosen.freeze else ""
    return "  ".join(map(printable, chosen.train)) + frozen


def _is_profile(source: str) -> bool:
    """What is no file or folder may still be the name of a profile."""
    path = Path(source)
    return path.suffix == ".toml" or not (path.suffix == ".safetensors" or placed(path).exists())


def _read(base: Path) -> tuple[Header, Layer]:
    base = placed(base)
    try:
        header = read_base(base)
        kind = identify(header)
        if kind.why_not:
            raise CheckpointError(f"{base} cannot be trained here: {kind.why_not}")
        return header, read_layers(header)
    except ValueError as error:  # it may quote what the file says
        raise CheckpointError(printable(str(error))) from error


def _parts(layer: Layer, found: Learning, depth: int, deepest: int) -> Iterator[Part]:
    yield Part(
        path=layer.path,
        label=layer.label,
        depth=depth,
        parameters=layer.parameters,
        trained=found.count(layer.tensors),
        rates=found.factors_of(layer.tensors),
    )
    if depth < deepest:
        for child in layer.children:
            yield from _parts(child, found, depth + 1, deepest)


def _encoders(found: Learning) -> Iterator[Part]:
    for encoder, label in LABELS.items():
        names = [name for name in found.sizes if name.startswith(f"{encoder}.")]
        if names:
            yield Part(
                path=encoder,
                label=label,
                depth=0,
                parameters=sum(found.sizes[name] for name in names),
                trained=found.count(names),
                rates=found.factors_of(names),
            )


def _rate(part: Part) -> str:
    return f"x {factor(part.rates[0])}" if len(part.rates) == 1 else "mixed"


def _mark(part: Part, ascii_only: bool) -> str:
    state = "none" if not part.trained else "all" if part.trained == part.parameters else "some"
    return _MARKS[state][ascii_only]


def _percent(part: int, whole: int) -> str:
    """`6.5 %`; never `100.0 %` or `0.0 %` of what is not."""
    share = 100 * part / max(whole, 1)
    if 0 < share < 0.05:
        return "< 0.1 %"
    return f"{share:.1f} %" if share in (0.0, 100.0) else f"{min(share, 99.9):.1f} %"
