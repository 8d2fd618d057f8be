"""Captions that are encoded in every micro-batch: the numbers of cached ones, and gradients where they are promised."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from engine.contract import events
from engine.contract.order import Order
from engine.contract.profile import decode_profile
from engine.contract.safetensors_header import read_header
from engine.contract.sections import Profile, TextEncoders
from engine.contract.text_tensors import learning_factors
from engine.data.batches import Batches
from engine.memory.micro_step import predict
from engine.memory.plan import Embedded, Tokens
from engine.model.components import load_text_encoders, load_unet
from engine.model.conditioner import Conditioner, stored, trainable
from engine.model.single_file import Checkpoint, open_checkpoint
from engine.model.text import encode, tokenize
from engine.model.tokenizers import Tokenizers, load_tokenizers
from engine.run.conditions import cautions, on_device
from engine.run.dataset import Dataset, prepare, rehearsal_batch
from engine.run.errors import RunError
from engine.run.finish import write_export
from engine.run.preview import Previewer
from tests.end_to_end.harness import changed, copy_pictures, of_type, session_in, write_profile

CPU = torch.device("cpu")
LONG = "red star blue ring on " * 32  # 160 tokens, three chunks
CAPTIONS = ["a red circle on a blue ground", "", "a teal star <|endoftext|> and an orange ring, 8k!", LONG]
FLAT_2 = "text_encoder_2.text_model.encoder."
EVERYTHING = TextEncoders(train="both", token_embedding="row_wise")


@pytest.fixture(scope="module")
def base(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture(scope="module")
def tokenizers(demo_folder: Path, base: Checkpoint) -> Tokenizers:
    return load_tokenizers(demo_folder, base)


def make(base: Checkpoint, settings: TextEncoders | None = None, *, checkpointing: bool = False) -> Conditioner:
    """In fp32; without settings, frozen."""
    conditioner = Conditioner(load_text_encoders(base, CPU, torch.float32), checkpointing=checkpointing)
    names = trainable(conditioner, settings) if settings else frozenset()
    for name, parameter in conditioner.named_parameters():
        parameter.requires_grad_(name in names)
    return conditioner


def read(tokenizers: Tokenizers, captions: Sequence[str], zeroed: Sequence[bool] = ()) -> tuple[Tensor, Tensor, Tensor]:
    """All of one length."""
    pairs = [tokenize(tokenizers, caption, max_chunks=3) for caption in captions]
    ids, ids_2 = (torch.stack(each) for each in zip(*pairs, strict=True))
    return ids, ids_2, torch.tensor([*zeroed] or [False] * len(captions))


def backward(conditioner: Conditioner, given: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """The gradients of a sum that weighs every number of both outputs differently, by name, where there are any."""
    conditioner.zero_grad(set_to_none=True)
    generator = torch.Generator().manual_seed(3)
    sum((out * torch.randn(out.shape, generator=generator)).sum() for out in conditioner(*given)).backward()
    return {name: p.grad.clone() for name, p in conditioner.named_parameters() if p.grad is not None}


# The numbers


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_live_caption_is_the_cached_one_bit_for_bit(base, tokenizers, caption):
    conditioner = make(base, EVERYTHING)
    live, live_pooled = conditioner(*read(tokenizers, [caption]))
    encoders = load_text_encoders(base, CPU, torch.float32)
    context, pooled = encode(encoders, tokenizers, caption, max_chunks=3)
    assert live.requires_grad and live.shape == (1, 77 * (3 if caption == LONG else 1), 80)
    assert torch.equal(live[0], context) and torch.equal(live_pooled[0], pooled)


def test_captions_of_a_batch_are_what_diffusers_makes_of_each_chunk_alone(base, tokenizers, demo_pipeline):
    """Two captions of three chunks each: which chunk of which caption, and whose is the pooled vector."""
    other = "a red square and a blue circle " * 30
    contexts, pooled = make(base)(*read(tokenizers, [LONG, other]))
    for row, caption in enumerate((LONG, other)):
        words = caption.split()
        for chunk in range(3):
            part = " ".join(words[75 * chunk : 75 * (chunk + 1)])
            theirs, _, their_pooled, _ = demo_pipeline.encode_prompt(
                part, device="cpu", do_classifier_free_guidance=False
            )
            ours = contexts[row, 77 * chunk : 77 * (chunk + 1)]
            # The second encoder's padding is the demo pipeline's own, which differs: whole chunks have none.
            if chunk < 2:
                torch.testing.assert_close(ours, theirs[0], rtol=1e-5, atol=1e-5)
            if chunk == 0:
                torch.testing.assert_close(pooled[row], their_pooled[0], rtol=1e-5, atol=1e-5)


def test_what_is_zeroed_is_zeros_and_the_others_are_as_they_were(base, tokenizers):
    conditioner = make(base)
    captions = CAPTIONS[:3]
    plain, plain_pooled = conditioner(*read(tokenizers, captions))
    contexts, pooled = conditioner(*read(tokenizers, captions, [False, True, False]))
    assert not contexts[1].any() and not pooled[1].any() and plain[1].any()
    assert torch.equal(contexts[[0, 2]], plain[[0, 2]]) and torch.equal(pooled[[0, 2]], plain_pooled[[0, 2]])


# The gradients


@pytest.mark.parametrize("train", ["none", "first", "second", "both"])
@pytest.mark.parametrize("token_embedding", ["frozen", "row_wise"])
def test_exactly_what_a_gradient_can_reach_is_trained(base, tokenizers, train, token_embedding):
    conditioner = make(base)
    conditioner.requires_grad_(True)
    reached = backward(conditioner, read(tokenizers, CAPTIONS[:3])).keys()
    unread = {name for name, _ in conditioner.named_parameters()} - reached
    assert unread and all(name.startswith("text_encoder.") for name in unread)
    prefixes = {"first": ("text_encoder.",), "second": ("text_encoder_2.",)}.get(train, ("text_encoder",))
    expected = {name for name in reached if train != "none" and name.startswith(prefixes)}
    if token_embedding == "frozen":
        expected = {name for name in expected if "token_embedding" not in name}
    assert trainable(conditioner, TextEncoders(train=train, token_embedding=token_embedding)) == expected


def test_an_encoder_that_does_not_learn_remembers_nothing(base, tokenizers):
    given = read(tokenizers, CAPTIONS[:1])
    for train in ("first", "second", "both"):
        conditioner = make(base, TextEncoders(train=train))
        _, pooled = conditioner(*given)
        assert pooled.requires_grad == (train != "first")
        with torch.no_grad():
            assert not conditioner(*given)[0].requires_grad
        conditioner.requires_grad_(False)  # as when they come to rest
        assert not conditioner(*given)[0].requires_grad
    conditioner = make(base, TextEncoders(train="second"))
    kept: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda kept: kept)
    conditioner.text_encoder_2.requires_grad_(False)
    with hooks:
        conditioner(*given)
    assert kept == []


def test_every_trained_tensor_has_a_gradient_in_every_micro_batch_even_if_all_is_zeroed(base, tokenizers):
    conditioner = make(base, EVERYTHING)
    names = trainable(conditioner, EVERYTHING)
    fired: Counter[str] = Counter()
    for name, parameter in conditioner.named_parameters():
        if name in names:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.update([name]))
    gradients = backward(conditioner, read(tokenizers, CAPTIONS[:3], [True] * 3))
    assert gradients.keys() == names and not any(gradient.any() for gradient in gradients.values())
    gradients = backward(conditioner, read(tokenizers, CAPTIONS[:3]))
    assert all(bool(gradient.any()) for gradient in gradients.values())
    assert fired == dict.fromkeys(names, 2)


def test_what_is_zeroed_has_no_part_in_the_gradient(base, tokenizers):
    conditioner = make(base, EVERYTHING)
    first, *others = CAPTIONS[:3]
    zeroed, otherwise = (backward(conditioner, read(tokenizers, [first, other], [False, True])) for other in others)
    counted = backward(conditioner, read(tokenizers, [first, others[0]]))
    assert all(torch.equal(gradient, otherwise[name]) for name, gradient in zeroed.items())
    assert not any(torch.equal(gradient, counted[name]) for name, gradient in zeroed.items())


@pytest.mark.parametrize("train", ["first", "both"])
def test_checkpointing_computes_layers_twice_and_changes_no_gradient(base, tokenizers, train):
    settings = TextEncoders(train=train)
    given = read(tokenizers, CAPTIONS[:3])
    plain, again = make(base, settings), make(base, settings, checkpointing=True)
    computed: Counter[str] = Counter()
    for name, module in again.named_modules():
        if name.endswith("layers.0.self_attn"):
            module.register_forward_hook(lambda *_, name=name: computed.update([name]))
    expected, actual = backward(plain, given), backward(again, given)
    assert expected.keys() == actual.keys() and expected
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert all(torch.equal(*pair) for pair in zip(plain(*given), again(*given), strict=True))
    first, second = (computed[f"{name}layers.0.self_attn"] for name in ("text_encoder.encoder.", FLAT_2))
    assert first == 3 and second == (2 if train == "first" else 3), "once more on the way back, and the last look"


def test_the_checkpoint_names_its_tensors_as_the_conditioner_does(base):
    conditioner, found = make(base), dict(stored(base))
    assert found.keys() == {name for name, _ in conditioner.named_parameters()}
    assert all(torch.equal(found[name].float(), parameter) for name, parameter in conditioner.named_parameters())


def test_each_encoder_has_its_rate_and_every_tensor_its_caution(base):
    settings = TextEncoders(train="both", rate=0.3, rate_2=0.02, token_embedding="row_wise", element_clip=4.0)
    names = trainable(make(base), settings)
    raw = {"model": {"base": "x"}, "data": {"folders": [{"path": "x"}]}, "optimizer": {"rates": {"mlp": 0.5}}}
    profile, _ = decode_profile(raw | {"text_encoders": msgspec.to_builtins(settings)})
    assert profile is not None
    factors, kept = learning_factors(profile, names), cautions(names, settings)
    assert factors.keys() == kept.keys() == names
    for name, factor in factors.items():
        assert factor == pytest.approx((0.02 if "encoder_2" in name else 0.3) * (0.5 if ".mlp." in name else 1))
    assert all(caution.element_clip == 4.0 and caution.most_kept == 0.99 for caution in kept.values())
    by_row = {name for name, caution in kept.items() if caution.row_wise}
    assert by_row == {
        "text_encoder.embeddings.token_embedding.weight",
        "text_encoder_2.text_model.embeddings.token_embedding.weight",
    }


# The data


@pytest.fixture
def profile(tmp_path: Path, demo_folder: Path) -> Profile:
    """Five pictures, one with a long caption, and two prompts."""
    pictures = copy_pictures(demo_folder, tmp_path / "pictures")
    next(pictures.glob("*.txt")).write_text(LONG)
    profile = changed(write_profile(tmp_path, demo_folder), data={"max_tokens": 225}, model={"precision": "fp32"})
    return changed(profile, preview={"prompts": ("a red circle", LONG), "negative": ""})


def live(profile: Profile, null_condition: str = "empty_prompt") -> Profile:
    return changed(profile, text_encoders={"train": "both"}, objective={"null_condition": null_condition})


def loaded(dataset: Dataset, batch_size: int = 1) -> Batches:
    groups = list(zip((item.bucket for item in dataset.items), dataset.chunks, strict=True))
    order = Order(groups, [1] * len(groups), seed=0, batch_size=batch_size)
    return Batches(dataset.cache, dataset.items, order, dataset.conditions(), seed=0, conditional_dropout=0.4)


@pytest.mark.parametrize("null_condition", ["empty_prompt", "zeros"])
def test_a_live_run_reads_what_a_cached_one_reads_and_caches_no_caption(profile, base, tmp_path, null_condition):
    now = live(profile, null_condition)
    dataset = prepare(session_in(tmp_path / "live"), now, base, CPU)
    assert not (dataset.cache.folder / "text").exists()
    conditioner = make(base, EVERYTHING)
    cached = changed(now, text_encoders={"train": "none"})
    before = loaded(prepare(session_in(tmp_path / "cached"), cached, base, CPU))
    dropped = 0
    for micro in range(15):
        old, new = before.load(micro), loaded(dataset).load(micro)
        given, expected = on_device(new.condition, CPU), on_device(old.condition, CPU)
        assert isinstance(given, Tokens) and isinstance(expected, Embedded)
        contexts, pooled = conditioner(given.ids, given.ids_2, given.zeroed)
        assert torch.equal(contexts, expected.prompt_embeds) and torch.equal(pooled, expected.pooled_prompt_embeds)
        assert old.names == new.names and torch.equal(old.latents, new.latents)
        dropped += int(given.zeroed.sum()) if null_condition == "zeros" else int((given.ids_2[0, 0, 2:] == 0).all())
    assert 2 < dropped < 13


def test_a_live_run_is_resumed_without_a_text_cache_and_with_the_same_words(profile, base, tmp_path):
    session = session_in(tmp_path / "runs")
    begun = prepare(session, live(profile), base, CPU)
    again = prepare(session, live(profile), base, CPU)
    assert (again.items, again.fingerprint, again.live) == (begun.items, begun.fingerprint, True)
    assert not (again.cache.folder / "text").exists()
    with pytest.raises(RunError, match="max_tokens was 225, is 75"):
        prepare(session, changed(live(profile), data={"max_tokens": 75}), base, CPU)


def test_the_rehearsal_holds_the_largest_bucket_with_the_longest_caption(profile, base, tmp_path):
    for settings in (live(profile), profile):
        dataset = prepare(session_in(tmp_path / settings.text_encoders.train), settings, base, CPU)
        largest = max(dataset.items, key=lambda item: item.bucket.width * item.bucket.height).bucket
        batch = rehearsal_batch(dataset, 3)
        assert batch.latents.shape == (3, 4, largest.height // 8, largest.width // 8)
        condition = on_device(batch.condition, CPU)
        if dataset.live:
            assert isinstance(condition, Tokens) and condition.ids.shape == condition.ids_2.shape == (3, 3, 77)
        else:
            assert isinstance(condition, Embedded) and condition.prompt_embeds.shape == (3, 3 * 77, 80)


# Previews and exports


def drawn(profile: Profile, base: Checkpoint, place: Path, conditioner: Conditioner | None) -> list[np.ndarray]:
    """The previews' pixels, of a run of its own."""
    session = session_in(place)
    dataset = prepare(session, profile, base, CPU)
    unet = load_unet(base, CPU, torch.float32)
    previewer = Previewer(session, profile, base, dataset, CPU, conditioner=conditioner)
    previewer.draw(partial(predict, unet), 7, {"latest": nullcontext})
    assert not [warned for warned in of_type(session.run, events.Warned) if warned.code == "preview-failed"]
    return [np.asarray(Image.open(path)) for path in sorted(session.run.samples.glob("*.png"))]


@pytest.mark.parametrize("null_condition", ["empty_prompt", "zeros"])
def test_previews_are_drawn_with_the_encoders_as_they_are(profile, base, tmp_path, null_condition):
    now = live(profile, null_condition)
    conditioner = make(base, EVERYTHING)
    calls: list[object] = []
    conditioner.register_forward_hook(lambda *_: calls.append(None))
    ours = drawn(now, base, tmp_path / "live", conditioner)
    assert len(calls) == 4, "prompt and negative, once a picture"
    theirs = drawn(changed(now, text_encoders={"train": "none"}), base, tmp_path / "cached", None)
    assert len(ours) == 2 and all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
    with torch.no_grad():
        for parameter in conditioner.parameters():
            parameter.mul_(1.3)
    later = drawn(now, base, tmp_path / "later", conditioner)
    assert not any(np.array_equal(*pair) for pair in zip(ours, later, strict=True))


def changed_weights(base: Checkpoint, settings: TextEncoders) -> dict[str, Tensor]:
    """fp32 masters of a run that moved one tensor of the UNet and all that learns of the encoders."""
    generator = torch.Generator().manual_seed(5)
    conditioner = make(base)
    names = trainable(conditioner, settings)
    learnt = {name: parameter for name, parameter in conditioner.named_parameters() if name in names}
    learnt |= {"conv_out.weight": base.unet()["conv_out.weight"].float()}
    return {name: old.detach() + torch.randn(old.shape, generator=generator) * 0.1 for name, old in learnt.items()}


@pytest.mark.parametrize("form", ["checkpoint", "diffusers"])
@pytest.mark.parametrize("train", ["first", "both"])
def test_an_export_holds_the_changed_encoders_and_diffusers_reads_them(
    profile, base, demo_diffusers, tmp_path, form, train
):
    settings = msgspec.structs.replace(EVERYTHING, train=train)
    session = session_in(tmp_path / "runs")
    now = changed(live(profile), save={"export_format": form, "export_precision": "fp32"})
    dataset = prepare(session, now, base, CPU)
    weights = changed_weights(base, settings)
    path = write_export(session, now, base, weights, step=100, dataset=dataset, which="average", suffix="-average")
    assert path.name.removesuffix(".safetensors") == f"{session.run.name}-step000100-average"
    if form == "checkpoint":
        metadata = read_header(path).metadata
        pipeline = StableDiffusionXLPipeline.from_single_file(
            str(path), config=str(demo_diffusers), local_files_only=True
        )
    else:
        metadata = read_header(path / "unet" / "diffusion_pytorch_model.safetensors").metadata
        pipeline = StableDiffusionXLPipeline.from_pretrained(path, local_files_only=True)
    assert metadata["aozora.weights"] == "average"
    theirs = {f"text_encoder.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    theirs |= {f"text_encoder_2.{name}": tensor for name, tensor in pipeline.text_encoder_2.state_dict().items()}
    before = dict(stored(base))
    assert theirs.keys() == before.keys()
    for name, tensor in theirs.items():
        assert torch.equal(tensor, weights.get(name, before[name].float())), name
    assert torch.equal(pipeline.unet.conv_out.weight, weights["conv_out.weight"])
    untouched = base.unet()["conv_in.weight"].float()
    assert torch.equal(pipeline.unet.conv_in.weight, untouched)
