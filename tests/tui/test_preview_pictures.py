"""Pictures as cells, from files that are good, bad and far too large."""

import pytest
import sample_runs
from PIL import Image

from aozora_tui import preview_pictures
from aozora_tui.preview_pictures import Job, Kept, Painted, fitted, painted
from aozora_tui.widgets.few_colours import few_colours
from aozora_tui.widgets.half_blocks import distance, numbered_colours


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "step-000100-1.png"
    path.write_bytes(sample_runs.picture(100, 1))
    return path


@pytest.fixture
def noise(tmp_path):
    """Every pixel of another colour."""
    path = tmp_path / "noise.png"
    red, green = Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)
    Image.merge("RGB", (red, green, Image.effect_noise((256, 256), 60))).save(path)
    return path


def colours(row):
    """The upper and the lower pixel of each cell, as a terminal draws it."""
    for sign, style in row:
        front, back = (tuple(bytes.fromhex(part[1:])) for part in style.split(" on "))
        yield {"▀": (front, back), "▄": (back, front), "█": (front, front), " ": (back, back)}[sign]


def pixels(result):
    for row in result.rows:
        upper, lower = zip(*colours(row), strict=True)
        yield from (list(upper), list(lower))


@pytest.mark.parametrize(("fine", "most"), [(True, 9), (False, 12)])
def test_cells_have_the_colours_of_the_picture(noise, fine, most):
    result = painted(Job(noise, 1.0, (32, 16), "full", fine=fine))
    true = Image.open(noise).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    found = list(pixels(result))
    assert len(found) == 32 and {len(row) for row in found} == {32}
    wrong = [
        abs(a - b)
        for y in range(32)
        for x in range(32)
        for a, b in zip(found[y][x], true.getpixel((x, y)), strict=True)
    ]
    assert sum(wrong) / len(wrong) < most


def test_a_part_is_that_part(file):
    """The floor alone, and the ground alone."""
    result = painted(Job(file, 1.0, (8, 4), "full", part=(0.0, 0.8, 0.2, 1.0), fine=True))
    assert {tuple(pixel) for row in pixels(result) for pixel in row} == {(15, 30, 60)}
    other = painted(Job(file, 1.0, (8, 4), "full", part=(0.0, 0.25, 0.25, 0.5), fine=True))
    assert {tuple(pixel) for row in pixels(other) for pixel in row} == {(30, 60, 120)}


def test_with_256_colours_only_those_are_used_that_are_the_same_everywhere(noise):
    for paint in ("numbered", "dithered"):
        found = list(pixels(painted(Job(noise, 1.0, (32, 16), paint))))
        assert {pixel for row in found for pixel in row} <= set(numbered_colours())


def test_dithering_comes_closer_to_a_colour_that_the_terminal_lacks(tmp_path):
    path, true = tmp_path / "flat.png", (115, 115, 160)
    Image.new("RGB", (64, 64), true).save(path)
    far = {}
    for paint in ("numbered", "dithered"):
        found = [pixel for row in pixels(painted(Job(path, 1.0, (32, 16), paint, fine=True))) for pixel in row]
        means = [sum(pixel[each] for pixel in found) / len(found) for each in range(3)]
        far[paint] = sum(abs(mean - level) for mean, level in zip(means, true, strict=True))
    assert 2 * far["dithered"] < far["numbered"]


def test_the_nearest_numbered_colour_is_found_without_looking_at_all_of_them():
    """Against the search through all of them; colours are told apart to a few levels of 256."""
    for wanted in [
        (red, green, blue) for red in range(2, 256, 36) for green in range(2, 256, 36) for blue in (2, 90, 202)
    ]:
        found = tuple(few_colours(bytes(wanted), 1, carried=0))
        best = min(distance(wanted, colour) for colour in numbered_colours())
        assert distance(wanted, found) <= best + 600, (wanted, found)


def test_without_colours_it_is_signs_from_dark_to_light(tmp_path):
    path = tmp_path / "ramp.png"
    Image.linear_gradient("L").rotate(90).convert("RGB").save(path)
    row = painted(Job(path, 1.0, (20, 10), "signs")).rows[0]
    ramp = " .:-=+*#%@"
    found = [ramp.index(sign) for sign, style in row if style == ""]
    assert found == sorted(found) and found[0] == 0 and found[-1] == 9


def test_what_is_no_good_picture_is_one_sentence(tmp_path, file):
    text, half, large, other = (tmp_path / name for name in ("text.png", "half.png", "large.png", "jpeg.png"))
    text.write_text("not yet here")
    half.write_bytes(file.read_bytes()[:600])
    Image.new("1", (5000, 5000)).save(large)
    Image.new("RGB", (8, 8)).save(other, "JPEG")
    said = {
        each.name: painted(Job(each, 1.0, (8, 4), "full")) for each in (text, half, large, other, tmp_path / "no.png")
    }
    assert all(not result.rows and "\n" not in result.fault for result in said.values())
    assert said["no.png"].fault == "is missing"
    assert said["large.png"].fault == "is 5000x5000, larger than a preview can be"
    assert "not a picture" in said["text.png"].fault and "not a picture" in said["jpeg.png"].fault
    assert "is truncated" in said["half.png"].fault


@pytest.mark.parametrize(
    ("size", "room", "cells"),
    [((1024, 1024), (40, 40), (40, 20)), ((1024, 1024), (40, 10), (20, 10)), ((10_000, 10), (40, 10), (40, 1))],
)
def test_pictures_keep_their_shape(size, room, cells):
    assert fitted(size, room) == cells


def test_what_is_kept_is_bounded_and_the_oldest_goes(tmp_path):
    kept = Kept(most=300)
    jobs = [Job(tmp_path / f"{each}.png", 1.0, (10, 10), "full") for each in range(4)]
    for job in jobs[:3]:
        kept.put(job, Painted())
    assert kept.get(jobs[0]) is not None  # used again: it stays
    kept.put(jobs[3], Painted(fault="is missing"))
    assert [kept.get(job) is not None for job in jobs] == [True, False, True, True]
    kept.forget_faults()
    assert kept.get(jobs[3]) is None and len(kept) == 2
    assert preview_pictures.MOST_CELLS * 150 < 20_000_000  # bytes, about
