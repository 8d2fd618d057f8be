"""How a run's pictures and captions are encoded: settled once, then done for whatever the cache lacks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from engine.contract.buckets import Placement, make_buckets
from engine.contract.folder import shown
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.data.cache import Cache
from engine.data.encode import encode_images, encode_texts
from engine.data.items import Captioned, Encoding, Item
from engine.model import components, latents, text
from engine.model.single_file import Checkpoint, fingerprint
from engine.model.tokenizers import Tokenizers
from engine.run.errors import RunError
from engine.run.session import Session

VAE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

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
    """What the profile asks for. Whether the VAE works in tiles is a resumed run's own earlier choice (`kept`): the
    free memory may be another now, and the values would be."""
    return Encoding(
        vae=fingerprint(checkpoint, "vae"),
        vae_dtype=str(VAE_DTYPES[profile.data.vae_precision]).removeprefix("torch."),
        vae_tiled=kept.vae_tiled if kept else _is_tiled(session, profile, checkpoint, device),
        background=profile.data.background,
        latents=profile.data.latents,
        text_encoders=fingerprint(checkpoint, "text"),
        tokenizers=words.fingerprint,
        text_dtype=profile.model.precision,
        max_chunks=profile.data.max_tokens // text.CHUNK,
    )


def why_tiled(profile: Profile, header: Header, free: float) -> str:
    """Why `auto` encodes in tiles where `free` bytes of device memory are free; "" if it does not. Goes by the largest
    bucket there can be, so that another picture in the folder changes nothing."""
    buckets = make_buckets(profile.data.resolution, profile.data.bucket_step)
    largest = max(buckets, key=lambda bucket: bucket.width * bucket.height)
    needed = latents.encoding_memory(header, largest, VAE_DTYPES[profile.data.vae_precision])
    if needed <= free or max(map(max, buckets)) <= components.TILE:
        return ""
    whole = f"encoding {largest.width}x{largest.height} at once takes {needed / 2**30:.1f} GiB"
    return f"pictures are encoded in tiles: {whole}, {free / 2**30:.1f} are free"


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
    colour = profile.data.background.removeprefix("#")
    background = int(colour[0:2], 16), int(colour[2:4], 16), int(colour[4:6], 16)
    dtype = VAE_DTYPES[profile.data.vae_precision]
    vae = _Once(lambda: components.load_vae(checkpoint, device, dtype, tiled=encoding.vae_tiled))

    def encode(path: Path, placement: Placement) -> Tensor | tuple[Tensor, Tensor]:
        picture = latents.load_image(path, placement, background)
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
    """Captions and prompts, in fp32, kept in the network's precision. Raises CacheError, Interrupted."""
    dtype = torch.bfloat16 if profile.model.precision == "bf16" else torch.float32
    max_chunks = profile.data.max_tokens // text.CHUNK
    encoders = _Once(lambda: components.load_text_encoders(checkpoint, device, torch.float32))

    @torch.no_grad()
    def encode(caption: str) -> tuple[Tensor, Tensor]:
        context, pooled = text.encode(encoders.get(), words, [caption], max_chunks=max_chunks)
        return context[0].to(dtype).cpu(), pooled[0].to(dtype).cpu()

    encode_texts(
        cache,
        texts,
        encode,
        should_stop=session.should_stop,
        progress=session.progress("cache", "captions"),
        report=lambda error: session.warn(error.code, error.text, error.remedy),
    )
    long = sum(text.num_chunks(words, each.caption) > max_chunks for each in texts)
    if long:
        what = f"{long} caption{' is' if long == 1 else 's are'} longer than {profile.data.max_tokens} tokens"
        session.warn("caption_cut", what, "Their ends are cut; data.max_tokens raises the limit.")


def _is_tiled(session: Session, profile: Profile, checkpoint: Checkpoint, device: torch.device) -> bool:
    if profile.data.vae_tiling != "auto":
        return profile.data.vae_tiling == "on"
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
    why = why_tiled(profile, checkpoint.header, free)
    if why:
        session.warn("vae_tiled", why, "Values differ slightly at the seams; data.vae_tiling can forbid it.")
    return bool(why)


class _Once(Generic[Made]):
    """Made at the first use: a warm cache loads no encoder."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: list[Made] = []

    def get(self) -> Made:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]
