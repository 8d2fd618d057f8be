"""Captions -> what the UNet reads: penultimate states of both encoders, and the second one's pooled projection."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from engine.model.components import TextEncoders
from engine.model.tokenizers import Tokenizers

PADDING_2 = 0  # the second encoder's; the first is padded with its end token
CHUNK = 75  # tokens of a caption that fit between the start and the end token
LENGTH = CHUNK + 2


def encode(
    encoders: TextEncoders, tokenizers: Tokenizers, captions: Sequence[str], *, max_chunks: int = 1
) -> tuple[Tensor, Tensor]:
    """prompt_embeds (B, 77 n, C1 + C2) and pooled_prompt_embeds (B, P), in the encoders' dtype and on their device.

    A caption longer than 75 tokens is cut into n <= `max_chunks` chunks, each encoded alone between its own start and
    end tokens; what is beyond is dropped. The pooled vector is the first chunk's. Where captions of one call differ in
    n, shorter contexts are repeated whole, which leaves cross-attention unchanged. Each caption is encoded on its own,
    so its numbers do not depend on its neighbours.
    """
    if max_chunks < 1:
        raise ValueError("max_chunks must be at least 1")
    encoded = [_encode_one(encoders, tokenizers, caption, max_chunks) for caption in captions]
    length = math.lcm(*(context.shape[0] for context, _ in encoded))
    contexts = [context.repeat(length // context.shape[0], 1) for context, _ in encoded]
    return torch.stack(contexts), torch.stack([pooled for _, pooled in encoded])


def num_chunks(tokenizers: Tokenizers, caption: str) -> int:
    """How many chunks the whole caption needs: above `max_chunks`, `encode` drops its end."""
    return _num_chunks(_ids(tokenizers.tokenizer, caption), _ids(tokenizers.tokenizer_2, caption))


def _num_chunks(ids: list[int], ids_2: list[int]) -> int:
    """One number for both encoders, whose vocabularies may differ."""
    return max(1, math.ceil(max(len(ids), len(ids_2)) / CHUNK))


def _encode_one(encoders: TextEncoders, tokenizers: Tokenizers, caption: str, max_chunks: int) -> tuple[Tensor, Tensor]:
    """(77 n, C1 + C2) and (P,)."""
    first, second = encoders.text_encoder, encoders.text_encoder_2
    tokenizer, tokenizer_2 = tokenizers.tokenizer, tokenizers.tokenizer_2
    ids, ids_2 = _ids(tokenizer, caption), _ids(tokenizer_2, caption)
    count = min(_num_chunks(ids, ids_2), max_chunks)
    chunks = _chunks(tokenizer, ids, count, padding=tokenizer.eos_token_id).to(first.device)
    chunks_2 = _chunks(tokenizer_2, ids_2, count, padding=PADDING_2).to(second.device)
    # [-2] is the input of the last layer; neither encoder's final norm is applied to it.
    states = first(chunks, output_hidden_states=True).hidden_states[-2]
    output = second.text_model(chunks_2, output_hidden_states=True)
    context = torch.cat([states, output.hidden_states[-2].to(states.device)], dim=-1)
    end = int((chunks_2[0] == tokenizer_2.eos_token_id).int().argmax())
    pooled = second.text_projection(output.last_hidden_state[0, end])
    return context.flatten(0, 1), pooled


def _chunks(tokenizer: CLIPTokenizer, ids: list[int], count: int, *, padding: int) -> Tensor:
    """Token ids (count, 77)."""
    rows = []
    for start in range(0, count * CHUNK, CHUNK):
        row = [tokenizer.bos_token_id, *ids[start : start + CHUNK], tokenizer.eos_token_id]
        rows.append(row + [padding] * (LENGTH - len(row)))
    return torch.tensor(rows)


def _ids(tokenizer: CLIPTokenizer, caption: str) -> list[int]:
    ids: list[int] = tokenizer(caption, add_special_tokens=False, truncation=False, verbose=False).input_ids
    return ids
