"""From folders to a cache that holds everything the loop will draw: scan, place, encode, free the encoders."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec
import torch
from torch import Tensor

from engine.contract import places
from engine.contract.atomic import write_text
from engine.contract.buckets import Placement, describe, make_buckets, place
from engine.contract.folder import Skipped, scan, shown
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.data.cache import Cache
from engine.data.content import ContentHashes, make_items
from engine.data.encode import encode_images, encode_texts
from engine.data.items import Encoding, Item, data_fingerprint, text_key
from engine.model import components, latents, text, tokenizers
from engine.model.single_file import Checkpoint, fingerprint
from engine.run.errors import RunError
from engine.run.session import Session

# Captions are encoded in up to this many chunks of 75 tokens; what is longer is cut, and said.
MAX_CHUNKS = 3
NAMED_SKIPS = 20
SNAPSHOT = "dataset.json"

Made = TypeVar("Made")


@dataclass(frozen=True)
class Prompt:
    """A text of the profile, cached as captions are."""

    name: str
    caption: str
    text_key: str


@dataclass(frozen=True)
class Dataset:
    """All that the loop draws from; the pictures and the encoders are not needed any more."""

    cache: Cache
    items: tuple[Item, ...]
    empty: Prompt
    negative: Prompt
    prompts: tuple[Prompt, ...]
    fingerprint: str


class Snapshot(NamedTuple):
    """What `dataset.json` holds: the pictures that a run started with, and how they were encoded."""

    encoding: Encoding
    items: tuple[Item, ...]


def prepare(session: Session, profile: Profile, checkpoint: Checkpoint, device: torch.device) -> Dataset:
    """Everything encoded and verified. A resumed run keeps to the pictures it started with (`dataset.json`).

    Raises RunError or CacheError; StopRequested and Interrupted leave what is encoded in the cache.
    """
    words = tokenizers.load_tokenizers(Path(profile.model.tokenizer) if profile.model.tokenizer else None, checkpoint)
    session.phase("scan")
    cache = Cache(places.expand(profile.data.cache, Path.cwd()))
    encoding = Encoding(
        vae=fingerprint(checkpoint, "vae"),
        vae_dtype="float32",
        background=profile.data.background,
        text_encoders=fingerprint(checkpoint, "text"),
        tokenizers=words.fingerprint,
        text_dtype=profile.model.precision,
        max_chunks=MAX_CHUNKS,
    )
    snapshot = session.run.path / SNAPSHOT
    resumed = has_snapshot(session.run)
    items = _load(snapshot, encoding) if resumed else _scan(session, profile, cache, encoding)
    session.phase("cache")
    items = _encode_pictures(session, profile, checkpoint, device, cache=cache, items=items, resumed=resumed)
    prompts = [_prompt(caption, encoding) for caption in ("", profile.preview.negative, *profile.preview.prompts)]
    _encode_words(session, profile, checkpoint, device, cache=cache, texts=(*items, *prompts), words=words)
    if not resumed:
        write_text(snapshot, msgspec.json.encode(Snapshot(encoding, items), enc_hook=_path_as_text).decode())
    return Dataset(cache, items, prompts[0], prompts[1], tuple(prompts[2:]), data_fingerprint(items))


def has_snapshot(run: RunDir) -> bool:
    """Whether the run has fixed its pictures: from then on it draws these, whatever happens to the folders."""
    return (run.path / SNAPSHOT).exists()


def _load(snapshot: Path, encoding: Encoding) -> tuple[Item, ...]:
    """Raises RunError if the run's pictures and captions would now be encoded differently: the same cache keys would
    stand for other numbers."""
    try:
        kept = msgspec.json.decode(snapshot.read_bytes(), type=Snapshot, dec_hook=_text_as_path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        remedy = "Restore it from a backup; without it this run cannot be continued."
        raise RunError("data-changed", f"{snapshot} is damaged ({error})", remedy) from error
    if kept.encoding != encoding:
        names = [name for name in Encoding.__slots__ if getattr(kept.encoding, name) != getattr(encoding, name)]
        text = f"this run's pictures were encoded with another {', '.join(names)}"
        raise RunError(
            "resume-differs", text, "Restore the run's profile.toml and base checkpoint, or start a new run."
        )
    return kept.items


def _path_as_text(path: Path) -> str:
    """Percent-encoded bytes: a file's name need not be valid in any encoding."""
    return quote_from_bytes(os.fsencode(path))


def _text_as_path(kind: type, text: str) -> Any:
    return kind(os.fsdecode(unquote_to_bytes(text)))


def _scan(session: Session, profile: Profile, cache: Cache, encoding: Encoding) -> tuple[Item, ...]:
    folders = [(Path(folder.path), folder.repeats) for folder in profile.data.folders]
    progress = session.progress("scan", "pictures")
    found = scan(folders, should_stop=session.should_stop, progress=progress)
    step = profile.data.bucket_step
    buckets = make_buckets(profile.data.resolution, step)
    upscale = profile.data.upscale
    placements = [place(p.width, p.height, buckets, step=step, upscale=upscale) for p in found.pictures]
    hashes = ContentHashes(cache.folder / "contents.jsonl")
    items, changed = make_items(
        found.pictures, placements, encoding, hashes, should_stop=session.should_stop, progress=progress
    )
    for problem in found.problems:
        session.warn("caption", f"{problem.path} {problem.text}", problem.remedy)
    _report_skipped(session, (*found.skipped, *changed))
    _report_geometry(session, placements)
    if not items:
        folder_names = ", ".join(folder.path for folder in profile.data.folders)
        raise RunError(
            "no-pictures", f"no usable picture in {folder_names}", "Put some there, or correct data.folders."
        )
    return items


def _report_skipped(session: Session, skipped: tuple[Skipped, ...]) -> None:
    for each in skipped[:NAMED_SKIPS]:
        session.warn("picture_skipped", f"{shown(each.path)} {each.reason}", "Mend or remove it; the run goes on.")
    if (more := len(skipped) - NAMED_SKIPS) > 0:
        session.warn("picture_skipped", f"{more} more pictures cannot be used", "`aozora-tui check` the folders.")


def _report_geometry(session: Session, placements: list[Placement]) -> None:
    cropped = [p for p in placements if p.lost > 0.15]
    if cropped:
        text = f"{len(cropped)} of {len(placements)} pictures lose more than 15 % to cropping"
        session.warn("cropped", text, "Their shapes are far from every bucket: crop them yourself, or leave it.")
    if small := sum(p.upscaled for p in placements):
        session.warn(
            "upscaled", f"{small} pictures are smaller than their bucket and are enlarged", "Find larger ones."
        )
    if placements and len(describe(placements)) > max(8, len(placements) // 4):
        text = f"{len(placements)} pictures fall into {len(describe(placements))} buckets"
        session.warn("buckets", text, "A larger data.bucket_step makes fewer.")


def _encode_pictures(
    session: Session,
    profile: Profile,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    cache: Cache,
    items: tuple[Item, ...],
    resumed: bool,
) -> tuple[Item, ...]:
    colour = profile.data.background.removeprefix("#")
    background = int(colour[0:2], 16), int(colour[2:4], 16), int(colour[4:6], 16)
    vae = _Once(lambda: components.load_vae(checkpoint, device))

    def encode(path: Path, placement: Placement) -> Tensor:
        picture = latents.load_image(path, placement, background)
        return latents.encode_latents(vae.get(), picture.unsqueeze(0))[0].cpu()

    done = encode_images(
        cache,
        items,
        encode,
        should_stop=session.should_stop,
        progress=session.progress("cache", "pictures"),
        report=lambda error: session.warn(error.code, error.text, error.remedy),
    )
    if resumed and done.skipped:
        text = f"{shown(done.skipped[0].path)} {done.skipped[0].reason}, and its cached latents are gone"
        raise RunError(
            "data-changed", text, "Put it back where it was, or start a new run: this one cannot be continued."
        )
    if not done.items:
        raise RunError("no-pictures", "not one picture could be encoded", "The warnings before this say why.")
    return done.items


def _encode_words(
    session: Session,
    profile: Profile,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    cache: Cache,
    texts: tuple[Item | Prompt, ...],
    words: tokenizers.Tokenizers,
) -> None:
    dtype = torch.bfloat16 if profile.model.precision == "bf16" else torch.float32
    encoders = _Once(lambda: components.load_text_encoders(checkpoint, device, torch.float32))

    @torch.no_grad()
    def encode(caption: str) -> tuple[Tensor, Tensor]:
        context, pooled = text.encode(encoders.get(), words, [caption], max_chunks=MAX_CHUNKS)
        return context[0].to(dtype).cpu(), pooled[0].to(dtype).cpu()

    encode_texts(
        cache,
        texts,
        encode,
        should_stop=session.should_stop,
        progress=session.progress("cache", "captions"),
        report=lambda error: session.warn(error.code, error.text, error.remedy),
    )
    long = sum(text.num_chunks(words, each.caption) > MAX_CHUNKS for each in texts)
    if long:
        session.warn("caption_cut", f"{long} captions are longer than {MAX_CHUNKS * 75} tokens", "Their ends are cut.")


def _prompt(caption: str, encoding: Encoding) -> Prompt:
    return Prompt(f'the prompt "{caption[:40]}"', caption, text_key(caption, encoding))


class _Once(Generic[Made]):
    """Made at the first use: a warm cache loads no encoder."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []

    def get(self) -> Made:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]
