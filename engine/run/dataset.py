"""From folders to a cache that holds everything the loop will draw: scan, place, encode, free the encoders."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.contract import places, snapshot
from engine.contract.atomic import write_text
from engine.contract.buckets import Placement, describe, make_buckets, place
from engine.contract.caption_tokens import CHUNK
from engine.contract.content_digests import NAME as CONTENTS
from engine.contract.folder import Skipped, scan, shown
from engine.contract.held_out import held_out
from engine.contract.items import DTYPE_NAMES, Captioned, Encoding, Item, data_fingerprint, text_key
from engine.contract.order import Order
from engine.contract.rundir import RunDir
from engine.contract.sections import NullCondition, Profile
from engine.contract.snapshot import Snapshot
from engine.contract.tokenizer_files import TokenizerError
from engine.data.batches import Batch, Batches, CachedConditions, Conditions, LiveConditions
from engine.data.cache import Cache
from engine.data.content import ContentHashes, make_items
from engine.model.single_file import Checkpoint
from engine.model.text import count_chunks, tokenize
from engine.model.tokenizers import Tokenizers, load_tokenizers
from engine.run import encoding
from engine.run.errors import RunError
from engine.run.session import Session

NAMED_SKIPS = 20
NAMED_CUTS = 3


@dataclass(frozen=True)
class Prompt:
    """A text of the profile, cached as captions are."""

    name: str
    caption: str
    text_key: str


@dataclass(frozen=True)
class Dataset:
    """All that the loop draws from; the pictures and the VAE are not needed any more. `held_out` are what the run is
    measured by and never drawn. `chunks` are the lengths of the
    items' encoded captions, in chunks of 77 tokens, at most `max_chunks`; `words` made them. If `live`, no caption is
    encoded: the text encoders learn, and read the tokens anew every time."""

    cache: Cache
    items: tuple[Item, ...]
    chunks: tuple[int, ...]
    words: Tokenizers
    empty: Prompt
    negative: Prompt
    prompts: tuple[Prompt, ...]
    fingerprint: str
    null_condition: NullCondition = "empty_prompt"
    max_chunks: int = 1
    live: bool = False
    held_out: tuple[Item, ...] = ()

    def conditions(self) -> Conditions:
        """How the loop reads captions. Raises CacheError."""
        if self.live:
            return LiveConditions(self.tokens, zeros=self.null_condition == "zeros")
        return CachedConditions(self.cache, self.null())

    def tokens(self, caption: str) -> tuple[Tensor, Tensor]:
        """What each encoder reads of it, (n, 77) int64 both."""
        return tokenize(self.words, caption, max_chunks=self.max_chunks)

    def null(self) -> tuple[Tensor, Tensor]:
        """What stands for no caption, in training and in previews: prompt_embeds (77, C) and pooled_prompt_embeds (P,)
        in the cache's dtype. Zeros are made, not cached. Not of a live dataset. Raises CacheError."""
        context, pooled = self.cache.load_text(self.empty)
        if self.null_condition == "zeros":
            return torch.zeros_like(context), torch.zeros_like(pooled)
        return context, pooled

    def negative_condition(self) -> tuple[Tensor, Tensor]:
        """Of the previews' negative prompt, (77n, C) and (P,): the null condition if that is empty. Not of a live
        dataset. Raises CacheError."""
        return self.cache.load_text(self.negative) if self.negative.caption.strip() else self.null()


def prepare(session: Session, profile: Profile, checkpoint: Checkpoint, device: torch.device) -> Dataset:
    """Everything encoded and verified, but for captions that learning text encoders read. A resumed run keeps to the
    pictures it started with (`dataset.json`).

    Raises RunError or CacheError; StopRequested and Interrupted leave what is encoded in the cache.
    """
    words = _tokenizers(profile, checkpoint)
    session.phase("scan")
    cache = Cache(places.expand(profile.data.cache, Path.cwd()))
    path = session.run.path / snapshot.NAME
    kept = _load(path) if has_snapshot(session.run) else None
    how = encoding.settle(session, profile, checkpoint, device, words=words, kept=kept.encoding if kept else None)
    if kept:
        _must_agree(kept.encoding, how)
    items = _counted(session, kept.items, words) if kept else _scan(session, profile, cache, how, words=words)
    session.phase("cache")
    items = encoding.encode_pictures(
        session, profile, checkpoint, device, cache=cache, encoding=how, items=items, resumed=kept is not None
    )
    captions = ("", profile.preview.negative, *profile.preview.prompts)
    lengths = count_chunks(words, captions)
    prompts = [_prompt(caption, length, how) for caption, length in zip(captions, lengths, strict=True)]
    _report_cut(session, items, zip(prompts, lengths, strict=True), how.max_chunks)
    live = profile.text_encoders.train != "none"
    if not live:
        texts: tuple[Captioned, ...] = (*items, *prompts)
        encoding.encode_words(session, profile, checkpoint, device, cache=cache, texts=texts, words=words)
    if kept is None:
        write_text(path, snapshot.encode(Snapshot(how, items)))
    drawn, held = _parted(items, profile.validation.pictures)
    return Dataset(
        cache,
        drawn,
        tuple(min(item.chunks, how.max_chunks) for item in drawn),
        words,
        empty=prompts[0],
        negative=prompts[1],
        prompts=tuple(prompts[2:]),
        fingerprint=data_fingerprint(items),
        null_condition=profile.objective.null_condition,
        max_chunks=how.max_chunks,
        live=live,
        held_out=held,
    )


def _parted(items: tuple[Item, ...], count: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Those that are drawn, and `count` that are held out, of copies one. Raises RunError if none would be drawn."""
    looks = [(item.identity.size, *item.original) for item in items]
    try:
        held = held_out(looks, count)
    except ValueError as error:
        raise RunError("validation", f"validation.pictures: {error}", "Lower it, or add pictures.") from error
    out = frozenset(chain.from_iterable(held))
    return tuple(item for place, item in enumerate(items) if place not in out), tuple(items[at[0]] for at in held)


def rehearsal_batch(dataset: Dataset, batch_size: int) -> Batch:
    """The most that a micro-batch can hold: `batch_size` of the largest bucket with the longest caption. Raises
    CacheError."""
    largest = max(dataset.items, key=lambda item: item.bucket.width * item.bucket.height)
    longest, _ = max(zip(dataset.items, dataset.chunks, strict=True), key=lambda pair: pair[1])
    worst = replace(largest, caption=longest.caption, text_key=longest.text_key)
    order = Order([worst.bucket], [batch_size], seed=0, batch_size=batch_size)
    batches = Batches(dataset.cache, [worst], order, dataset.conditions(), seed=0, conditional_dropout=0.0)
    return batches.load(0)


def has_snapshot(run: RunDir) -> bool:
    """Whether the run has fixed its pictures: from then on it draws these, whatever happens to the folders."""
    return (run.path / snapshot.NAME).exists()


def _tokenizers(profile: Profile, checkpoint: Checkpoint) -> Tokenizers:
    folder = Path(profile.model.tokenizer) if profile.model.tokenizer else None
    try:
        return load_tokenizers(folder, checkpoint, fetch=profile.model.fetch_tokenizer)
    except TokenizerError as error:
        raise RunError("tokenizer", error.text, error.remedy) from error


def _load(path: Path) -> Snapshot:
    """Raises RunError if it is damaged."""
    try:
        return snapshot.decode(path.read_bytes())
    except ValueError as error:
        remedy = "Restore it from a backup; without it this run cannot be continued."
        raise RunError("data-changed", f"{path} is damaged ({error})", remedy) from error


def _must_agree(kept: Encoding, now: Encoding) -> None:
    """Raises RunError, naming every setting, if the run's pictures and captions would now be encoded differently: the
    same cache keys would stand for other numbers."""
    pairs = {name: (getattr(kept, name), getattr(now, name)) for name in Encoding.__slots__}
    if wrong := [_DIFFERENCES[name](*pair) for name, pair in pairs.items() if pair[0] != pair[1]]:
        text = f"this run's pictures and captions were encoded with other settings: {'; '.join(wrong)}"
        remedy = "Restore the run's profile.toml and the files that it names, or start a new run."
        raise RunError("resume-differs", text, remedy)


def _was(setting: str, word: Callable[[Any], str] = str) -> Callable[[Any, Any], str]:
    return lambda old, new: f"{setting} was {word(old)}, is {word(new)}"


_PRECISIONS = {name: word for word, name in DTYPE_NAMES.items()}
# What a difference in a field of `Encoding` is called; a fingerprint is no word for a person.
_DIFFERENCES: dict[str, Callable[[Any, Any], str]] = {
    "vae": lambda *_: "model.vae, or model.base without one, holds another VAE",
    "vae_dtype": _was("data.vae_precision", lambda name: _PRECISIONS[name]),
    "vae_tiled": _was("data.vae_tiling", lambda tiled: "on" if tiled else "off"),
    "background": _was("data.background"),
    "latents": _was("data.latents"),
    "text_encoders": lambda *_: "model.base holds other text encoders",
    "tokenizers": lambda *_: "model.tokenizer, or what was found without one, is another vocabulary",
    "text_dtype": _was("model.precision"),
    "max_chunks": _was("data.max_tokens", lambda chunks: str(chunks * CHUNK)),
}


def _counted(session: Session, items: tuple[Item, ...], words: Tokenizers) -> tuple[Item, ...]:
    """The same for a run that was begun before captions were counted."""
    if all(item.chunks for item in items):
        return items
    lengths = _lengths(session, [item.caption for item in items], words)
    return tuple(replace(item, chunks=length) for item, length in zip(items, lengths, strict=True))


def _lengths(session: Session, captions: Sequence[str], words: Tokenizers) -> tuple[int, ...]:
    """In chunks, uncut."""
    progress = session.progress("scan", "captions")
    return count_chunks(words, captions, should_stop=session.should_stop, progress=progress)


def _scan(session: Session, profile: Profile, cache: Cache, how: Encoding, *, words: Tokenizers) -> tuple[Item, ...]:
    folders = [(Path(folder.path), folder.repeats) for folder in profile.data.folders]
    progress = session.progress("scan", "pictures")
    found = scan(folders, should_stop=session.should_stop, progress=progress)
    step = profile.data.bucket_step
    buckets = make_buckets(profile.data.resolution, step)
    upscale = profile.data.upscale
    placements = [place(p.width, p.height, buckets, step=step, upscale=upscale) for p in found.pictures]
    lengths = _lengths(session, [picture.caption for picture in found.pictures], words)
    hashes = ContentHashes(cache.folder / CONTENTS)
    items, changed = make_items(
        found.pictures, placements, lengths, how, hashes, should_stop=session.should_stop, progress=progress
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


def _report_cut(
    session: Session, items: Sequence[Item], prompts: Iterable[tuple[Prompt, int]], max_chunks: int
) -> None:
    """Which texts are longer than what is encoded of them."""
    tokens = max_chunks * CHUNK
    if cut := [item.name for item in items if item.chunks > max_chunks]:
        text = f"{len(cut)} caption{' is' if len(cut) == 1 else 's are'} longer than {tokens} tokens: {_few(cut)}"
        session.warn("caption_cut", text, "What is beyond is not learnt. Shorten them, or raise data.max_tokens.")
    if cut := list(dict.fromkeys(prompt.name for prompt, length in prompts if length > max_chunks)):
        text = f"{len(cut)} prompt{' is' if len(cut) == 1 else 's are'} longer than {tokens} tokens: {_few(cut)}"
        session.warn("prompt_cut", text, "Previews are drawn without their ends.")


def _few(names: Sequence[str]) -> str:
    more = len(names) - NAMED_CUTS
    return ", ".join(names[:NAMED_CUTS]) + (f" and {more} more" if more > 0 else "")


def _prompt(caption: str, length: int, how: Encoding) -> Prompt:
    return Prompt(f'the prompt "{caption[:40]}"', caption, text_key(caption, length, how))
