"""Which pictures a run is measured by."""

from random import Random

import pytest

from engine.contract.held_out import held_out


def some_pictures(draw, *, most):
    """With copies."""
    return [(draw.randint(1, 50), draw.randint(1, 3), draw.randint(1, 3)) for _ in range(draw.randint(0, most))]


@pytest.mark.parametrize("seed", range(300))
def test_so_many_different_ones_with_all_their_copies_and_at_least_one_is_left(seed):
    draw = Random(seed)
    pictures, count = some_pictures(draw, most=60), draw.randint(0, 20)
    different = set(pictures)
    if count and count >= len(different):
        with pytest.raises(ValueError, match="only"):
            held_out(pictures, count)
        return
    places = held_out(pictures, count)
    out = [{pictures[place] for place in copies} for copies in places]
    assert [len(each) for each in out] == [1] * count and len(set.union(set(), *out)) == count
    assert sum(map(len, places)) == sum(each in set.union(set(), *out) for each in pictures)
    assert all(copies == sorted(copies) for copies in places)


@pytest.mark.parametrize("seed", range(50))
def test_neither_order_nor_names_matter_and_a_new_picture_moves_at_most_one(seed):
    draw = Random(seed)
    pictures = [(size, 3, 2) for size in draw.sample(range(100), 30)]
    shuffled = draw.sample(pictures, len(pictures))
    chosen = [pictures[place] for (place,) in held_out(pictures, 5)]
    assert [shuffled[place] for (place,) in held_out(shuffled, 5)] == chosen
    more = [*pictures, (draw.randint(100, 999), 1, 1)]
    assert len({more[place] for (place,) in held_out(more, 5)} & set(chosen)) >= 4


def test_which_they_are_is_told():
    with pytest.raises(ValueError, match="1 picture cannot be held out: there is only 1"):
        held_out([(1, 2, 3)] * 2, 1)
