"""Runs side by side, as numbers: curves over three axes, how they ended, what their profiles differ in, the command."""

import json
import math
import random
import statistics
from pathlib import Path
from types import SimpleNamespace

import fake_run
import msgspec
import pytest

from aozora_tui import cli, compared_runs, metrics
from aozora_tui.averages import LowestAverage
from aozora_tui.compared_finals import differing, final, in_words, no_setting_differs, other_losses, rows, shared
from aozora_tui.compared_runs import ComparedRun, labels
from engine.contract import events, places
from engine.contract.rundir import RunDir

PROFILE = '[model]\nbase = "/m/base.safetensors"\n[[data.folders]]\npath = "/p"\n'


def loaded(*runs):
    found = [ComparedRun(run, place) for place, run in enumerate(runs)]
    for each in found:
        each.load()
        each.loaded = True
    return found


def metric(name):
    return next(each for each in metrics.METRICS if each.name == name)


def trained(folder, name, upto, *, profile=PROFILE, **options):
    run = fake_run.make(folder, name)
    fake_run.trained(run, upto, **options)
    run.profile.write_text(profile)
    return run


def random_run(folder, seed):
    """Starts, pauses and resumes that void what came after them; losses and speeds that are no numbers now and then."""
    chance = random.Random(seed)
    run = fake_run.make(folder, f"r{seed}-20231114-2213{seed:02}")
    accumulate, batch = chance.choice((1, 4, 64)), chance.choice((1, 2))
    at, step = fake_run.START, 0
    for _ in range(chance.randint(1, 4)):
        at += chance.uniform(10, 5000)
        start = fake_run.started(run, step=step, at=at)
        fake_run.add(run, msgspec.structs.replace(start, accumulate=accumulate, batch_size=batch))
        for _ in range(chance.randint(0, 120)):
            step += 1
            at += chance.uniform(0.1, 30)
            told = fake_run.step(step, at=at, loss=chance.uniform(0.01, 2))
            fake_run.add(run, told)
        step = chance.randint(0, step)
    return run


def independently(run):
    """Step, hours and samples of every point that counts, with its loss: from the lines, by json alone."""
    points, last_elapsed, began, per_step = [], 0.0, 0.0, 1
    for line in run.events.read_text().splitlines():
        told = json.loads(line)
        if told["event"] == "started":
            points = [point for point in points if point[0] <= told["step"]]
            last_elapsed = points[-1][1] if points else 0.0
            began, per_step = told["time"] - last_elapsed, told["accumulate"] * told["batch_size"]
        elif told["event"] == "step":
            points.append((told["step"], told["time"] - began, told["loss"]))
    return [(step, elapsed / 3600, step * per_step, loss) for step, elapsed, loss in points]


@pytest.mark.parametrize("seed", range(12))
def test_a_curve_over_each_axis_is_what_the_lines_say(tmp_path, seed):
    run = random_run(tmp_path, seed)
    (compared,) = loaded(run)
    expected = independently(run)
    for axis, at in (("step", 0), ("hours", 1), ("samples", 2)):
        curve = compared_runs.series(compared, metric("loss"), axis, "run-0")
        assert list(curve.xs) == pytest.approx([point[at] for point in expected])
        assert list(curve.ys) == pytest.approx([point[3] for point in expected], rel=1e-6)


def test_the_lowest_average_is_the_lowest_of_the_debiased_averages():
    chance = random.Random(5)
    values = [chance.uniform(0.1, 1) if number % 9 else math.nan for number in range(400)]
    steps = list(range(1, 401))
    found = LowestAverage()
    for end in (0, 7, 50, 51, 400):
        found.extend(steps[:end], values[:end], 0)
    finite = [(step, value) for step, value in zip(steps, values, strict=True) if value == value]
    averages = []
    for count in range(33, len(finite) + 1):
        weights = [0.97 ** (count - 1 - index) for index in range(count)]
        mean = sum(w * value for w, (_, value) in zip(weights, finite[:count], strict=True)) / sum(weights)
        averages.append((mean, finite[count - 1][0]))
    assert (found.value, found.step) == (pytest.approx(min(averages)[0]), min(averages)[1])


def test_an_average_begins_anew_after_a_resume_from_an_earlier_step():
    found, again = LowestAverage(), LowestAverage()
    found.extend(range(1, 101), [0.001] * 100, 0)
    steps, values = [*range(1, 41), *range(41, 90)], [0.5] * 40 + [0.4] * 49
    found.extend(steps, values, 1)
    again.extend(steps, values, 1)
    assert found.value == again.value > 0.1
    shorter = LowestAverage()
    shorter.extend([1, 2], [1.0, 1.0], 0)
    assert shorter.value is None


def test_what_a_resume_made_void_is_no_lowest_average(tmp_path):
    """Also where the void steps and the new ones arrive together, and end where the void ones did."""
    run = fake_run.make(tmp_path, "res-20231114-221320")
    at = fake_run.START + 40
    told = [fake_run.started(run), events.Phase(time=at, name="train", step=0)]
    told += [fake_run.step(n, at=at + n, loss=0.5 if n <= 50 else 0.01) for n in range(1, 201)]
    fake_run.add(run, *told)
    compared = ComparedRun(run, 0)
    compared.load()
    assert compared.lowest.value < 0.1
    again = [fake_run.started(run, step=50, at=at + 300), events.Phase(time=at + 300, name="train", step=50)]
    fake_run.add(run, *again, *(fake_run.step(n, at=at + 300 + n, loss=0.4) for n in range(51, 201)))
    compared.follow()
    assert compared.lowest.value >= 0.4


def test_runs_of_different_length_are_measured_where_both_have_been(tmp_path):
    long, short = trained(tmp_path, "long", 400), trained(tmp_path, "short", 150)
    compared = loaded(long, short)
    upto = shared(compared)
    assert (upto.unit, upto.amount) == ("step", 150)
    first, second = (final(each, "x", upto) for each in compared)
    losses = [fake_run.step(number, at=0.0).loss for number in range(51, 151)]
    assert first.loss_shared == second.loss_shared == pytest.approx(statistics.median(losses), rel=1e-6)
    assert first.loss_median < first.loss_shared and second.loss_median == second.loss_shared
    said = {row.label: row for row in rows([first, second], upto)}
    assert said["loss, last 100"].best == (0,) and said["loss, step 150"].best == ()


def test_the_lowest_loss_on_held_out_pictures_is_in_the_table(tmp_path):
    first, second = (trained(tmp_path, f"{name}-20231114-221320", 120) for name in ("cat", "dog"))
    for run, losses in ((first, (0.13, 0.11, 0.12)), (second, (0.14, 0.125))):
        for number, loss in enumerate(losses):
            told = {"step": 40 * number, "loss": loss, "pictures": 2, "samples": 8, "seconds": 1}
            fake_run.add(run, events.Validated(time=fake_run.START + 9000 + number, **told))
    compared = loaded(first, second)
    upto = shared(compared)
    finals = [final(each, each.run.name, upto) for each in compared]
    (row,) = [row for row in rows(finals, upto) if row.label == "best validation"]
    assert row.cells == ("0.1100 at 40", "0.1250 at 40") and row.best == (0,)


def test_steps_of_unequal_size_are_measured_at_equal_samples(tmp_path):
    plain, double = trained(tmp_path, "plain", 300), fake_run.make(tmp_path, "double")
    fake_run.add(double, msgspec.structs.replace(fake_run.started(double), batch_size=2))
    fake_run.add(double, *(fake_run.step(number, at=fake_run.START + 50 * number) for number in range(1, 121)))
    compared = loaded(plain, double)
    upto = shared(compared)
    assert (upto.unit, upto.amount) == ("samples", 120 * 128)
    first = final(compared[0], "x", upto)
    losses = [fake_run.step(number, at=0.0).loss for number in range(141, 241)]
    assert first.loss_shared == pytest.approx(statistics.median(losses), rel=1e-6)


def test_settings_differ_if_they_mean_something_else(tmp_path):
    first = trained(tmp_path / "a", "one", 3, profile=PROFILE + "[train]\nsteps = 500\naccumulate = 8\n")
    second = trained(tmp_path / "b", "two", 3, profile=PROFILE + "[train]\naccumulate = 16\nsteps = 500\n")
    third = trained(tmp_path / "c", "three", 3)
    third.profile.unlink()
    found = differing(loaded(first, second, third))
    assert [(setting.path, setting.values) for setting in found] == [("train.accumulate", (8, 16, None))]
    assert other_losses(found) == ""


def test_losses_of_other_objectives_are_said_to_be_no_measure(tmp_path):
    first = trained(tmp_path, "one", 3)
    second = trained(tmp_path, "two", 3, profile=PROFILE + '[objective]\nprediction_type = "epsilon"\n')
    found = differing(loaded(first, second))
    assert other_losses(found).startswith("Their losses measure different things: prediction")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (True, "on"),
        (1e-5, "1e-5"),
        (["a", "b"], "a, b"),
        ([[0.0, 1.0], [1.0, 0.5]], "0 1, 1 0.5"),
        ([{"path": "/p", "repeats": 3}, {"path": "/q"}], "3 x /p, 1 x /q"),
        ({"mid_block": 0.5}, "mid_block = 0.5"),
        ("two\nlines", "two lines"),
    ],
)
def test_values_stand_in_one_line(value, said):
    assert in_words(value) == said


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = ["a/runs/cat", "b/runs/cat", "b/runs/dog"]
    assert labels([RunDir(tmp_path / path) for path in paths]) == ["a/runs/cat", "b/runs/cat", "dog"]


def test_the_loss_of_each_sample_is_not_kept(tmp_path):
    run = fake_run.make(tmp_path, "many")
    fake_run.trained(run, 50, samples=True)
    fake_run.add(run, fake_run.started(run, step=20, at=fake_run.START + 9000))
    (compared,) = loaded(run)
    assert len(compared.state.history.steps) == 20 and not len(compared.state.history.samples.losses)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(own_place):
    first = trained(places.runs_folder(), "cat-20231114-221320", 200, profile=PROFILE + "[train]\naccumulate = 8\n")
    second = trained(own_place / "elsewhere", "cat-20231114-221320", 120)
    at = fake_run.START + 6000
    fake_run.add(first, events.Finished(time=at, step=200, reason="finished", seconds=5200))
    return first, second


def test_the_table_of_the_command_has_the_finals_and_the_settings(two, capsys):
    assert cli.main(["compare", "cat", str(two[1].path), "--plain"]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["RUN"].split() == ["RUN", "runs/cat-20231114-221320", "elsewhere/cat-20231114-221320"]
    assert lines["state"].split() == ["state", "finished", "crashed"]
    assert lines["steps"].split("  ")[-1].strip() == "120 of 1,000"
    assert lines["Accumulation"].split()[-2:] == ["8", "16"]
    assert "loss, step 120" in lines


def test_the_json_of_the_command_is_for_scripts(two, capsys):
    assert cli.main(["compare", "cat", str(two[1].path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in said["runs"]] == ["finished", "crashed"]
    assert [run["folder"] for run in said["runs"]] == [str(run.path) for run in two]
    assert said["shared"] == {"unit": "step", "amount": 120}
    assert said["settings"] == [{"path": "train.accumulate", "label": "Accumulation", "values": [8, 16]}]
    assert said["losses_differ_in"] == [] and said["profiles_read"] == [True, True]


def test_a_run_named_twice_is_one(two, capsys):
    assert cli.main(["compare", "cat", str(two[0].path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1


def test_what_is_no_run_is_refused_in_words(two, own_place, capsys):
    folder = own_place / "pictures"
    folder.mkdir()
    (folder / "a.png").touch()
    for name, said in (
        (str(folder), "is no run: it has no events.jsonl"),
        (str(folder / "a.png"), "is not a run folder"),
    ):
        assert cli.main(["compare", "cat", name, "--plain"]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["compare", "dog", "--plain"]) == 2
    assert "no run called dog" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_is_said_and_the_others_are_there(two, own_place, capsys):
    broken = fake_run.make(own_place, "broken")
    broken.events.mkdir()
    assert cli.main(["compare", "cat", str(broken.path), "--plain"]) == 1
    told = capsys.readouterr()
    assert "events.jsonl is a folder" in told.err and "200 of 1,000" in told.out


def test_too_many_runs_are_refused(own_place, capsys):
    names = [str(trained(places.runs_folder(), f"r{number}", 1).path) for number in range(9)]
    assert cli.main(["compare", *names, "--plain"]) == 2
    assert "9 runs are too many" in capsys.readouterr().err


def test_a_name_with_control_characters_reaches_no_terminal(own_place, capsys):
    run = trained(places.runs_folder(), "evil\x1b[2J", 2)
    assert cli.main(["compare", str(run.path), "--plain"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_damaged_lines_are_counted(tmp_path):
    run = trained(tmp_path, "torn", 5)
    with run.events.open("ab") as file:
        file.write(b'\x00\xff garbage\n{"event":"step",\n')
    fake_run.add(run, fake_run.step(6, at=fake_run.START + 500))
    (compared,) = loaded(run)
    assert len(compared.state.history.steps) == 6
    assert compared.trouble == "2 lines of its events cannot be read and are left out"


def test_a_profile_of_another_kind_is_no_profile(tmp_path):
    run = trained(tmp_path, "odd", 2)
    for text in (b"\xff\xfe\x00", b"[[[", b"x" * (2 << 20)):
        run.profile.write_bytes(text)
        assert loaded(run)[0].profile is None
    run.profile.unlink()
    Path(run.profile).mkdir()
    assert loaded(run)[0].profile is None


def test_without_two_profiles_nobody_knows_whether_settings_differ():
    def one(profile):
        return SimpleNamespace(profile=profile)

    assert no_setting_differs([one({}), one({})]) == "no setting differs"
    assert "not known" in no_setting_differs([one({}), one(None)]) and no_setting_differs([one({})]) == ""
