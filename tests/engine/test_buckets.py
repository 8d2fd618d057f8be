import math
import random

import pytest

from engine.contract.buckets import Bucket, Placement, describe, make_buckets, place, time_ids

SDXL = make_buckets(1024, 64)


def random_sizes(count: int, seed: int = 0):
    draw = random.Random(seed)
    for _ in range(count):
        yield round(math.exp(draw.uniform(0, 9.2))), round(math.exp(draw.uniform(0, 9.2)))


def test_the_ladder_holds_the_33_largest_shapes_between_512_and_2048_and_little_else():
    # The count of kohya's make_bucket_resolutions for sides 512 to 2048.
    largest = {b for b in SDXL if not any(b.width == c.width and b.height < c.height for c in SDXL)}
    assert len(largest | {Bucket(b.height, b.width) for b in largest}) == 33
    assert {(1024, 1024), (1344, 768), (768, 1344), (2048, 512), (1216, 832)} <= largest
    assert len(SDXL) == 41
    assert all(b.width * b.height >= 0.9 * 1024**2 for b in set(SDXL) - largest if (b.height, b.width) not in largest)


@pytest.mark.parametrize(("resolution", "step"), [(1024, 64), (1152, 64), (256, 32), (1000, 64), (100, 64), (64, 64)])
def test_every_bucket_keeps_area_sides_and_step(resolution, step):
    buckets = make_buckets(resolution, step)
    square = resolution // step * step
    assert (square, square) in buckets
    for width, height in buckets:
        assert width % step == height % step == 0
        assert width * height <= resolution**2
        assert resolution / 2 <= min(width, height) and max(width, height) <= 2 * resolution
        assert (height, width) in buckets


def test_a_resolution_below_one_step_is_refused():
    with pytest.raises(ValueError, match="raise it or lower step"):
        make_buckets(32, 64)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1920, 1080), (1344, 768)),
        ((3840, 2160), (1344, 768)),
        ((1080, 1920), (768, 1344)),
        ((4000, 4000), (1024, 1024)),
        ((3000, 2000), (1216, 832)),
        ((9000, 1000), (2048, 512)),
    ],
)
def test_common_sizes_go_where_they_belong(size, bucket):
    assert place(*size, SDXL, step=64, upscale=False).bucket == bucket


def test_sixteen_to_nine_at_1152_is_1472_by_832():
    assert place(1920, 1080, make_buckets(1152, 64), step=64, upscale=True).bucket == (1472, 832)


def test_equal_shapes_go_to_the_larger():
    buckets = (Bucket(512, 512), Bucket(1024, 1024), Bucket(768, 768))
    assert place(4000, 4000, buckets, step=64, upscale=False).bucket == (1024, 1024)


@pytest.mark.parametrize("upscale", [False, True])
def test_the_scaled_picture_covers_its_bucket_and_the_crop_is_centred_inside(upscale):
    for width, height in random_sizes(3000):
        placed = place(width, height, SDXL, step=64, upscale=upscale)
        (bucket_width, bucket_height), (scaled_width, scaled_height), (left, top) = (
            placed.bucket,
            placed.scaled,
            placed.crop,
        )
        assert bucket_width % 64 == bucket_height % 64 == 0 < min(placed.bucket)
        assert scaled_width == bucket_width <= scaled_width or scaled_height == bucket_height
        assert scaled_width >= bucket_width and scaled_height >= bucket_height
        assert left == (scaled_width - bucket_width) // 2 and top == (scaled_height - bucket_height) // 2
        assert abs(scaled_width - width * placed.scale) <= 0.5 + 1e-6
        assert abs(scaled_height - height * placed.scale) <= 0.5 + 1e-6
        assert placed == place(width, height, SDXL, step=64, upscale=upscale)


def test_with_upscaling_the_nearest_shape_of_the_ladder_is_always_taken():
    for width, height in random_sizes(500):
        chosen = place(width, height, SDXL, step=64, upscale=True).bucket
        best = min(abs(math.log(width / height * b.height / b.width)) for b in SDXL)
        assert abs(math.log(width / height * chosen.height / chosen.width)) == pytest.approx(best, abs=1e-8)


def test_without_upscaling_only_a_side_below_one_step_is_enlarged():
    for width, height in random_sizes(3000, seed=1):
        placed = place(width, height, SDXL, step=64, upscale=False)
        assert placed.upscaled == (min(width, height) < 64)
        assert placed.bucket.width * placed.bucket.height <= 1024**2
        if not placed.upscaled:
            assert placed.scaled[0] <= width and placed.scaled[1] <= height


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1000, 1000), (960, 960)),
        ((1400, 700), (1280, 640)),  # the floors, 1344x640, would cut more away
        ((500, 300), (448, 256)),
        ((20, 20), (64, 64)),
        ((10000, 400), (1536, 384)),  # beyond the ladder: its widest shape, 4:1
    ],
)
def test_small_pictures_get_a_smaller_bucket_of_their_shape(size, bucket):
    assert place(*size, SDXL, step=64, upscale=False).bucket == bucket


def test_small_pictures_of_ordinary_shape_lose_little():
    draw = random.Random(3)
    for _ in range(1000):
        height = draw.randint(256, 700)
        width = round(height * draw.uniform(0.5, 2))
        # Half a step of rounding on a side of four steps.
        assert place(width, height, SDXL, step=64, upscale=False).lost < 0.2


def test_a_size_without_area_is_refused():
    with pytest.raises(ValueError, match="0x5"):
        place(0, 5, SDXL, step=64, upscale=True)
    with pytest.raises(ValueError, match="no bucket"):
        place(5, 5, (), step=64, upscale=True)


def test_describe_counts_fullest_first():
    def at(width: int, height: int) -> Placement:
        return place(width, height, SDXL, step=64, upscale=True)

    counts = describe([at(1920, 1080), at(1000, 1000), at(1280, 720)])
    assert list(counts.items()) == [((1344, 768), 2), ((1024, 1024), 1)]


def test_time_ids_are_height_first():
    assert time_ids((1920, 1080), (10, 3), (1344, 768)) == (1080, 1920, 3, 10, 768, 1344)
