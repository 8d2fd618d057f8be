import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from engine.data.cache import Cache
from engine.model.components import TextEncoders, load_text_encoders
from engine.model.single_file import open_checkpoint
from engine.model.text import encode, num_chunks
from engine.model.tokenizers import Tokenizers, load_tokenizers
from engine.run.dataset import Dataset, Prompt

CAPTIONS = ["a red circle on a blue ground", "", "a teal star and an orange ring on a white ground, (very) 8k"]


@pytest.fixture(scope="module")
def encoders(demo_checkpoint: Path) -> TextEncoders:
    return load_text_encoders(open_checkpoint(demo_checkpoint), "cpu", torch.float32)


@pytest.fixture(scope="module")
def tokenizers(demo_folder: Path, demo_checkpoint: Path) -> Tokenizers:
    return load_tokenizers(demo_folder, open_checkpoint(demo_checkpoint))


def ids_of(tokenizers: Tokenizers, caption: str) -> list[int]:
    return tokenizers.tokenizer_2(caption, add_special_tokens=False).input_ids


def words(count: int) -> str:
    return " ".join(["red", "star", "blue", "ring", "on"][index % 5] for index in range(count))


@pytest.fixture(scope="module")
def pipeline(encoders: TextEncoders, demo_folder: Path) -> StableDiffusionXLPipeline:
    """diffusers' own, with the encoders and the tokenizers as they are published."""

    def published(pad_token: str) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(demo_folder / "tokenizer", pad_token=pad_token, model_max_length=77)

    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=encoders.text_encoder,
        text_encoder_2=encoders.text_encoder_2,
        tokenizer=published("<|endoftext|>"),
        tokenizer_2=published("!"),
        unet=None,
        scheduler=None,
        add_watermarker=False,
        force_zeros_for_empty_prompt=True,
    )


def test_captions_encode_as_diffusers_encodes_prompts(encoders, tokenizers, pipeline):
    prompt_embeds, pooled = encode(encoders, tokenizers, CAPTIONS)
    assert prompt_embeds.shape == (3, 77, 80) and pooled.shape == (3, 48)
    for index, caption in enumerate(CAPTIONS):
        theirs, _, their_pooled, _ = pipeline.encode_prompt(caption, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(prompt_embeds[index], theirs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pooled[index], their_pooled[0], rtol=1e-5, atol=1e-5)


def test_the_pooled_vector_is_the_normed_state_at_the_first_end_times_the_files_matrix(
    encoders, tokenizers, demo_checkpoint
):
    """The file holds P for x.P, a Linear holds its transpose: square, so that only numbers tell them apart."""
    matrix = load_file(demo_checkpoint)["conditioner.embedders.1.model.text_projection"].double()
    assert matrix.shape[0] == matrix.shape[1] and not torch.allclose(matrix, matrix.T, atol=1e-3)
    for caption in CAPTIONS:
        _, pooled = encode(encoders, tokenizers, [caption])
        ids = [tokenizers.tokenizer_2.bos_token_id, *ids_of(tokenizers, caption), tokenizers.tokenizer_2.eos_token_id]
        with torch.no_grad():
            states = encoders.text_encoder_2.text_model(torch.tensor([ids + [0] * (77 - len(ids))])).last_hidden_state
        expected = states[0, len(ids) - 1].double() @ matrix
        torch.testing.assert_close(pooled[0].double(), expected, rtol=1e-4, atol=1e-5)
        assert (pooled[0].double() - states[0, len(ids) - 1].double() @ matrix.T).abs().max() > 1e-2


def test_a_caption_that_spells_the_end_of_text_is_pooled_there(encoders, tokenizers, pipeline):
    caption = "a red star <|endoftext|> on a blue ground"
    assert ids_of(tokenizers, caption).count(tokenizers.tokenizer_2.eos_token_id) == 1
    context, pooled = encode(encoders, tokenizers, [caption])
    theirs, _, their_pooled, _ = pipeline.encode_prompt(caption, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(context, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, their_pooled, rtol=1e-5, atol=1e-5)
    _, before_it = encode(encoders, tokenizers, ["a red star"])
    torch.testing.assert_close(pooled, before_it, rtol=1e-5, atol=1e-5)
    _, without_it = encode(encoders, tokenizers, ["a red star on a blue ground"])
    assert (pooled - without_it).abs().max() > 1e-3


@pytest.mark.parametrize("negative", [None, ""])
def test_the_null_condition_is_what_diffusers_sends_for_none_or_for_nothing(
    encoders, tokenizers, pipeline, tmp_path, negative
):
    """diffusers zeroes a negative prompt that is None, and encodes one that is empty."""
    empty = Prompt("no caption", "", "0" * 40)
    cache = Cache(tmp_path)
    context, pooled = encode(encoders, tokenizers, [""])
    cache.store_text(empty, context[0], pooled[0])
    condition = "zeros" if negative is None else "empty_prompt"
    dataset = Dataset(cache, (), empty, negative=empty, prompts=(), fingerprint="", null_condition=condition)
    _, theirs, _, their_pooled = pipeline.encode_prompt("a red star", device="cpu", negative_prompt=negative)
    for ours, our_pooled in (dataset.null(), dataset.negative_condition()):
        assert ours.shape == (77, 80) and our_pooled.shape == (48,) and ours.dtype == our_pooled.dtype == torch.float32
        torch.testing.assert_close(ours, theirs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(our_pooled, their_pooled[0], rtol=1e-5, atol=1e-5)
    assert bool(dataset.null()[0].any()) == (negative == "")


def test_a_negative_prompt_that_says_something_is_not_the_null_condition(encoders, tokenizers, tmp_path):
    cache = Cache(tmp_path)
    empty, negative, blank = (Prompt(t, t, f"{n}" * 40) for n, t in enumerate(("", "worst quality", " ")))
    for prompt in (empty, negative):
        context, pooled = encode(encoders, tokenizers, [prompt.caption])
        cache.store_text(prompt, context[0], pooled[0])
    dataset = Dataset(cache, (), empty, negative=negative, prompts=(), fingerprint="", null_condition="zeros")
    assert torch.equal(dataset.negative_condition()[0], cache.load_text(negative)[0])
    assert not replace(dataset, negative=blank).negative_condition()[0].any()


def test_a_caption_does_not_depend_on_its_neighbours(encoders, tokenizers):
    together, pooled = encode(encoders, tokenizers, CAPTIONS)
    alone, pooled_alone = encode(encoders, tokenizers, CAPTIONS[2:])
    assert torch.equal(together[2], alone[0]) and torch.equal(pooled[2], pooled_alone[0])


@pytest.mark.parametrize("caption", ["hi!", "wow!!!!", "!", "! a red star !", "a <|endoftext|> inside"])
def test_both_encoders_read_the_same_tokens(tokenizers, caption):
    first, second = tokenizers.tokenizer(caption).input_ids, tokenizers.tokenizer_2(caption).input_ids
    assert first == second


def test_an_exclamation_mark_is_a_word_and_not_padding(tokenizers):
    ids = tokenizers.tokenizer_2("star!", add_special_tokens=False).input_ids
    assert tokenizers.tokenizer_2.convert_ids_to_tokens(ids) == ["star</w>", "!</w>"]


def test_vocabularies_that_need_different_numbers_of_chunks_go_together(encoders, tokenizers, demo_folder, tmp_path):
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).mkdir()
        for file in (demo_folder / "tokenizer").iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer_2" / "merges.txt").write_text("")  # letter by letter
    other = load_tokenizers(tmp_path, open_checkpoint(demo_folder / "aozora-demo.safetensors"))
    caption = words(30)
    assert num_chunks(tokenizers, caption) == 1 and num_chunks(other, caption) == 2
    context, _ = encode(encoders, other, [caption], max_chunks=3)
    assert context.shape == (1, 2 * 77, 80) and bool(context.isfinite().all())
    alone, _ = encode(encoders, tokenizers, [caption])
    torch.testing.assert_close(context[:, :77, :32], alone[..., :32], rtol=1e-5, atol=1e-5)
    assert encode(encoders, other, [caption])[0].shape == (1, 77, 80)


def test_long_captions_are_chunks_each_encoded_alone(encoders, tokenizers):
    caption = words(160)
    assert num_chunks(tokenizers, caption) == 3
    whole, pooled = encode(encoders, tokenizers, [caption], max_chunks=4)
    assert whole.shape == (1, 3 * 77, 80)
    parts = caption.split()
    for index in range(3):
        alone, alone_pooled = encode(encoders, tokenizers, [" ".join(parts[75 * index : 75 * (index + 1)])])
        torch.testing.assert_close(whole[:, 77 * index : 77 * (index + 1)], alone, rtol=1e-5, atol=1e-5)
        if index == 0:
            torch.testing.assert_close(pooled, alone_pooled, rtol=1e-5, atol=1e-5)
    cut, _ = encode(encoders, tokenizers, [caption], max_chunks=2)
    assert torch.equal(cut, whole[:, : 2 * 77])


def test_the_limit_of_one_chunk_is_75_tokens(encoders, tokenizers):
    assert [num_chunks(tokenizers, words(count)) for count in (0, 1, 75, 76, 150, 151)] == [1, 1, 1, 2, 2, 3]
    exact, _ = encode(encoders, tokenizers, [words(75)])
    longer, _ = encode(encoders, tokenizers, [words(75) + " star"])
    assert torch.equal(exact, longer)
    with pytest.raises(ValueError, match="at least 1"):
        encode(encoders, tokenizers, ["x"], max_chunks=0)


def test_repeating_a_context_leaves_cross_attention_unchanged(encoders, tokenizers):
    captions = [words(10), words(100), words(160)]
    together, _ = encode(encoders, tokenizers, captions, max_chunks=3)
    assert together.shape[1] == 77 * math.lcm(1, 2, 3)
    query = torch.randn(1, 20, 80, generator=torch.Generator().manual_seed(0))
    attend = torch.nn.functional.scaled_dot_product_attention
    for index, caption in enumerate(captions):
        alone, _ = encode(encoders, tokenizers, [caption], max_chunks=3)
        repeated = together[index : index + 1]
        torch.testing.assert_close(attend(query, repeated, repeated), attend(query, alone, alone), rtol=1e-4, atol=1e-5)
