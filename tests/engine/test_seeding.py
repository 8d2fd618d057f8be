import hashlib

from engine.contract.seeding import derive, fraction


def test_the_draw_is_the_published_hash_of_seed_position_and_stream():
    digest = hashlib.blake2b(b"42:7:noise", digest_size=8).digest()
    assert derive(42, "noise", 7) == int.from_bytes(digest, "big") // 2


def test_seed_stream_and_position_all_count_and_zero_is_a_seed():
    draws = {
        derive(seed, stream, position)
        for seed in (0, 1, 2**31)
        for stream in ("noise", "order", "dropout")
        for position in range(50)
    }
    assert len(draws) == 3 * 3 * 50
    assert all(0 <= draw < 2**63 for draw in draws)


def test_no_stream_name_imitates_another_position():
    assert derive(1, "2:x", 3) != derive(1, "x", 2)
    assert derive(1, "0:noise", 1) != derive(11, "noise", 0)


def test_fractions_are_uniform_below_one():
    draws = [fraction(0, "dropout", position) for position in range(20_000)]
    assert min(draws) >= 0 and max(draws) < 1
    for edge in (0.1, 0.5, 0.9):
        share = sum(draw < edge for draw in draws) / len(draws)
        assert abs(share - edge) < 4 * (edge * (1 - edge) / len(draws)) ** 0.5
