import math
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from engine.model.components import TextEncoders, load_text_encoders
from engine.model.single_file import open_checkpoint
from engine.model.text import encode, num_chunks
from engine.model.tokenizers import Tokenizers, load_tokenizers

CAPTIONS = ["a red circle on a blue ground", "", "a teal star and an orange ring on a white ground, (very) 8k"]


@pytest.fixture(scope="module")
def encoders(demo_checkpoint: Path) -> TextEncoders:
    return load_text_encoders(open_checkpoint(demo_checkpoint), "cpu", torch.float32)


@pytest.fixture(scope="module")
def tokenizers(demo_folder: Path, demo_checkpoint: Path) -> Tokenizers:
    return load_tokenizers(demo_folder, open_checkpoint(demo_checkpoint))


def words(count: int) -> str:
    return " ".join(["red", "star", "blue", "ring", "on"][index % 5] for index in range(count))


def test_captions_encode_as_diffusers_encodes_prompts(encoders, tokenizers, demo_folder):
    def published(pad_token: str) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(demo_folder / "tokenizer", pad_token=pad_token, model_max_length=77)

    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=encoders.text_encoder,
        text_encoder_2=encoders.text_encoder_2,
        tokenizer=published("<|endoftext|>"),
        tokenizer_2=published("!"),
        unet=None,
        scheduler=None,
        add_watermarker=False,
    )
    prompt_embeds, pooled = encode(encoders, tokenizers, CAPTIONS)
    assert prompt_embeds.shape == (3, 77, 80) and pooled.shape == (3, 48)
    for index, caption in enumerate(CAPTIONS):
        theirs, _, their_pooled, _ = pipeline.encode_prompt(caption, device="cpu", do_classifier_free_guidance=False)
        torch.testing.assert_close(prompt_embeds[index], theirs[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(pooled[index], their_pooled[0], rtol=1e-5, atol=1e-5)


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
