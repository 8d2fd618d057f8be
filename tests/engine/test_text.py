import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from engine.contract.atomic import Interrupted
from engine.data.cache import Cache
from engine.model.components import TextEncoders, load_text_encoders
from engine.model.single_file import open_checkpoint
from engine.model.text import count_chunks, encode
from engine.model.tokenizers import Tokenizers, load_tokenizers
from engine.run.dataset import Dataset, Prompt
from tests.engine.words import spell_out

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
    for caption in CAPTIONS:
        prompt_embeds, pooled = encode(encoders, tokenizers, caption)
        assert prompt_embeds.shape == (77, 80) and pooled.shape == (48,)
        theirs, _, their_pooled, _ = pipeline.encode_prompt(caption, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(prompt_embeds, theirs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pooled, their_pooled[0], rtol=1e-5, atol=1e-5)


def test_the_pooled_vector_is_the_normed_state_at_the_first_end_times_the_files_matrix(
    encoders, tokenizers, demo_checkpoint
):
    """The file holds P for x.P, a Linear holds its transpose: square, so that only numbers tell them apart."""
    matrix = load_file(demo_checkpoint)["conditioner.embedders.1.model.text_projection"].double()
    assert matrix.shape[0] == matrix.shape[1] and not torch.allclose(matrix, matrix.T, atol=1e-3)
    for caption in CAPTIONS:
        _, pooled = encode(encoders, tokenizers, caption)
        ids = [tokenizers.tokenizer_2.bos_token_id, *ids_of(tokenizers, caption), tokenizers.tokenizer_2.eos_token_id]
        with torch.no_grad():
            states = encoders.text_encoder_2.text_model(torch.tensor([ids + [0] * (77 - len(ids))])).last_hidden_state
        expected = states[0, len(ids) - 1].double() @ matrix
        torch.testing.assert_close(pooled.double(), expected, rtol=1e-4, atol=1e-5)
        assert (pooled.double() - states[0, len(ids) - 1].double() @ matrix.T).abs().max() > 1e-2


def test_a_caption_that_spells_the_end_of_text_is_pooled_there(encoders, tokenizers, pipeline):
    caption = "a red star <|endoftext|> on a blue ground"
    assert ids_of(tokenizers, caption).count(tokenizers.tokenizer_2.eos_token_id) == 1
    context, pooled = encode(encoders, tokenizers, caption)
    theirs, _, their_pooled, _ = pipeline.encode_prompt(caption, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(context, theirs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, their_pooled[0], rtol=1e-5, atol=1e-5)
    _, before_it = encode(encoders, tokenizers, "a red star")
    torch.testing.assert_close(pooled, before_it, rtol=1e-5, atol=1e-5)
    _, without_it = encode(encoders, tokenizers, "a red star on a blue ground")
    assert (pooled - without_it).abs().max() > 1e-3


def nothing_but(cache: Cache, tokenizers: Tokenizers, empty: Prompt, negative: Prompt, condition: str) -> Dataset:
    """No picture and no prompt of a preview."""
    return Dataset(
        cache,
        items=(),
        chunks=(),
        words=tokenizers,
        empty=empty,
        negative=negative,
        prompts=(),
        fingerprint="",
        null_condition=condition,
    )


@pytest.mark.parametrize("negative", [None, ""])
def test_the_null_condition_is_what_diffusers_sends_for_none_or_for_nothing(
    encoders, tokenizers, pipeline, tmp_path, negative
):
    """diffusers zeroes a negative prompt that is None, and encodes one that is empty."""
    empty = Prompt("no caption", "", "0" * 40)
    cache = Cache(tmp_path)
    cache.store_text(empty, *encode(encoders, tokenizers, ""))
    condition = "zeros" if negative is None else "empty_prompt"
    dataset = nothing_but(cache, tokenizers, empty, empty, condition)
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
        cache.store_text(prompt, *encode(encoders, tokenizers, prompt.caption))
    dataset = nothing_but(cache, tokenizers, empty, negative, "zeros")
    assert torch.equal(dataset.negative_condition()[0], cache.load_text(negative)[0])
    assert not replace(dataset, negative=blank).negative_condition()[0].any()


@pytest.mark.parametrize("caption", ["hi!", "wow!!!!", "!", "! a red star !", "a <|endoftext|> inside"])
def test_both_encoders_read_the_same_tokens(tokenizers, caption):
    first, second = tokenizers.tokenizer(caption).input_ids, tokenizers.tokenizer_2(caption).input_ids
    assert first == second


def test_an_exclamation_mark_is_a_word_and_not_padding(tokenizers):
    ids = tokenizers.tokenizer_2("star!", add_special_tokens=False).input_ids
    assert tokenizers.tokenizer_2.convert_ids_to_tokens(ids) == ["star</w>", "!</w>"]


@pytest.fixture
def unlike(demo_folder: Path, demo_checkpoint: Path, tmp_path: Path) -> Tokenizers:
    """The demo's own words for the first encoder, the second one's spelled letter by letter."""
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(demo_folder / "tokenizer", tmp_path / name)
    spell_out(tmp_path / "tokenizer_2")
    return load_tokenizers(tmp_path, open_checkpoint(demo_checkpoint))


def test_vocabularies_that_need_different_numbers_of_chunks_go_together(encoders, tokenizers, unlike):
    caption = words(30)
    assert count_chunks(tokenizers, [caption]) == (1,) and count_chunks(unlike, [caption]) == (2,)
    context, _ = encode(encoders, unlike, caption, max_chunks=3)
    assert context.shape == (2 * 77, 80) and bool(context.isfinite().all())
    alone, _ = encode(encoders, tokenizers, caption)
    torch.testing.assert_close(context[:77, :32], alone[:, :32], rtol=1e-5, atol=1e-5)
    assert encode(encoders, unlike, caption)[0].shape == (77, 80)


def test_long_captions_are_chunks_each_encoded_alone(encoders, tokenizers):
    caption = words(160)
    assert count_chunks(tokenizers, [caption]) == (3,)
    whole, pooled = encode(encoders, tokenizers, caption, max_chunks=4)
    assert whole.shape == (3 * 77, 80)
    parts = caption.split()
    for index in range(3):
        alone, alone_pooled = encode(encoders, tokenizers, " ".join(parts[75 * index : 75 * (index + 1)]))
        torch.testing.assert_close(whole[77 * index : 77 * (index + 1)], alone, rtol=1e-5, atol=1e-5)
        if index == 0:
            torch.testing.assert_close(pooled, alone_pooled, rtol=1e-5, atol=1e-5)
    cut, _ = encode(encoders, tokenizers, caption, max_chunks=2)
    assert torch.equal(cut, whole[: 2 * 77])


def test_the_limit_of_one_chunk_is_75_tokens(encoders, tokenizers):
    assert count_chunks(tokenizers, [words(count) for count in (0, 1, 75, 76, 150, 151)]) == (1, 1, 1, 2, 2, 3)
    exact, _ = encode(encoders, tokenizers, words(75))
    longer, _ = encode(encoders, tokenizers, words(75) + " star")
    assert torch.equal(exact, longer)
    with pytest.raises(ValueError, match="at least 1"):
        encode(encoders, tokenizers, "x", max_chunks=0)


def test_a_token_is_at_least_one_byte_of_ascii_and_of_nothing_else(unlike):
    """What lets short captions go uncounted: letter by letter is the most tokens there can be."""
    spelled = unlike.tokenizer_2
    draw = random.Random(0)
    ascii_only = ["".join(map(chr, draw.choices(range(128), k=75))) for _ in range(2000)]
    for caption in (*ascii_only, "a" * 75, "!" * 75, "1 " * 37, "<|endoftext|>" * 5, "It's'S'" * 10, "\x00" * 75):
        ids = spelled(caption, add_special_tokens=False).input_ids
        assert len(ids) <= len(caption) <= 75
    assert len(spelled("a" * 75, add_special_tokens=False).input_ids) == 75
    # 75 bytes of UTF-8 that Unicode's normal form takes apart into twice as many, or that double as small letters.
    apart, small = "\u0958" * 25, "\u0130" * 37
    assert max(len(text.encode()) for text in (apart, small)) <= 75
    assert count_chunks(unlike, ["a" * 75, "a" * 76, apart, small]) == (1, 2, 2, 2)


def test_captions_are_counted_as_they_are_encoded(encoders, unlike, tokenizers):
    captions = [words(count) for count in (0, 3, 17, 30, 76, 151, 400)] + ["桜" * 30, "ÅÄÖ " * 30, "x" * 75, "x" * 76]
    for vocabularies in (unlike, tokenizers):
        lengths = [encode(encoders, vocabularies, caption, max_chunks=99)[0].shape[0] for caption in captions]
        assert count_chunks(vocabularies, captions) == tuple(length // 77 for length in lengths)


def test_counting_looks_whether_to_stop_and_says_how_far_it_is(tokenizers):
    captions, told = [words(100)] * 1200 + ["short"] * 50, []
    counts = count_chunks(tokenizers, captions, progress=lambda *told_now: told.append(told_now))
    assert counts == (2,) * 1200 + (1,) * 50
    assert told == [(0, 1200), (500, 1200), (1000, 1200), (1200, 1200)]
    looks = iter([False, True])
    with pytest.raises(Interrupted):
        count_chunks(tokenizers, captions, should_stop=lambda: next(looks))
