"""The data screen, with real pictures."""

from __future__ import annotations

import shutil
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import seen
from forms import AppForAScreen
from msgspec.structs import replace
from PIL import Image
from textual.pilot import Pilot

from aozora_tui import dataset_survey
from aozora_tui.screens.data import DataScreen
from engine.contract.atomic import Entry, header_bytes
from engine.contract.profile import parse
from engine.contract.sections import Profile

PROFILE = """\
[model]
base = "BASE"
[[data.folders]]
path = "pictures"
repeats = 2
[train]
steps = 50
accumulate = 8
[objective]
conditional_dropout = 0.5
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """As much of a checkpoint as the cache's keys depend on."""
    names = ("first_stage_model.encoder.conv_in.weight", "conditioner.embedders.1.model.ln_final.weight")
    entries = [Entry(name, "F16", (40, 50), lambda: bytes(4000)) for name in names]
    path = tmp_path / "base.safetensors"
    path.write_bytes(header_bytes(entries, {}) + bytes(8000))
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for number in range(12):
        size = [(512, 512), (900, 600), (1600, 1000)][number % 3]
        path = folder / f"{'cat' if number % 2 else 'dog'} {number:02}.png"
        Image.linear_gradient("L").resize(size).convert("RGB").save(path)
        path.with_suffix(".txt").write_text(f"a small animal, number {number}")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture
def profile(tmp_path: Path, drawn: Path, base: Path) -> Profile:
    shutil.copytree(drawn, tmp_path / "pictures")
    profile, problems = parse(PROFILE.replace("BASE", str(base)), "test")
    assert profile is not None, problems
    return profile


@asynccontextmanager
async def opened(profile: Profile, folder: Path, size=(80, 24), **options):
    app = AppForAScreen(ticking=False, **options)
    async with app.run_test(size=size, headless=not options) as pilot:
        await pilot.pause()
        screen = DataScreen(profile, folder)
        app.push_screen(screen)
        await settled(pilot)
        yield pilot, screen


async def settled(pilot: Pilot[int]) -> None:
    """Until all threads are done, the picture under the cursor being looked at without a wait."""
    for _ in range(4):
        await pilot.pause()
        await seen.work_done(pilot.app)
        await pilot.pause()
        if isinstance(pilot.app.screen, DataScreen):
            pilot.app.screen.look_now()


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40)])
async def test_the_picture_its_bucket_and_its_caption_are_seen(profile, tmp_path, size):
    async with opened(profile, tmp_path, size) as (pilot, _):
        said = seen.text(pilot.app)
        assert "12 pictures  24 samples an epoch" in said and "pictures" in said and "12 x 2" in said
        assert "cat 01.png" in said and "bucket 896x576" in said and "▀" in said
        for _ in range(9):
            if "The caption is dropped" in seen.text(pilot.app):
                break
            await pilot.press("space")
        else:
            pytest.fail("the end of the page is never shown")
        assert all(len(line) <= size[0] for line in seen.text(pilot.app).split("\n"))


async def test_moving_shows_the_next_picture_with_its_own_draws(profile, tmp_path):
    async with opened(profile, tmp_path, (120, 40)) as (pilot, screen):
        await pilot.press("down", "j")
        assert "number 5" in seen.words(pilot.app), "the words at once"
        await settled(pilot)
        assert screen.drawing is not None
        for draw in screen.drawing.draws(2, 6):
            how = "without its caption" if draw.dropped else "with its caption"
            assert f"step {draw.step:>2} {draw.micro} of 8 {how}".replace("  ", " ") in seen.words(pilot.app)
        assert {draw.dropped for draw in screen.drawing.draws(2, 20)} == {True, False}


async def test_pages_by_tab_and_by_letter(profile, tmp_path):
    async with opened(profile, tmp_path) as (pilot, screen):
        for key, heading in (("tab", "12 pictures in 3 buckets"), ("tab", "1 file skipped"), ("tab", "In the cache")):
            await pilot.press(key)
            await settled(pilot)
            assert heading in seen.text(pilot.app)
        assert "12 would be encoded" in seen.text(pilot.app) and "new: not read by any run yet" in seen.text(pilot.app)
        await pilot.press("b")
        assert "896x576" in seen.text(pilot.app) and screen.view == "buckets"
        await pilot.press("s")
        assert "is empty (0 bytes)" in seen.text(pilot.app)


async def test_the_filter_looks_at_names_captions_and_buckets(profile, tmp_path):
    async with opened(profile, tmp_path) as (pilot, screen):
        for typed, found in (("dog", 6), ("number 11", 1), ("896x576", 4), ("zebra", 0)):
            await pilot.press("slash")
            for _ in range(12):
                await pilot.press("backspace")
            await pilot.press(*("space" if char == " " else char for char in typed), "enter")
            assert len(screen.pictures.entries) == found
        assert "nothing has zebra" in seen.text(pilot.app)
        await pilot.press("escape")
        assert len(screen.pictures.entries) == 12 and pilot.app.screen is screen
        await pilot.press("escape")
        assert pilot.app.screen is not screen


async def test_the_cursor_stays_on_its_picture_while_the_filter_changes(profile, tmp_path):
    async with opened(profile, tmp_path) as (pilot, screen):
        await pilot.press("end")
        before = screen.current
        await pilot.press("slash", "d", "o", "g", "enter")
        assert screen.current is before
        await pilot.press("escape")
        assert screen.current is before and len(screen.pictures.entries) == 12


async def test_the_cursor_stays_on_its_picture_where_fewer_come_before_it_in_the_list(profile, tmp_path):
    async with opened(profile, tmp_path) as (pilot, screen):
        await pilot.press(*["down"] * 8)
        before = screen.current
        assert before.name.startswith("dog") and screen.pictures.cursor == 8
        await pilot.press("slash", *"dog", "enter")
        assert len(screen.pictures.entries) == 6 and screen.current is before


async def test_what_is_counted_as_not_as_it_should_be_is_listed_by_name(profile, tmp_path):
    (tmp_path / "pictures" / "cat 01.txt").unlink()
    Image.new("L", (2000, 1100)).resize((300, 60)).save(tmp_path / "pictures" / "slim.png")
    async with opened(profile, tmp_path) as (pilot, screen):
        await pilot.press("b")
        said = seen.words(pilot.app)
        assert (
            "2 pictures without a caption" in said
            and "o lists them by name" in said
            and "enlarged to the bucket" in said
        )
        names = []
        for _ in range(2):
            await pilot.press("o")
            await settled(pilot)
            names.append({screen.survey.placed[index].name for index in screen.pictures.entries})
        assert names[0] == {"cat 01.png", "slim.png"} and "is:" in seen.text(pilot.app)
        assert "slim.png" in names[1]
        while screen.query_one("#data-filter").value:
            await pilot.press("o")
            await settled(pilot)
        assert len(screen.pictures.entries) == 13


async def test_leaving_ends_the_scan(profile, tmp_path, monkeypatch):
    halfway, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    read, run = dataset_survey.Scanning._read, dataset_survey.Scanning.run
    count = 0

    def slow(self, outcome):
        nonlocal count
        count += 1
        if count == 3:
            halfway.set()
            go_on.wait(10)
        read(self, outcome)

    def noted(self, should_stop):
        try:
            run(self, should_stop)
        finally:
            ended.set()

    monkeypatch.setattr(dataset_survey.Scanning, "_read", slow)
    monkeypatch.setattr(dataset_survey.Scanning, "run", noted)
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = DataScreen(profile, tmp_path)
        app.push_screen(screen)
        await pilot.pause()
        assert halfway.wait(10)
        await pilot.press("escape")
        assert app.screen is not screen, "keys are heard while the scan goes on"
        go_on.set()
        assert ended.wait(10) and count == 3


async def test_a_folder_without_pictures_says_what_to_do(profile, tmp_path):
    for path in (tmp_path / "pictures").glob("*.png"):
        path.unlink()
    async with opened(profile, tmp_path) as (pilot, _):
        assert "No picture can be used: look at what is skipped" in seen.text(pilot.app)
        await pilot.press("c")
        await settled(pilot)
        assert "0 of 0" in seen.text(pilot.app)


async def test_a_base_that_cannot_be_read_is_said_on_the_cache_page(profile, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"no checkpoint")
    profile = replace(profile, model=replace(profile.model, base=str(wrong)))
    async with opened(profile, tmp_path) as (pilot, _):
        await pilot.press("c")
        await settled(pilot)
        assert "Which entries fit cannot be told" in seen.words(pilot.app)


async def test_a_picture_damaged_behind_its_header_is_said(profile, tmp_path):
    path = tmp_path / "pictures" / "cat 01.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    async with opened(profile, tmp_path) as (pilot, _):
        assert "the run will skip it" in seen.words(pilot.app)


async def test_scanning_again_finds_what_is_new(profile, tmp_path):
    async with opened(profile, tmp_path) as (pilot, screen):
        Image.new("RGB", (300, 300)).save(tmp_path / "pictures" / "zoo.png")
        await pilot.press("r")
        await settled(pilot)
        assert len(screen.survey.placed) == 13 and "13 pictures" in seen.text(pilot.app)


@pytest.mark.parametrize("page", "pbsc")
async def test_ascii_has_no_other_signs(profile, tmp_path, monkeypatch, page):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    async with opened(profile, tmp_path) as (pilot, _):
        await pilot.press(page)
        await settled(pilot)
        assert seen.text(pilot.app).isascii()


async def test_keys_cost_little_and_stillness_nothing(profile, tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTUAL_COLOR_SYSTEM", "256")
    async with opened(profile, tmp_path, (120, 40), driver_class=seen.CountingDriver) as (pilot, screen):
        await pilot.press("i")
        await settled(pilot)
        driver = pilot.app._driver
        for key in ("down", "down", "up", "right", "left"):
            driver.sent = 0
            await pilot.press(key)
            assert driver.sent <= 2500, key
        await settled(pilot)
        driver.sent = 0
        screen._show()
        await pilot.pause()
        assert driver.sent == 0
        await pilot.press("i")
        await settled(pilot)
        driver.sent = 0
        await pilot.press("down")
        await settled(pilot)
        assert 0 < driver.sent <= 16_000, "with the picture itself"
