"""What can be trained on, and the names under which its encodings are cached: digests of all that they depend on.

A cache's folder:

    latents/ab/<key>.safetensors    "latents" (4, h, w) float32, and "std" of the same shape if they are to be sampled
    text/ab/<key>.safetensors       "prompt_embeds" (77n, C), "pooled_prompt_embeds" (P,)
    contents.jsonl                  digests of the pictures' bytes, see `content_digests`
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

from engine.contract.buckets import Bucket, Placement, time_ids
from engine.contract.caption_tokens import CHUNK
from engine.contract.folder import Identity, Picture
from engine.contract.sections import Profile
from engine.contract.vae_file import TILE

Kind = Literal["latents", "text"]

# Raised whenever the same inputs would be encoded or stored differently.
FORMAT = 1
# torch's names of the profile's precisions.
DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16"}
# A hair-thin picture, enlarged to one bucket step, would be millions of pixels long on its way.
_MOST_PIXELS = 1 << 26


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


def encoding_of(profile: Profile, *, vae: str, text_encoders: str, tokenizers: str, vae_tiled: bool) -> Encoding:
    """What a profile asks for, with the fingerprints of what it names."""
    return Encoding(
        vae=vae,
        vae_dtype=DTYPE_NAMES[profile.data.vae_precision],
        vae_tiled=vae_tiled,
        background=profile.data.background,
        latents=profile.data.latents,
        text_encoders=text_encoders,
        tokenizers=tokenizers,
        text_dtype=profile.model.precision,
        max_chunks=profile.data.max_tokens // CHUNK,
    )


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


def entry_path(cache: Path, kind: Kind, key: str) -> Path:
    """The file that holds an encoding."""
    return cache / kind / key[:2] / f"{key}.safetensors"


def why_unplaceable(picture: Picture, placement: Placement) -> str:
    """Why its bucket is no use, as a `Skipped.reason`; "" if it can be trained on."""
    if placement.upscaled and placement.scaled[0] * placement.scaled[1] > _MOST_PIXELS:
        return f"is too thin to train on ({picture.width}x{picture.height})"
    return ""


def data_fingerprint(items: Iterable[Item]) -> str:
    """What a resumed run compares: the same pictures, captions, encoders, sizes and repeats, in the same order."""
    return _digest([[item.latents_key, item.text_key, item.original, item.repeats] for item in items])


def _digest(parts: Sequence[object]) -> str:
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()
