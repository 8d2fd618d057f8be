"""What can be trained on, and the names under which its encodings are cached: digests of all that they depend on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

from engine.contract.buckets import Bucket, Placement, time_ids
from engine.contract.folder import Identity
from engine.contract.vae_file import TILE

# Raised whenever the same inputs would be encoded or stored differently.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What encodings depend on besides the picture and its caption. A change of any makes other cache entries.

    `vae`, `text_encoders` and `tokenizers` are fingerprints of their weights and vocabularies; the dtypes are those the
    encoders compute in and, for text, what is stored (latents are always stored as float32). `max_chunks` is the limit
    of a caption, which does not touch those that stay below it. `latents` says what is kept of a picture's posterior:
    its mean, or what it takes to sample from it.
    """

    vae: str
    vae_dtype: str
    background: str
    text_encoders: str
    tokenizers: str
    text_dtype: str
    max_chunks: int
    vae_tiled: bool = False
    latents: Literal["mean", "sampled"] = "mean"


class Captioned(Protocol):
    """What a caption's encoding is cached for: an item, or a prompt that no picture belongs to."""

    @property
    def name(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def text_key(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture with its caption, ready to be encoded and drawn. `original` is (width, height) after EXIF rotation;
    `name` is how it is called in messages; `chunks` is how many the whole caption takes, which may be more than are
    encoded, and 0 in what was written before they were counted."""

    name: str
    path: Path
    identity: Identity
    caption: str
    original: tuple[int, int]
    placement: Placement
    repeats: int
    latents_key: str
    text_key: str
    chunks: int = 0

    @property
    def bucket(self) -> Bucket:
        return self.placement.bucket

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        return time_ids(self.original, self.placement.crop, self.bucket)


def latents_key(content: str, placement: Placement, encoding: Encoding) -> str:
    """`content` is the digest of the file's bytes: a renamed picture keeps its latents, an edited one does not."""
    geometry = (*placement.bucket, *placement.scaled, *placement.crop)
    e = encoding
    # Named where they apply: entries made before these existed keep their names.
    tiled = e.vae_tiled and max(placement.bucket) > TILE
    variants = ["tiled"] * tiled + [e.latents] * (e.latents != "mean")
    return _digest(["latents", FORMAT, content, geometry, e.vae, e.vae_dtype, e.background, *variants])


def text_key(caption: str, chunks: int, encoding: Encoding) -> str:
    """`chunks` is how many the whole caption takes."""
    e = encoding
    kept = min(chunks, e.max_chunks)
    return _digest(["text", FORMAT, caption, e.text_encoders, e.tokenizers, e.text_dtype, kept])


def data_fingerprint(items: Iterable[Item]) -> str:
    """What a resumed run compares: the same pictures, captions, encoders, sizes and repeats, in the same order."""
    return _digest([[item.latents_key, item.text_key, item.original, item.repeats] for item in items])


def _digest(parts: Sequence[object]) -> str:
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()
