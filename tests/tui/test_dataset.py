"""What is told of a folder of pictures: from the scan to lines of text."""

from __future__ import annotations

from pathlib import Path

import fake_checkpoint
import pytest
from PIL import Image

from aozora_tui.dataset_cache import CacheState, Tally
from aozora_tui.dataset_draws import plan_draws, read_vocabulary
from aozora_tui.dataset_picture import thumbnail
from aozora_tui.dataset_survey import Batch, Placed, Scanning, Survey, roots_of
from aozora_tui.screens.data_page import Parts, wrapped
from aozora_tui.screens.data_pages import bucket_page, cache_page, skipped_page
from aozora_tui.screens.data_picture import geometry
from aozora_tui.widgets.half_blocks import Thumbnail, block_rows, sign_rows
from engine.contract.atomic import Interrupted, never
from engine.contract.profile import parse
from engine.contract.sections import Profile

RED, BLUE = (255, 0, 0), (0, 0, 255)


def profile_of(folders: str, extra: str = "") -> Profile:
    profile, problems = parse(f'[model]\nbase = "base.safetensors"\n{folders}\n{extra}', "test")
    assert profile is not None, problems
    return profile


def folder_of(path: Path, repeats: int = 1) -> str:
    return f'[[data.folders]]\npath = "{path}"\nrepeats = {repeats}\n'


def picture(path: Path, size: tuple[int, int], caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, RED).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def surveyed(profile: Profile, folder: Path) -> Survey:
    survey = Survey(roots_of(profile, folder))
    Scanning(profile, survey.roots, survey.add).run(never)
    return survey


def text(lines: list[Parts]) -> str:
    return "\n".join("".join(part for part, _ in line).rstrip() for line in lines)


def test_pictures_are_counted_in_the_folder_whose_repeats_they_have(tmp_path):
    for name in ("a", "b", "inner/c"):
        picture(tmp_path / "all" / f"{name}.png", (64, 64))
    profile = profile_of(folder_of(tmp_path / "all") + folder_of(tmp_path / "all" / "inner", 3))
    survey = surveyed(profile, tmp_path)
    assert dict(survey.counts) == {0: 2, 1: 1} and survey.samples == 5
    assert [placed.name for placed in survey.placed] == ["a.png", "b.png", "c.png"]


def test_results_come_in_batches_by_the_clock_and_lose_nothing(tmp_path):
    for number in range(7):
        picture(tmp_path / f"{number}.png", (64, 64))
    (tmp_path / "bad.png").write_bytes(b"no")
    profile, seconds = profile_of(folder_of(tmp_path)), iter(index * 0.1 for index in range(99))
    batches: list[Batch] = []
    Scanning(profile, roots_of(profile, tmp_path), batches.append, clock=lambda: next(seconds)).run(never)
    assert len(batches) > 2 and [batch.finished for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert sum(len(batch.placed) for batch in batches) == 7 and sum(len(batch.skipped) for batch in batches) == 1
    assert batches[-1].done == batches[-1].total == 8


def test_a_stopped_scan_reads_no_further(tmp_path):
    for number in range(9):
        picture(tmp_path / f"{number}.png", (64, 64))
    profile, batches = profile_of(folder_of(tmp_path)), []
    looks = iter([False] * 4 + [True] * 9)
    with pytest.raises(Interrupted):
        Scanning(profile, roots_of(profile, tmp_path), batches.append).run(lambda: next(looks))
    assert not batches


def one(tmp_path: Path, size: tuple[int, int], extra: str = "") -> Placed:
    picture(tmp_path / "one" / "p.png", size)
    return surveyed(profile_of(folder_of(tmp_path / "one"), extra), tmp_path).placed[0]


def test_what_is_cropped_is_said_in_pixels_of_each_side(tmp_path):
    said = geometry(one(tmp_path, (401, 300)))
    # Too small for a bucket of 1024: 320x256 is what it covers, at 256 high and 342 wide.
    assert said == ("file   401x300", "scaled 342x256", "bucket 320x256", "crop   6.4 %", "11 px left, 11 right")
    assert geometry(one(tmp_path, (1024, 1024)))[-1] == "crop   nothing"


@pytest.fixture
def striped(tmp_path) -> Placed:
    """401x300, red in the middle and blue at the sides that are cut away."""
    placed = one(tmp_path, (401, 300))
    image = Image.new("RGB", (401, 300), RED)
    left = round(placed.placement.crop[0] / placed.placement.scale)
    for x in (0, 401 - left):
        image.paste(BLUE, (x, 0, x + left, 300))
    image.save(placed.picture.path)
    return placed


def test_a_thumbnail_shows_what_is_left_after_the_crop(striped):
    assert striped.placement.crop[0] >= 4 and striped.placement.crop[1] == 0
    small = thumbnail(striped, "#ffffff", (40, 12), whole=False)
    assert {pixel[0] > 200 and pixel[2] < 60 for row in small.pixels for pixel in row} == {True}
    assert small.width <= 40 and len(small.pixels) <= 24 and len(small.pixels) % 2 == 0
    bucket = striped.bucket
    assert small.width / len(small.pixels) == pytest.approx(bucket.width / bucket.height, rel=0.1)


def test_the_whole_picture_is_darker_where_it_is_cut_away(striped):
    small = thumbnail(striped, "#ffffff", (160, 60), whole=True)
    row = small.pixels[len(small.pixels) // 2]
    assert row[0][2] < 100 and row[0][0] < 60, "dark blue"
    assert row[len(row) // 2] == pytest.approx(RED, abs=8)


def test_transparent_pictures_lie_on_the_profiles_background(tmp_path):
    placed = one(tmp_path, (64, 64))
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(placed.picture.path)
    small = thumbnail(placed, "#00ff00", (4, 2), whole=False)
    assert {pixel for row in small.pixels for pixel in row} == {(0, 255, 0)}


def test_two_pixels_share_a_cell_and_equal_neighbours_their_colour():
    picture = Thumbnail(((RED, RED, BLUE), (BLUE, BLUE, BLUE)))
    assert block_rows(picture) == [(("▀▀", "#ff0000 on #0000ff"), (" ", "on #0000ff"))]
    light = Thumbnail((((0, 0, 0), (255, 255, 255)),) * 2)
    assert sign_rows(light) == [((" @", ""),)]


def test_the_fullest_bucket_has_the_longest_bar_and_the_shares_sum_up(tmp_path, monkeypatch):
    for number in range(6):
        picture(tmp_path / f"{number}.png", (512, 512) if number < 4 else (300, 900))
    picture(tmp_path / "tiny.png", (10, 70))
    profile = profile_of(folder_of(tmp_path), "[data]\nresolution = 256\n[train]\nbatch_size = 3\nsteps = 10")
    survey = surveyed(profile, tmp_path)
    fake_checkpoint.write_tokenizer(tmp_path / "words")
    drawing = plan_draws(profile, survey.placed, read_vocabulary(profile, tmp_path), never)
    lines = text(bucket_page(survey, profile, drawing, 44, only="o")).split("\n")
    assert lines[0] == "7 pictures in 3 buckets"
    bars = {line[:10].strip(): line.count("█") for line in lines[2:5]}
    assert bars["256x256"] == max(bars.values()) > bars["128x384"] > bars["64x64"]
    assert lines[2].endswith("4  57 %") and any(line.startswith("1 picture enlarged to the bucket") for line in lines)
    assert "An epoch: 7 samples in 4 micro-batches" in lines
    assert "3 of them hold fewer than 3: each is of one" in lines
    monkeypatch.setenv("AOZORA_ASCII", "1")
    assert text(bucket_page(survey, profile, drawing, 44, only="o")).isascii()


def test_every_skipped_file_is_named_with_its_whole_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "moving.gif").write_bytes(b"GIF89a")
    profile = profile_of(folder_of(tmp_path) + folder_of(tmp_path / "nowhere"))
    said = text(skipped_page(surveyed(profile, tmp_path), 40))
    assert "2 files skipped" in said and "empty.jpg\n  is empty (0 bytes)" in said
    assert "convert it to png" in said and "nowhere\n  cannot be opened" in said
    assert max(map(len, said.split("\n"))) <= 40


def test_the_cache_page_counts_reasons_and_fits_its_width():
    pictures = Tally(cached=3, bytes=2_000_000)
    pictures.missing.update({"gone from the cache": 2, "changed since the last run: data.background, another VAE": 5})
    page = text(cache_page(CacheState(Path("/cache"), pictures, Tally(4), ()), "", 44))
    assert "3 of 10" in page and "7 would be encoded, 2 MB to write:" in page
    assert "4 of 4\nnothing would be encoded again" in page
    assert max(map(len, page.split("\n"))) <= 44
    learning = text(cache_page(CacheState(Path("/cache"), pictures, None, ()), "", 44))
    assert "Captions are not cached: the text encoders" in learning


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ("a woman with a hat", ["a woman", "with a hat"]),
        ("abcdefghijklmn", ["abcdefghij", "klmn"]),
        ("港の女性と船", ["港の女性と", "船"]),
        ("", [""]),
    ],
)
def test_text_is_folded_by_the_cells_it_takes(said, lines):
    assert wrapped(said, 10) == lines
