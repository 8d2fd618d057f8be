import random
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from engine.contract.buckets import Bucket, place
from engine.contract.folder import Identity, scan
from engine.contract.items import Encoding, Item
from engine.contract.order import Order, is_dropped
from engine.data.batches import Batches, CachedConditions, LiveConditions, equal_lengths
from engine.data.cache import Cache, CacheError
from engine.data.content import ContentHashes, make_items
from engine.data.prefetch import Prefetch
from engine.model.components import load_unet
from engine.model.single_file import open_checkpoint
from engine.objective.randomness import noise_of

SHAPES = [Bucket(64, 64)] * 7 + [Bucket(96, 32)] * 4 + [Bucket(32, 96)] * 1 + [Bucket(64, 64)] * 3
REPEATS = [1] * 7 + [2, 1, 3, 1] + [5] + [1] * 3
ENCODING = Encoding(
    vae="v", vae_dtype="fp32", background="#ffffff", text_encoders="t", tokenizers="k", text_dtype="bf16", max_chunks=2
)
NULL = (torch.full((77, 8), -1.0), torch.full((6,), -2.0))


def order(batch_size: int, seed: int = 0) -> Order:
    return Order(SHAPES, REPEATS, seed=seed, batch_size=batch_size)


def text_of(index: int, chunks: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(index)
    return torch.randn(77 * chunks, 8, generator=made), torch.randn(6, generator=made)


@pytest.fixture
def filled(tmp_path) -> tuple[Cache, list[Item]]:
    cache = Cache(tmp_path / "cache")
    items = []
    for index, repeats in enumerate(REPEATS):
        bucket = SHAPES[index]
        original = (bucket.width * 2 + 14, bucket.height * 2 + 2)
        item = Item(
            name=f"picture {index}",
            path=Path(f"{index}.png"),
            identity=Identity(1, 2, 3, 4),
            caption=f"caption {index}",
            original=original,
            placement=place(*original, [bucket], step=32, upscale=True),
            repeats=repeats,
            latents_key=f"{index:040d}",
            text_key=f"{index + 100:040d}",
        )
        cache.store_latents(item, torch.full((4, bucket.height // 8, bucket.width // 8), float(index)))
        cache.store_text(item, *text_of(index, 1 + index % 3))
        items.append(item)
    return cache, items


def test_captions_of_different_lengths_do_not_share_a_micro_batch():
    """Else the shorter ones would be repeated to a common multiple: 5, 7, 8 and 9 chunks to 2,520."""
    lengths = [5, 7, 8, 9] * 3
    plan = Order([(Bucket(64, 64), length) for length in lengths], [1] * 12, seed=0, batch_size=4)
    drawn = [plan.batch_at(micro) for micro in range(plan.batches_per_epoch)]
    assert sorted(slot.index for batch in drawn for slot in batch) == list(range(12))
    assert all(len({lengths[slot.index] for slot in batch}) == 1 for batch in drawn)


def batches(filled, batch_size=4, dropout=0.0, seed=0, null=NULL, noise=None) -> Batches:
    cache, items = filled
    plan = Order([i.bucket for i in items], [i.repeats for i in items], seed=seed, batch_size=batch_size)
    conditions = CachedConditions(cache, null)
    return Batches(cache, items, plan, conditions, seed=seed, conditional_dropout=dropout, posterior_noise=noise)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_each_epoch_draws_each_picture_as_often_as_it_repeats_in_batches_of_one_bucket(batch_size):
    plan = order(batch_size)
    for epoch in range(4):
        start = epoch * plan.batches_per_epoch
        drawn = [plan.batch_at(micro) for micro in range(start, start + plan.batches_per_epoch)]
        assert Counter(slot.index for batch in drawn for slot in batch) == dict(enumerate(REPEATS))
        assert all(len({SHAPES[slot.index] for slot in batch}) == 1 for batch in drawn)
        assert all(1 <= len(batch) <= batch_size for batch in drawn)
        # At most one short batch in each bucket.
        short = Counter(SHAPES[batch[0].index] for batch in drawn if len(batch) < batch_size)
        assert set(short.values()) <= {1}
    assert plan.samples_per_epoch == sum(REPEATS)


def test_the_number_of_batches_is_that_of_full_buckets():
    # 10 squares, 7 wide draws, 5 tall draws.
    assert [order(size).batches_per_epoch for size in (1, 4, 5, 7)] == [22, 3 + 2 + 2, 2 + 2 + 1, 2 + 1 + 1]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_starting_anywhere_equals_the_tail_of_starting_at_the_start(batch_size):
    whole = order(batch_size)
    count = 3 * whole.batches_per_epoch
    from_start = [whole.batch_at(micro) for micro in range(count)]
    for start in range(count):
        fresh = order(batch_size)
        assert [fresh.batch_at(micro) for micro in range(start, min(start + 5, count))] == from_start[start : start + 5]
    jumps = random.Random(1).sample(range(count), count)
    assert [whole.batch_at(micro) for micro in jumps] == [from_start[micro] for micro in jumps]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_positions_are_absolute_and_never_reused(batch_size):
    plan = order(batch_size)
    for micro in range(3 * plan.batches_per_epoch):
        batch = plan.batch_at(micro)
        assert [slot.position for slot in batch] == list(range(micro * batch_size, micro * batch_size + len(batch)))


def test_epochs_and_seeds_are_shuffled_differently():
    def epoch(plan: Order, number: int):
        start = number * plan.batches_per_epoch
        return [
            tuple(slot.index for slot in plan.batch_at(micro)) for micro in range(start, start + plan.batches_per_epoch)
        ]

    assert epoch(order(1), 0) != epoch(order(1), 1)
    assert epoch(order(1), 0) != epoch(order(1, seed=1), 0)
    mixed = [SHAPES[batch[0]] for batch in epoch(order(1), 0)]
    assert mixed != sorted(mixed), "buckets must take turns"
    # Batches are composed anew in each epoch, not only reordered.
    assert {frozenset(batch) for batch in epoch(order(4), 0)} != {frozenset(batch) for batch in epoch(order(4), 1)}


def test_every_place_of_an_epoch_is_equally_likely():
    plan = Order([Bucket(64, 64)] * 5, [1] * 5, seed=3, batch_size=1)
    seen = Counter((place, plan.batch_at(epoch * 5 + place)[0].index) for epoch in range(2000) for place in range(5))
    assert len(seen) == 25
    assert max(abs(count - 400) for count in seen.values()) < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_the_order_is_pinned():
    """A resumed run of a later version must draw what the earlier one would have drawn."""
    plan = Order([Bucket(64, 64)] * 4 + [Bucket(96, 32)] * 2, [1] * 6, seed=42, batch_size=2)
    drawn = [tuple(slot.index for slot in plan.batch_at(micro)) for micro in range(6)]
    assert drawn == [(5, 4), (0, 1), (2, 3), (3, 1), (5, 4), (2, 0)]


def test_impossible_orders_are_refused():
    with pytest.raises(ValueError, match="no picture"):
        Order([], [], seed=0, batch_size=1)
    with pytest.raises(ValueError, match="start at 1"):
        Order([Bucket(64, 64)], [0], seed=0, batch_size=1)
    with pytest.raises(ValueError, match="counted from 0"):
        order(1).batch_at(-1)


def test_a_batch_holds_what_was_cached_for_its_pictures(filled):
    _, items = filled
    source = batches(filled)
    for micro in range(10):
        batch = source.load(micro)
        indices = [int(name.split()[1]) for name in batch.names]
        bucket = SHAPES[indices[0]]
        assert batch.latents.shape == (len(indices), 4, bucket.height // 8, bucket.width // 8)
        assert batch.latents.dtype == batch.time_ids.dtype == torch.float32
        for row, index in enumerate(indices):
            assert (batch.latents[row] == index).all()
            prompt_embeds, pooled = text_of(index, 1 + index % 3)
            assert torch.equal(batch.condition.prompt_embeds[row, : len(prompt_embeds)], prompt_embeds)
            assert torch.equal(batch.condition.pooled_prompt_embeds[row], pooled)
            (left, top), (width, height) = items[index].placement.crop, items[index].original
            assert (left, top) != (0, 0)
            expected = [height, width, top, left, bucket.height, bucket.width]
            assert batch.time_ids[row].tolist() == expected


def test_time_ids_are_those_diffusers_makes_of_the_true_size_crop_and_bucket(demo_checkpoint, tmp_path):
    """From a photograph on the disk, held upright by its EXIF note alone, to the batch."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (777, 1023)).save(tmp_path / "pictures" / "a.jpg", exif=exif)
    (picture,) = scan([(tmp_path / "pictures", 1)]).pictures
    placement = place(picture.width, picture.height, [Bucket(512, 320)], step=64, upscale=False)
    (item,), _ = make_items([picture], [placement], [1], ENCODING, ContentHashes(tmp_path / "memo"))
    cache = Cache(tmp_path / "cache")
    cache.store_latents(item, torch.zeros(4, 40, 64))
    cache.store_text(item, *text_of(0, 1))
    plan = Order([item.bucket], [1], seed=0, batch_size=1)
    batch = Batches(cache, [item], plan, CachedConditions(cache, NULL), seed=0, conditional_dropout=0).load(0)
    unet = load_unet(open_checkpoint(demo_checkpoint), "cpu", torch.float32)
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=None,
        add_watermarker=False,
    )
    # 1023x777 becomes 512x389 (388.9): 34 rows go above, 35 below. diffusers wants heights and tops first.
    expected = pipeline._get_add_time_ids((777, 1023), (34, 0), (320, 512), torch.float32, 48)
    assert batch.time_ids.dtype == expected.dtype == torch.float32 and torch.equal(batch.time_ids, expected)
    in_half = pipeline._get_add_time_ids((777, 1023), (34, 0), (320, 512), torch.bfloat16, 48)
    assert not torch.equal(in_half.float(), expected), "sizes that bf16 rounds"


def sampled(cache: Cache, index: int = 0, shape: tuple[int, int] = (8, 8)) -> Item:
    """An item whose posterior is cached: mean 3, deviation 0.5, but for one value that is certain."""
    item = Item(
        name=f"sampled {index}",
        path=Path("a.png"),
        identity=Identity(1, 2, 3, 4),
        caption="",
        original=(64, 64),
        placement=place(64, 64, [Bucket(64, 64)], step=32, upscale=True),
        repeats=1,
        latents_key=f"{index + 500:040d}",
        text_key=f"{index + 600:040d}",
    )
    std = torch.full((4, *shape), 0.5)
    std[0, 0, 0] = 0
    cache.store_latents(item, torch.full((4, *shape), 3.0), std)
    cache.store_text(item, *text_of(index, 1))
    return item


def test_sampled_latents_are_the_mean_plus_noise_of_the_position_times_the_deviation(tmp_path):
    cache = Cache(tmp_path)
    items = [sampled(cache, index) for index in range(3)]
    draw = partial(noise_of, 7, stream="posterior")
    source = batches((cache, items), batch_size=2, seed=7, noise=draw)
    drawn: dict[int, torch.Tensor] = {}
    for micro in range(200):
        batch = source.load(micro)
        assert batch.latents.dtype == torch.float32
        for row, position in enumerate(batch.positions):
            expected = 3 + 0.5 * noise_of(7, [position], (4, 8, 8), stream="posterior")[0]
            assert torch.equal(batch.latents[row, 1:], expected[1:]) and batch.latents[row, 0, 0, 0] == 3
            drawn[position] = batch.latents[row]
    assert torch.equal(
        source.load(0).latents, batches((cache, items), batch_size=2, seed=7, noise=draw).load(0).latents
    )
    values = torch.stack(list(drawn.values()))[:, 1:]
    assert len(drawn) == 300 and abs(float(values.mean()) - 3) < 0.01 and abs(float(values.std()) - 0.5) < 0.01
    assert not torch.equal(drawn[0], drawn[2]), "anew at every draw"
    other = batches((cache, items), batch_size=2, seed=7, noise=partial(noise_of, 8, stream="posterior"))
    assert not torch.equal(other.load(0).latents, source.load(0).latents)
    assert (batches((cache, items), batch_size=2, seed=7).load(0).latents == 3).all(), "without noise, the mean"


def test_dropout_replaces_context_and_pooled_together_and_nothing_else(filled):
    plain, dropped = batches(filled), batches(filled, dropout=0.5)
    seen = Counter()
    for micro in range(40):
        before, after = plain.load(micro), dropped.load(micro)
        assert torch.equal(before.latents, after.latents) and torch.equal(before.time_ids, after.time_ids)
        assert before.names == after.names and before.positions == after.positions
        for row, position in enumerate(after.positions):
            gone = is_dropped(0, position, 0.5)
            seen[gone] += 1
            width = after.condition.prompt_embeds.shape[1]
            assert torch.equal(after.condition.prompt_embeds[row], NULL[0].repeat(width // 77, 1)) == gone
            assert torch.equal(after.condition.pooled_prompt_embeds[row], NULL[1]) == gone
    assert min(seen.values()) > 30


@pytest.mark.parametrize("zeros", [False, True])
def test_live_captions_are_dropped_where_cached_ones_are(filled, zeros):
    cache, items = filled

    def tokenize(caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """As many chunks as the cached one has; the second encoder's ids are the negative."""
        index = int(caption.split()[1]) if caption else -1
        ids = torch.arange(77).expand(1 + index % 3 if caption else 1, 77) + 1000 * index
        return ids, -ids

    cached = batches(filled, dropout=0.5)
    plan = Order([i.bucket for i in items], [i.repeats for i in items], seed=0, batch_size=4)
    live = Batches(cache, items, plan, LiveConditions(tokenize, zeros=zeros), seed=0, conditional_dropout=0.5)
    seen = Counter()
    for micro in range(40):
        before, after = cached.load(micro), live.load(micro)
        assert (before.positions, before.names) == (after.positions, after.names)
        assert torch.equal(before.latents, after.latents) and torch.equal(before.time_ids, after.time_ids)
        condition = after.condition
        chunks = before.condition.prompt_embeds.shape[1] // 77
        assert condition.ids.shape == condition.ids_2.shape == (len(after.names), chunks, 77)
        for row, name in enumerate(after.names):
            gone = torch.equal(before.condition.pooled_prompt_embeds[row], NULL[1])
            seen[gone] += 1
            ids, ids_2 = tokenize("" if gone else name.replace("picture", "caption"))
            assert torch.equal(condition.ids[row], ids.repeat(chunks // len(ids), 1))
            assert torch.equal(condition.ids_2[row], ids_2.repeat(chunks // len(ids), 1))
            assert bool(condition.zeroed[row]) == (gone and zeros)
    assert min(seen.values()) > 30


def test_dropout_is_a_function_of_seed_and_position_at_the_asked_rate():
    draws = [is_dropped(5, position, 0.1) for position in range(20_000)]
    assert draws == [is_dropped(5, position, 0.1) for position in range(20_000)]
    assert draws != [is_dropped(6, position, 0.1) for position in range(20_000)]
    assert abs(sum(draws) - 2000) < 4 * (20_000 * 0.09) ** 0.5
    assert not any(is_dropped(0, position, 0.0) for position in range(1000))
    assert all(is_dropped(0, position, 1.0) for position in range(1000))


def test_a_share_beyond_one_is_refused(filled):
    with pytest.raises(ValueError, match="0 to 1"):
        batches(filled, dropout=10)


def test_a_null_condition_of_another_dtype_is_refused(filled):
    with pytest.raises(ValueError, match="null condition"):
        batches(filled, null=(NULL[0].bfloat16(), NULL[1].bfloat16())).load(0)


def test_unequal_lengths_leave_attention_unchanged():
    contexts = [text_of(index, chunks)[0].double() for index, chunks in enumerate((1, 2, 3))]
    long = equal_lengths(contexts)
    assert {tuple(context.shape) for context in long} == {(6 * 77, 8)}
    query = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for short, repeated in zip(contexts, long, strict=True):
        expected = F.scaled_dot_product_attention(query[None], short[None], short[None])
        actual = F.scaled_dot_product_attention(query[None], repeated[None], repeated[None])
        torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


def test_equal_lengths_are_left_alone():
    contexts = [text_of(index, 2)[0] for index in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(equal_lengths(contexts), contexts, strict=True))


def test_prefetching_gives_what_loading_gives_from_any_start(filled):
    source = batches(filled, dropout=0.3)
    with source.prefetch(5, 9, depth=2) as ahead:
        loaded = list(ahead)
    assert [batch.positions[0] // 4 for batch in loaded] == list(range(5, 14))
    for batch, micro in zip(loaded, range(5, 14), strict=True):
        again = source.load(micro)
        assert torch.equal(batch.latents, again.latents)
        assert torch.equal(batch.condition.prompt_embeds, again.condition.prompt_embeds)


def test_endless_prefetching_stays_ahead_by_its_depth_and_no_more():
    loaded: list[int] = []
    three = threading.Event()

    def load(number: int) -> int:
        loaded.append(number)
        if len(loaded) == 3:
            three.set()
        return number

    before = threading.active_count()
    with Prefetch(load, iter(range(1000)), 2) as ahead:
        assert next(ahead) == 0
        assert three.wait(10)
        assert next(ahead) == 1
    assert len(loaded) <= 4
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(ahead)


def test_closing_waits_for_the_thread_and_loads_nothing_more():
    started, release = threading.Event(), threading.Event()
    loaded: list[int] = []

    def slow(number: int) -> int:
        started.set()
        assert release.wait(10)
        loaded.append(number)
        return number

    before = threading.active_count()
    ahead = Prefetch(slow, range(100), 3)
    assert started.wait(10)
    release.set()
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
    assert loaded == list(range(len(loaded))) and len(loaded) <= 3


def test_an_error_while_prefetching_comes_when_its_turn_comes_and_ends_it():
    def load(number: int) -> int:
        if number == 2:
            raise RuntimeError("broken at 2")
        return number

    before = threading.active_count()
    ahead = Prefetch(load, range(10), 4)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(RuntimeError, match="broken at 2"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="ahead"):
        Prefetch(load, range(3), 0)


def test_an_entry_damaged_during_the_run_names_the_picture_and_the_remedy(filled):
    cache, items = filled
    source = batches(filled)
    first = source.load(0)
    victim = items[int(first.names[0].split()[1])]
    path = cache.latents_path(victim)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with source.prefetch(0) as ahead, pytest.raises(CacheError, match=victim.name) as caught:
        next(ahead)
    assert caught.value.code == "cache_damaged" and caught.value.remedy
    assert cache.missing_latents(items) == (victim,)


def test_loading_leaves_the_global_generator_alone(filled):
    state, other = torch.get_rng_state(), random.getstate()
    batches(filled, dropout=0.5).load(3)
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == other
