"""Captions -> what the UNet reads: penultimate states of both encoders, and the second one's pooled projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from engine.contract.atomic import Interrupted, never
from engine.contract.caption_tokens import CHUNK, is_short, num_chunks
from engine.model.components import TextEncoders
from engine.model.tokenizers import Tokenizers

PADDING_2 = 0  # the second encoder's; the first is padded with its end token
LENGTH = CHUNK + 2
_AT_ONCE = 500  # captions that are tokenized between two looks at whether to stop


def encode(
    encoders: TextEncoders, tokenizers: Tokenizers, caption: str, *, max_chunks: int = 1
) -> tuple[Tensor, Tensor]:
    """prompt_embeds (77 n, C1 + C2) and pooled_prompt_embeds (P,), in the encoders' dtype and on their device.

    A caption longer than 75 tokens is cut into n <= `max_chunks` chunks, each encoded alone between its own start and
    end tokens; what is beyond is dropped. The pooled vector is the first chunk's.
    """
    first, second = encoders.text_encoder, encoders.text_encoder_2
    ids, ids_2 = tokenize(tokenizers, caption, max_chunks=max_chunks)
    states = states_of(first, ids[None].to(first.device))
    states_2, pooled = states_2_of(second, ids_2[None].to(second.device))
    return torch.cat([states[0], states_2[0].to(states.device)], dim=-1), pooled[0]


def tokenize(tokenizers: Tokenizers, caption: str, *, max_chunks: int = 1) -> tuple[Tensor, Tensor]:
    """What each encoder reads of a caption, (n, 77) int64 both, n <= `max_chunks`. A quarter of a millisecond for 80
    tokens; may be called from several threads."""
    if max_chunks < 1:
        raise ValueError("max_chunks must be at least 1")
    tokenizer, tokenizer_2 = tokenizers.tokenizer, tokenizers.tokenizer_2
    (ids,), (ids_2,) = _ids(tokenizer, [caption]), _ids(tokenizer_2, [caption])
    count = min(num_chunks(len(ids), len(ids_2)), max_chunks)
    chunks = _chunks(tokenizer, ids, count, padding=tokenizer.eos_token_id)
    return chunks, _chunks(tokenizer_2, ids_2, count, padding=PADDING_2)


def states_of(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """The first encoder's part of prompt_embeds, (B, 77n, C1), of `ids` (B, n, 77)."""
    # [-2] is the input of the last layer; neither encoder's final norm is applied to it.
    states: Tensor = encoder(ids.flatten(0, 1), output_hidden_states=True).hidden_states[-2]
    return states.reshape(len(ids), -1, states.shape[-1])


def states_2_of(encoder: CLIPTextModelWithProjection, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The second encoder's part of prompt_embeds, (B, 77n, C2), and the pooled vectors, (B, P), of `ids` (B, n, 77)."""
    output = encoder.text_model(ids.flatten(0, 1), output_hidden_states=True)
    states: Tensor = output.hidden_states[-2]
    last: Tensor = output.last_hidden_state.reshape(*ids.shape, -1)[:, 0]
    end = (ids[:, 0] == encoder.config.eos_token_id).int().argmax(dim=-1)
    pooled: Tensor = encoder.text_projection(last[torch.arange(len(ids), device=ids.device), end])
    return states.reshape(len(ids), -1, states.shape[-1]), pooled


def count_chunks(
    tokenizers: Tokenizers,
    captions: Sequence[str],
    *,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[int, ...]:
    """How many chunks each whole caption needs: above `max_chunks`, `encode` drops its end. About a quarter of a
    millisecond and a core for 80 tokens. Raises Interrupted."""
    both = {id(tokenizer): tokenizer for tokenizer in (tokenizers.tokenizer, tokenizers.tokenizer_2)}
    counts = [1] * len(captions)
    long = [index for index, caption in enumerate(captions) if not is_short(caption)]
    for start in range(0, len(long), _AT_ONCE):
        if should_stop():
            raise Interrupted("counting the captions' tokens was stopped")
        progress(start, len(long))
        part = long[start : start + _AT_ONCE]
        lengths = [map(len, _ids(tokenizer, [captions[index] for index in part])) for tokenizer in both.values()]
        for index, *of_each in zip(part, *lengths, strict=True):
            counts[index] = num_chunks(*of_each)
    progress(len(long), len(long))
    return tuple(counts)


def _chunks(tokenizer: CLIPTokenizer, ids: list[int], count: int, *, padding: int) -> Tensor:
    """Token ids (count, 77)."""
    rows = []
    for start in range(0, count * CHUNK, CHUNK):
        row = [tokenizer.bos_token_id, *ids[start : start + CHUNK], tokenizer.eos_token_id]
        rows.append(row + [padding] * (LENGTH - len(row)))
    return torch.tensor(rows)


def _ids(tokenizer: CLIPTokenizer, captions: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        captions, add_special_tokens=False, truncation=False, return_attention_mask=False, verbose=False
    ).input_ids
    return ids
