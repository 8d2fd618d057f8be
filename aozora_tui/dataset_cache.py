"""What of the encodings that a run needs is cached already, what it would make anew, and why. No Textual, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aozora_tui.dataset_draws import Vocabulary
from aozora_tui.dataset_survey import Placed
from engine.contract import content_digests, places, snapshot
from engine.contract.atomic import Interrupted
from engine.contract.base_checkpoint import read_base
from engine.contract.fingerprints import Part, fingerprint, tensor_data, tensors_of
from engine.contract.folder import shown
from engine.contract.items import Encoding, Item, Kind, encoding_of, latents_key, text_key
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.snapshot import Snapshot
from engine.contract.vae_file import TILE

Progress = Callable[[str], None]
Stop = Callable[[], bool]

_PARTS: dict[Part, str] = {"vae": "the VAE", "text": "the text encoders"}
_CHANGES = {
    "vae": "another VAE",
    "vae_dtype": "data.vae_precision",
    "vae_tiled": "data.vae_tiling",
    "background": "data.background",
    "latents": "data.latents",
    "text_encoders": "other text encoders",
    "tokenizers": "another vocabulary",
    "text_dtype": "model.precision",
    "max_chunks": "data.max_tokens",
}
_OF_PICTURES = ("vae", "vae_dtype", "vae_tiled", "background", "latents")
_OF_CAPTIONS = ("text_encoders", "tokenizers", "text_dtype", "max_chunks")
_RUNS_ASKED = 8
# Fingerprints of files that have not changed since: reading 2 GB takes seconds.
_known: dict[tuple[Part, object], str] = {}


@dataclass
class Tally:
    """Entries of one kind: how many there are, and how many are missing by their reasons. `bytes` is what the missing
    ones take once they are made; 0 if that is not known."""

    cached: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    def miss(self, why: str, size: int = 0) -> None:
        self.missing[why] += 1
        self.bytes += size


@dataclass(frozen=True)
class CacheState:
    """`captions` is None where none are cached because the text encoders learn, or where `notes` say why it cannot be
    told."""

    folder: Path
    pictures: Tally
    captions: Tally | None
    notes: tuple[str, ...]


def cache_state(
    profile: Profile,
    folder: Path,
    placed: Sequence[Placed],
    vocabulary: Vocabulary | None,
    *,
    should_stop: Stop,
    progress: Progress,
) -> CacheState:
    """Reads the base's VAE and text encoders, 2 GB, once. Raises Interrupted, OSError, ValueError if the base cannot be
    read."""
    vae = places.expand(profile.model.vae, folder) if profile.model.vae else None
    header = read_base(places.expand(profile.model.base, folder), vae)
    learning = profile.text_encoders.train != "none"
    prints = {
        part: "" if part == "text" and learning else _fingerprint(header, part, should_stop, progress)
        for part in _PARTS
    }
    cache = places.expand(profile.data.cache, folder)
    progress("looking at the cache")
    asked = encoding_of(
        profile,
        vae=prints["vae"],
        text_encoders=prints["text"],
        tokenizers=vocabulary.fingerprint if vocabulary else "",
        vae_tiled=profile.data.vae_tiling == "on",
    )
    before = _last_snapshot(placed)
    judging = _Judging(cache, asked, before, should_stop)
    tiles_open = profile.data.vae_tiling == "auto" and any(max(each.bucket) > TILE for each in placed)
    notes = ["data.vae_tiling = auto: whole or in tiles, the card decides at the start"] if tiles_open else []
    captions = None
    if vocabulary is not None and not learning:
        prompts = ("", profile.preview.negative, *profile.preview.prompts)
        captions = judging.captions(placed, prompts, vocabulary)
    elif not learning:
        notes.append("captions: without CLIP's vocabulary it cannot be told which are cached")
    pictures = judging.pictures(placed, tiles_open=tiles_open)
    return CacheState(cache, pictures, captions, tuple(notes))


def _fingerprint(header: Header, part: Part, should_stop: Stop, progress: Progress) -> str:
    names = tensors_of(header, part)
    pieces = [piece for name in names for piece in header.tensors[name].pieces]
    files = {piece.path: piece.path.stat() for piece in pieces}
    stamp = (part, tuple((path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in sorted(files.items())))
    if stamp not in _known:
        total, done = sum(piece.bytes for piece in pieces), 0

        def tell(read: int) -> None:
            nonlocal done
            done += read
            progress(f"reading {_PARTS[part]}: {20 * done // max(total, 1) * 5} %")

        def read(name: str) -> Iterable[bytes | memoryview]:
            return tensor_data(header.tensors[name], should_stop=should_stop, progress=tell)

        _known[stamp] = fingerprint(header, part, read)
    return _known[stamp]


def _last_snapshot(placed: Sequence[Placed]) -> Snapshot | None:
    """Of the newest run that learnt from any of these pictures, of the last few."""
    paths = {each.picture.path for each in placed}
    files = [(file.stat().st_mtime, file) for file in places.runs_folder().glob(f"*/{snapshot.NAME}")]
    for _, file in sorted(files, reverse=True)[:_RUNS_ASKED]:
        try:
            found = snapshot.decode(file.read_bytes())
        except (OSError, ValueError):
            continue
        if any(item.path in paths for item in found.items):
            return found
    return None


class _Judging:
    """`asked` is how this profile encodes, `before` what the last run did."""

    def __init__(self, cache: Path, asked: Encoding, before: Snapshot | None, should_stop: Stop) -> None:
        self._cache, self._asked, self._before, self._should_stop = cache, asked, before, should_stop
        self._items = {item.path: item for item in before.items} if before else {}

    def pictures(self, placed: Sequence[Placed], *, tiles_open: bool) -> Tally:
        digests = content_digests.read_digests(self._cache / content_digests.NAME)
        read_once = {name for name, _ in digests}
        there, tally = _entries(self._cache, "latents"), Tally()
        variants = [replace(self._asked, vae_tiled=tiled) for tiled in (False, True)] if tiles_open else [self._asked]
        for each in self._unless_stopped(placed):
            name = str(each.picture.path.absolute())
            content = digests.get((name, each.picture.identity))
            keys = [latents_key(content, each.placement, how) for how in variants] if content else []
            if there.intersection(keys):
                tally.cached += 1
                continue
            size = each.bucket.width * each.bucket.height // 64 * 16 * (2 if self._asked.latents == "sampled" else 1)
            tally.miss(self._why_picture(each, content, known=name in read_once, tiles_open=tiles_open), size)
        return tally

    def captions(self, placed: Sequence[Placed], prompts: Sequence[str], vocabulary: Vocabulary) -> Tally:
        there, tally = _entries(self._cache, "text"), Tally()
        seen: set[str] = set()
        texts = [(prompt, None) for prompt in prompts]
        for caption, path in [*((each.picture.caption, each.picture.path) for each in placed), *texts]:
            if self._should_stop():
                raise Interrupted("the look at the cache was stopped")
            key = text_key(caption, vocabulary.chunks(caption), self._asked)
            if key in seen:
                continue
            seen.add(key)
            if key in there:
                tally.cached += 1
            else:
                tally.miss(self._why_caption(caption, self._items.get(path) if path else None, prompt=path is None))
        return tally

    def _why_picture(self, each: Placed, content: str | None, *, known: bool, tiles_open: bool) -> str:
        was = self._items.get(each.picture.path)
        if content is None:
            return "changed since they were read" if known else "new: not read by any run yet"
        if was is None or was.identity != each.picture.identity:
            return "not encoded this way by any run yet"
        if was.placement != each.placement:
            return "in another bucket than in the last run"
        ignored = {"vae_tiled"} if tiles_open else set()
        return self._changes([name for name in _OF_PICTURES if name not in ignored])

    def _why_caption(self, caption: str, was: Item | None, *, prompt: bool) -> str:
        if prompt:
            return "prompts of previews, and the empty caption"
        if was is None:
            return "new: of pictures without a run yet"
        return "changed since the last run" if was.caption != caption else self._changes(_OF_CAPTIONS)

    def _changes(self, names: Sequence[str]) -> str:
        assert self._before is not None
        old, new = self._before.encoding, self._asked
        changed = [_CHANGES[name] for name in names if getattr(old, name) != getattr(new, name)]
        return f"changed since the last run: {', '.join(changed)}" if changed else "gone from the cache"

    def _unless_stopped(self, placed: Sequence[Placed]) -> Iterable[Placed]:
        for each in placed:
            if self._should_stop():
                raise Interrupted("the look at the cache was stopped")
            yield each


def _entries(cache: Path, kind: Kind) -> set[str]:
    """The keys that have an entry; whether those are sound, only reading them tells."""
    return {path.stem for path in (cache / kind).glob("*/*.safetensors")}


def unreadable(error: Exception) -> str:
    """Why nothing can be said."""
    return shown(Path(str(error.filename or ""))) + f": {error.strerror}" if isinstance(error, OSError) else str(error)
