"""Which weights draw previews: the running average, the latest, or both."""

import json
from pathlib import Path

import pytest
from PIL import Image

from engine.contract import events
from engine.contract.rundir import RunDir
from tests.end_to_end.harness import FEW, changed, of_type, run_here, write_profile


def ran(place: Path, demo: Path, **ema: object) -> RunDir:
    profile = changed(
        write_profile(place, demo, steps=2, accumulate=1, layers=FEW),
        ema={"decay": 0.9, "warmup": False, **ema},
        optimizer={"learning_rate": 0.02},
        preview={"at_start": True, "guidance": 1.0},
        save={"export": False},
    )
    return run_here(profile, place / "runs")


def pixels(run: RunDir, name: str) -> bytes:
    with Image.open(run.samples / name) as picture:
        return picture.tobytes()


@pytest.fixture
def runs(encoded: Path, demo_folder: Path) -> dict[str, RunDir]:
    choices: dict[str, dict[str, object]] = {
        "average": {},
        "latest": {"previews": False},
        "both": {"previews_of_both": True},
    }
    return {name: ran(encoded, demo_folder, **choice) for name, choice in choices.items()}


def test_both_weights_draw_what_each_would_draw_alone_and_the_untouched_model_once(runs: dict[str, RunDir]):
    both = of_type(runs["both"], events.Sampled)
    assert [(event.step, Path(event.path).name, event.settings.get("weights")) for event in both] == [
        (0, "step-000000-1.png", None),
        (2, "step-000002-1.png", "average"),
        (2, "step-000002-1-latest.png", "latest"),
    ]
    average, latest = (pixels(runs["both"], f"step-000002-1{suffix}.png") for suffix in ("", "-latest"))
    assert average != latest
    assert average == pixels(runs["average"], "step-000002-1.png")
    assert latest == pixels(runs["latest"], "step-000002-1.png")
    assert [event.settings.get("weights") for event in of_type(runs["latest"], events.Sampled)] == [None, "latest"]
    with Image.open(runs["both"].samples / "step-000002-1-latest.png") as picture:
        facts = json.loads(picture.text["aozora"])
    assert facts["weights"] == "latest" and facts["sampler"] == "DDIM" and facts == both[2].settings
    progress = [event for event in of_type(runs["both"], events.Progress) if event.phase == "preview"]
    assert {event.total for event in progress} <= {2, 4} and (not progress or progress[-1].done <= progress[-1].total)
