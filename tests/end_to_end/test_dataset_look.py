"""What the app says a run would learn from, and what a run then does."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from aozora_tui.dataset_cache import CacheState, cache_state
from aozora_tui.dataset_draws import Draw, plan_draws, read_vocabulary
from aozora_tui.dataset_survey import Placed, Scanning, Survey, roots_of
from engine.contract.atomic import never
from engine.contract.sections import Profile
from engine.model.single_file import open_checkpoint
from engine.run.assemble import _batches
from engine.run.dataset import Dataset, prepare
from tests.end_to_end.harness import changed, session_in, write_profile


@pytest.fixture
def runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AOZORA_RUNS", str(place / "runs"))
    return place / "runs"


def surveyed(profile: Profile, place: Path) -> list[Placed]:
    survey = Survey(roots_of(profile, place))
    Scanning(profile, survey.roots, survey.add).run(never)
    assert survey.finished
    return survey.placed


def looked(profile: Profile, place: Path) -> CacheState:
    words = read_vocabulary(profile, place)
    placed = surveyed(profile, place)
    return cache_state(profile, place, placed, words, should_stop=never, progress=lambda said: None)


def prepared(profile: Profile, runs: Path, base: Path, name: str = "first") -> Dataset:
    return prepare(session_in(runs, name), profile, open_checkpoint(base), torch.device("cpu"))


def test_all_that_a_run_encoded_is_known_to_be_cached(place, runs, demo_folder, demo_checkpoint):
    profile = changed(write_profile(place, demo_folder), preview={"prompts": ("a star", "red star " * 60)})
    before = looked(profile, place)
    assert before.pictures.cached == 0 and before.pictures.missing == {"new: not read by any run yet": 5}
    prepared(profile, runs, demo_checkpoint)
    after = looked(profile, place)
    assert after.captions is not None and before.captions is not None
    assert (after.pictures.cached, after.pictures.missing.total()) == (5, 0)
    assert after.captions.missing.total() == 0 and after.captions.cached == before.captions.missing.total()


def test_every_reason_to_encode_again_is_told(place, runs, demo_folder, demo_checkpoint):
    profile = changed(write_profile(place, demo_folder))
    dataset = prepared(profile, runs, demo_checkpoint)
    first, second, third, *_ = sorted((place / "pictures").glob("*.png"))
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(first)
    dataset.cache.latents_path(next(item for item in dataset.items if item.path == second)).unlink()
    shutil.copy(third, place / "pictures" / "new.png")
    first.with_suffix(".txt").write_text("something else entirely")
    state = looked(profile, place)
    assert state.pictures.missing == {
        "changed since they were read": 1,
        "gone from the cache": 1,
        "new: not read by any run yet": 1,
    }
    assert state.captions is not None
    assert state.captions.missing == {"changed since the last run": 1, "new: of pictures without a run yet": 1}


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"background": "#000000"}, "changed since the last run: data.background"),
        ({"vae_precision": "bf16"}, "changed since the last run: data.vae_precision"),
        ({"latents": "sampled"}, "changed since the last run: data.latents"),
        ({"resolution": 128}, "in another bucket than in the last run"),
    ],
)
def test_a_setting_that_encodes_every_picture_again_is_named(place, runs, demo_folder, demo_checkpoint, section, why):
    path = write_profile(place, demo_folder)
    prepared(changed(path), runs, demo_checkpoint)
    state = looked(changed(path, data=section), place)
    assert state.pictures.missing == {why: 5} and not state.captions.missing


@pytest.mark.parametrize("held", [0, 2])
def test_the_draws_are_those_of_the_run(place, runs, demo_folder, demo_checkpoint, held):
    (place / "pictures" / "long.txt").write_text("red star " * 100)
    shutil.copy(next((place / "pictures").glob("*.png")), place / "pictures" / "long.png")
    profile = changed(
        write_profile(place, demo_folder),
        train={"seed": 5, "steps": 6, "accumulate": 3, "batch_size": 2},
        objective={"conditional_dropout": 0.4},
        validation={"pictures": held},
    )
    placed = surveyed(profile, place)
    drawing = plan_draws(profile, placed, read_vocabulary(profile, place), never)
    dataset = prepared(profile, runs, demo_checkpoint)
    batches = _batches(profile, dataset, torch.device("cpu"))
    null = dataset.null()[0]
    drawn: dict[str, list[Draw]] = {str(each.picture.path): [] for each in placed}
    for micro in range(6 * 3):
        batch = batches.load(micro)
        for name, context in zip(batch.names, batch.condition.prompt_embeds, strict=True):
            dropped = torch.equal(context[: len(null)], null)
            drawn[name].append(Draw(micro // 3 + 1, micro % 3 + 1, dropped))
    assert drawing is not None and {draw.dropped for draws in drawn.values() for draw in draws} == {True, False}
    never_drawn = {i for i, each in enumerate(placed) if not drawn[str(each.picture.path)]}
    assert {i for i in range(len(placed)) if drawing.is_held_out(i)} == never_drawn
    # The long caption is one of a copy, which is held out with its picture.
    assert len(dataset.held_out) == held and len(never_drawn) == drawing.held_out == held + (held > 0)
    assert {str(each.picture.path): list(drawing.draws(i, 99)) for i, each in enumerate(placed)} == drawn
