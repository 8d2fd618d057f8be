"""Filling the cache. Each entry is written as soon as it is encoded: a stop or a crash loses one at most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.contract.atomic import Interrupted, never
from engine.contract.buckets import Placement
from engine.contract.folder import Skipped, identify
from engine.contract.items import Captioned, Item
from engine.contract.picture_file import damage, decoding_errors, limited_decoding
from engine.data.cache import Cache, CacheError

EncodeImage = Callable[[Path, Placement], torch.Tensor | tuple[torch.Tensor, torch.Tensor]]
EncodeText = Callable[[str], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """`items` are those that can be trained on, in the order given; `written` counts new entries."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    written: int


class _UnusableError(Exception):
    """A picture that gives no latents; the text is a `Skipped.reason`."""


def encode_images(
    cache: Cache,
    items: Sequence[Item],
    encode_image: EncodeImage,
    *,
    verify: bool = True,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int, int], None] = lambda *_: None,
    report: Callable[[CacheError], None] = lambda _: None,
) -> Encoded:
    """Encodes what the cache lacks. `encode_image` gives (4, h/8, w/8) float32 for a picture and its placement, or two
    of these, mean and standard deviation, for latents to be sampled.

    A picture that cannot be decoded, has changed since the scan, or gives latents that are not finite is left out and
    reported. `progress(done, total)` counts missing entries. Raises Interrupted between pictures, CacheError when the
    disk is full, and whatever a broken encoder raises.
    """
    missing = cache.missing_latents(items, verify=verify, should_stop=should_stop, report=report)
    reasons: dict[str, str] = {}
    for done, item in enumerate(missing):
        if should_stop():
            raise Interrupted(f"encoding pictures was stopped after {done} of {len(missing)}")
        progress(done, len(missing))
        try:
            encoded = _latents(item, encode_image)
        except _UnusableError as error:
            reasons[item.latents_key] = str(error)
            remedy = "Mend or remove it; the run goes on without it."
            report(CacheError("picture_skipped", f"{item.name} {error}", remedy))
            continue
        cache.store_latents(item, *encoded)
    progress(len(missing), len(missing))
    usable = tuple(item for item in items if item.latents_key not in reasons)
    skipped = tuple(Skipped(item.path, reasons[item.latents_key]) for item in items if item.latents_key in reasons)
    return Encoded(usable, skipped, len(missing) - len(reasons))


def encode_texts(
    cache: Cache,
    items: Sequence[Captioned],
    encode_text: EncodeText,
    *,
    verify: bool = True,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int, int], None] = lambda *_: None,
    report: Callable[[CacheError], None] = lambda _: None,
) -> int:
    """Encodes the captions that the cache lacks, equal ones once; returns how many. `encode_text` gives prompt_embeds
    (77n, C) and pooled_prompt_embeds (P,). Raises as `encode_images`, and CacheError for an encoding that is not
    finite: captions are never at fault for that, the encoders are."""
    missing = cache.missing_text(items, verify=verify, should_stop=should_stop, report=report)
    for done, item in enumerate(missing):
        if should_stop():
            raise Interrupted(f"encoding captions was stopped after {done} of {len(missing)}")
        progress(done, len(missing))
        prompt_embeds, pooled_prompt_embeds = encode_text(item.caption)
        assert prompt_embeds.ndim == 2 and prompt_embeds.shape[0] % 77 == 0 and pooled_prompt_embeds.ndim == 1
        if not (prompt_embeds.isfinite().all() and pooled_prompt_embeds.isfinite().all()):
            text = f"the text encoders give values that are not finite for the caption of {item.name}"
            raise CacheError("text_not_finite", text, "The base checkpoint may be damaged: inspect it, or try another.")
        cache.store_text(item, prompt_embeds, pooled_prompt_embeds)
    progress(len(missing), len(missing))
    return len(missing)


def _latents(item: Item, encode_image: EncodeImage) -> tuple[torch.Tensor, ...]:
    try:
        before = identify(item.path)
        with limited_decoding():
            made = encode_image(item.path, item.placement)
        after = identify(item.path)
    except decoding_errors() as error:
        raise _UnusableError(damage(error)) from error
    if not before == item.identity == after:
        raise _UnusableError("has changed since the folder was scanned")
    expected = (4, item.bucket.height // 8, item.bucket.width // 8)
    encoded = made if isinstance(made, tuple) else (made,)
    for latents in encoded:
        assert latents.shape == expected and latents.dtype == torch.float32, (latents.shape, expected, latents.dtype)
        if not latents.isfinite().all():
            raise _UnusableError("gives latents that are not finite")
    return encoded
