"""Beside a wrong setting nothing is said that only its default makes true."""

from pathlib import Path

import msgspec
import pytest

from engine.contract.check import check_text
from engine.contract.contradictions import contradictions
from engine.contract.fields import form_fields
from engine.contract.in_doubt import certain
from engine.contract.problems import Problem
from engine.contract.profile import parse
from tests.engine.test_profile import MINIMAL

MACHINE = {"model.base", "model.tokenizer", "data.folders[0].path"}


def said(lines: str, tmp_path: Path) -> dict[str, str]:
    """By path, without what this machine lacks."""
    problems = check_text(MINIMAL + lines, tmp_path / "profile.toml").problems
    return {problem.path: problem.text for problem in problems if problem.path not in MACHINE}


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ('[text_encoders]\ntrain = "CLIP-L"\nstop_after = 100\nrate = 0.5\nrate_2 = 0.2', "text_encoders.train"),
        ('[text_encoders]\ntrain = true\ntoken_embedding = "row_wise"\nelement_clip = 2.0', "text_encoders.train"),
        ('[text_encoders]\ntrian = "first"\nstop_after = 100', "text_encoders.trian"),
        ('[schedule]\nshape = "wds"\ncurve = [[0, 1], [1, 0.1]]', "schedule.shape"),
        ('[schedule]\nshape = "wds"\ndecay = 0.95', "schedule.shape"),
        ('[schedule]\nshape = "step"\ncycles = 2\npower = 3.0\nwarmup_steps = 5', "schedule.shape"),
        ('[optimizer]\nkind = "prodigy"\narguments = { a = 1 }', "optimizer.kind"),
        ('[optimizer]\nkind = "prodigy"\nimport_path = "a.B"\nbeta1 = 0.8\nmomentum = 0.5', "optimizer.kind"),
        ('[optimizer]\nmaster = "split2"\n[model]\nbase = "x"\nprecision = "fp16"', "optimizer.master"),
        ('[optimizer]\nlearning_rate = 10\nmaster = "stochastic"', "optimizer.learning_rate"),
        ("[ema]\ndecay = 99.9\nwarmup = false\nexport = 'both'", "ema.decay"),
        ("[ema]\ndecay = '0.9'\nexport = 'latest'", "ema.decay"),
        ("[train]\nsteps = 0\n[save]\nevery = 2000", "train.steps"),
        ("[train]\nsteps = 0\n[schedule]\nwarmup_steps = 2000", "train.steps"),
        ('[objective]\nloss = "huver"\nhuber_delta = 0.5', "objective.loss"),
        ('[objective]\ntimesteps = "logit"\nlogit_mean = 0.5', "objective.timesteps"),
        ('[objective]\nprediction_type = "vpred2"\nzero_terminal_snr = false\nnoise_offset = 0.1', None),
        ("[preview]\nprompts = 3\n[ema]\ndecay = 0.9\npreviews = false", "preview.prompts"),
        ("[save]\nexport = 'yes'\nexport_format = 'unet'", "save.export"),
        ('[text_encoders]\ntrain = "CLIP-L"\n[optimizer.rates]\n"text_encoder.*" = 0.5', "text_encoders.train"),
    ],
)
def test_what_a_default_in_a_wrong_settings_place_would_make_of_others_is_not_said(
    tmp_path: Path, lines: str, wrong: str | None
):
    if "[model]" in lines:
        lines = lines.partition("[model]")[0]
    found = said(lines, tmp_path)
    assert list(found) == [wrong or "objective.prediction_type"]


@pytest.mark.parametrize(
    ("lines", "paths"),
    [
        ('[schedule]\nshape = "wds"\ncurve = [[0, 1], [2, 0.1]]', ["schedule.shape", "schedule.curve[1].at"]),
        ('[schedule]\nshape = "wds"\ncurve = [[-1, 1], [1, 0.1]]', ["schedule.shape", "schedule.curve[0].at"]),
        ('[objective]\ntimesteps = "x"\ntimestep_curve = [[0, 1], [1000, 1]]', None),
        ('[optimizer]\nkind = "prodigy"\nimport_path = "Prodigy"', ["optimizer.kind", "optimizer.import_path"]),
        ('[text_encoders]\ntrain = "CLIP-L"\n[objective]\nhuber_delta = 0.5', None),
        ("[schedule]\nwarmup = 2\nwarmup_steps = 1000", ["schedule.warmup", "schedule.warmup_steps"]),
        ('[schedule]\nshape = "wds"\n[save]\nevery = 2000', ["schedule.shape", "save.every"]),
    ],
)
def test_what_is_wrong_whatever_is_meant_is_named_in_the_same_breath(
    tmp_path: Path, lines: str, paths: list[str] | None
):
    found = said(lines, tmp_path)
    assert len(found) == 2 and (paths is None or set(found) == set(paths))


def test_nothing_is_in_doubt_of_a_profile_without_mistakes():
    profile, problems = parse(f"{MINIMAL}[ema]\nexport = 'both'\n", "p")
    assert profile is not None and certain(contradictions, profile) == problems != []


@pytest.mark.parametrize("path", [path for path, field in form_fields().items() if not field.required])
def test_every_setting_can_be_in_doubt(path: str):
    """Whatever value stands in for it, the others can still be looked at; and what does not rest on it stays."""
    profile, _ = parse(f"{MINIMAL}[save]\nevery = 5000\n", "p")
    assert profile is not None
    tried = []

    def find(other):
        tried.append(other)
        return contradictions(other)

    found = [problem.path for problem in certain(find, profile, [Problem(path, "is wrong", "")])]
    assert found == (["save.every"] if path not in ("save.every", "train.steps") else [])
    kind = form_fields()[path].kind
    if kind in ("choice", "switch", "integer", "number", "points", "table", "texts"):
        assert len({msgspec.json.encode(other) for other in tried}) > 1
