"""How a run's pictures and captions are encoded: settled once, then done for whatever the cache lacks."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from engine.contract.buckets import Placement, make_buckets
from engine.contract.caption_tokens import CHUNK
from engine.contract.folder import shown
from engine.contract.items import Captioned, Encoding, Item, encoding_of
from engine.contract.picture_pixels import colour
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.vae_file import TILE
from engine.data.cache import Cache
from engine.data.encode import encode_images, encode_texts
from engine.model import components, latents, text
from engine.model.single_file import Checkpoint, fingerprint
from engine.model.tokenizers import Tokenizers
from engine.run.errors import RunError
from engine.run.precision import DTYPES
from engine.run.session import Session

# Of a card, for what is not the VAE: CUDA's context and libraries, which take 0.6 to 1.2 GiB, and a desktop.
RESERVE = 2 << 30
_OTHERS = "Close other programs on the card, which nvidia-smi lists"

Made = TypeVar("Made")


def settle(
    session: Session,
    profile: Profile,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    words: Tokenizers,
    kept: Encoding | None,
) -> Encoding:
    """What the profile asks for. Where it leaves tiles to the engine, a resumed run keeps to its earlier choice
    (`kept`): it may be on another card now."""
    tiling = profile.data.vae_tiling
    return encoding_of(
        profile,
        vae=fingerprint(checkpoint, "vae"),
        text_encoders=fingerprint(checkpoint, "text"),
        tokenizers=words.fingerprint,
        vae_tiled=kept.vae_tiled if kept and tiling == "auto" else _is_tiled(session, profile, checkpoint, device),
    )


def why_tiled(profile: Profile, header: Header, total: float) -> str:
    """Why `auto` encodes in tiles on a card of `total` bytes; "" if it does not. Goes by the largest bucket there can
    be and by the whole card less `RESERVE`, so that the same profile gives the same latents again, whatever pictures
    the folder holds and whatever else is on the card."""
    buckets = make_buckets(profile.data.resolution, profile.data.bucket_step)
    largest = max(buckets, key=lambda bucket: bucket.width * bucket.height)
    needed = latents.encoding_memory(header, largest, DTYPES[profile.data.vae_precision])
    if needed <= total - RESERVE or max(map(max, buckets)) <= TILE:
        return ""
    whole = f"encoding {largest.width}x{largest.height} at once takes {needed / 2**30:.1f} GiB"
    return f"pictures are encoded in tiles: {whole}, the card has {total / 2**30:.1f}, less {RESERVE >> 30} for others"


def encode_pictures(
    session: Session,
    profile: Profile,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    cache: Cache,
    encoding: Encoding,
    items: tuple[Item, ...],
    resumed: bool,
) -> tuple[Item, ...]:
    """Those that can be trained on, encoded one by one. Raises RunError, CacheError, Interrupted."""
    background = colour(profile.data.background)
    dtype = DTYPES[profile.data.vae_precision]
    vae = _Once(lambda: components.load_vae(checkpoint, device, dtype, tiled=encoding.vae_tiled))

    if resumed:
        remedy = f"{_OTHERS}, then resume."
    elif encoding.vae_tiled:
        remedy = f'{_OTHERS}, or set data.vae_precision = "bf16".'
    else:
        remedy = 'Set data.vae_tiling = "on": that takes the memory of a 512x512 picture.'

    def encode(path: Path, placement: Placement) -> Tensor | tuple[Tensor, Tensor]:
        picture = latents.load_image(path, placement, background)
        width, height = placement.bucket
        with _enough_memory(f"to encode {shown(path)} at {width}x{height}", remedy):
            mean, std = latents.encode_posterior(vae.get(), picture.unsqueeze(0))
        return (mean[0].cpu(), std[0].cpu()) if encoding.latents == "sampled" else mean[0].cpu()

    done = encode_images(
        cache,
        items,
        encode,
        should_stop=session.should_stop,
        progress=session.progress("cache", "pictures"),
        report=lambda error: session.warn(error.code, error.text, error.remedy),
    )
    if resumed and done.skipped:
        what = f"{shown(done.skipped[0].path)} {done.skipped[0].reason}, and its cached latents are gone"
        raise RunError(
            "data-changed", what, "Put it back where it was, or start a new run: this one cannot be continued."
        )
    if not done.items:
        raise RunError("no-pictures", "not one picture could be encoded", "The warnings before this say why.")
    return done.items


def encode_words(
    session: Session,
    profile: Profile,
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    cache: Cache,
    texts: tuple[Captioned, ...],
    words: Tokenizers,
) -> None:
    """Captions and prompts, in fp32, kept in the network's precision. Raises RunError, CacheError, Interrupted."""
    dtype = DTYPES[profile.model.precision]
    max_chunks = profile.data.max_tokens // CHUNK
    encoders = _Once(lambda: components.load_text_encoders(checkpoint, device, torch.float32))

    @torch.no_grad()
    def encode(caption: str) -> tuple[Tensor, Tensor]:
        with _enough_memory("for the text encoders", f"{_OTHERS}, and start or resume the run."):
            context, pooled = text.encode(encoders.get(), words, caption, max_chunks=max_chunks)
        return context.to(dtype).cpu(), pooled.to(dtype).cpu()

    encode_texts(
        cache,
        texts,
        encode,
        should_stop=session.should_stop,
        progress=session.progress("cache", "captions"),
        report=lambda error: session.warn(error.code, error.text, error.remedy),
    )


def _is_tiled(session: Session, profile: Profile, checkpoint: Checkpoint, device: torch.device) -> bool:
    if profile.data.vae_tiling != "auto":
        return profile.data.vae_tiling == "on"
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else math.inf
    if profile.memory.limit:
        total = min(total, profile.memory.limit * 2**30)
    why = why_tiled(profile, checkpoint.header, total)
    if why:
        session.warn("vae_tiled", why, "Values differ slightly at the seams; data.vae_tiling can forbid it.")
    return bool(why)


@contextmanager
def _enough_memory(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError("out-of-memory", f"the card has too little memory {what}", remedy) from error


class _Once(Generic[Made]):
    """Made at the first use: a warm cache loads no encoder."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []

    def get(self) -> Made:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]
