import io
from pathlib import Path

import msgspec
import pytest

from aozora_tui import plain, terminal, text
from engine.contract import events
from engine.contract.budget import Forecast

STARTED = events.Started(
    protocol=1,
    run="demo-1",
    token="t",
    step=0,
    steps=48,
    accumulate=4,
    batch_size=1,
    plan="plain",
    parameters_trained=2_270_000_000,
    parameters_total=2_567_463_684,
    device="cuda:0",
)


def lines(*told):
    view, said = plain.View(run="demo-1", folder=Path("/r")), []
    for event in told:
        view, new = plain.fold(view, event)
        said += new
    return said


def step(number, seconds=0.21, clipped=False):
    return events.Step(
        step=number,
        loss=0.41321,
        lr=8e-4,
        grad_norm=0.6123,
        clipped=clipped,
        seconds=seconds,
        samples_per_second=4.8,
        memory_peak=0,
        memory_reserved=0,
    )


def test_a_start_says_what_will_be_trained():
    assert lines(STARTED) == [
        "demo-1 started: 48 steps, 4 x 1 pictures a step, 2.27 B of 2.57 B parameters, plan plain, on cuda:0"
    ]


def test_a_resume_names_the_step_it_goes_on_from():
    resumed = events.Started(**{name: getattr(STARTED, name) for name in STARTED.__struct_fields__} | {"step": 24})
    assert lines(resumed)[0].startswith("demo-1 resumed after step 24 of 48, ")


def test_a_step_is_one_line_with_its_numbers():
    # 36 steps x 4 micro-batches x 0.21 s = 30.24 s
    assert lines(STARTED, step(12))[1] == (
        "step 12/48  loss 0.4132  lr 8.0e-04  grad 0.61  0.21 s/micro-batch  4.8 samples/s  ETA 30 s"
    )


def test_the_last_step_has_no_eta_and_a_clipped_one_says_so():
    assert lines(STARTED, step(48, clipped=True))[1] == (
        "step 48/48  loss 0.4132  lr 8.0e-04  grad 0.61 clipped  0.21 s/micro-batch  4.8 samples/s"
    )


def test_one_slow_step_moves_the_eta_by_a_tenth_of_its_weight():
    # 0.9 x 1 s + 0.1 x 11 s = 2 s a micro-batch; 46 steps x 4 x 2 s = 6:08
    assert lines(STARTED, step(1, seconds=1.0), step(2, seconds=11.0))[2].endswith("ETA 6:08")


def test_progress_is_told_at_every_tenth_and_at_the_end():
    told = [events.Progress(phase="cache", done=n, total=200, unit="pictures", rate=4.0) for n in range(1, 201)]
    said = lines(events.Phase(name="cache"), *told)
    assert said[0] == "encoding pictures and captions"
    assert said[1] == "  cache 1/200 pictures  4 pictures/s"
    assert [line.split()[1] for line in said[2:]] == [f"{n}/200" for n in range(20, 201, 20)]


def test_progress_starts_anew_with_every_phase_and_bears_an_empty_one():
    done = events.Progress(phase="scan", done=3, total=3, unit="files")
    empty = events.Progress(phase="scan", done=0, total=0, unit="files")
    said = lines(events.Phase(name="scan"), done, events.Phase(name="later kind", step=4), done, empty)
    assert said == [
        "looking through the pictures",
        "  scan 3/3 files",
        "later kind, step 4",
        "  scan 3/3 files",
    ]


def test_everything_else_is_one_plain_line():
    assert lines(
        events.Micro(step=1, micro=2, loss=0.5, seconds=1.0),
        events.Saved(kind="checkpoint", step=24, path="checkpoints/step-000024", bytes=6_940_000_000, seconds=3.14),
        events.Sampled(step=24, path="samples/a.png", prompt="a cat", settings={}),
        events.Validated(step=24, loss=0.12345, pictures=1, samples=4, seconds=71.0),
        events.Validated(step=25, loss=0.1, pictures=16, samples=64, seconds=3.0),
        events.Skipped(step=25, reason="the loss is not finite", names=("a.png", "b.png")),
        events.Paused(step=25),
        events.Unpaused(step=25),
        events.Refused(command="save", text="nothing has been trained yet"),
        events.Warned(code="x", text="The disk is slow", remedy="Use another."),
    ) == [
        "checkpoint of step 24: /r/checkpoints/step-000024 (6.94 GB in 3.1 s)",
        "preview of step 24: /r/samples/a.png",
        "validation loss 0.1235 after step 24 (on 1 held-out picture, in 1:11)",
        "validation loss 0.1000 after step 25 (on 16 held-out pictures, in 3 s)",
        "step 25 skipped: the loss is not finite (a.png, b.png); nothing was changed",
        "paused after step 25: `aozora-tui resume demo-1` lets it go on",
        "goes on after step 25",
        "save was refused: nothing has been trained yet.",
        "warning: The disk is slow. Use another.",
    ]


def test_a_failure_says_what_where_and_what_to_do():
    failed = events.Failed(code="oom", text="no memory", remedy="Use less.", where="step 3")
    assert lines(failed) == ["failed: no memory.", "  where: step 3", "  Use less."]


def test_the_end_names_the_exported_file():
    end = events.Finished(step=48, reason="finished", seconds=3700.2, export="exports/a.safetensors")
    assert lines(end) == ["finished at step 48 after 1:01:40", "export: /r/exports/a.safetensors"]


def test_a_stop_names_the_way_back_and_no_return_to_training():
    told = [
        events.Phase(name="train", step=0),
        step(3),
        events.Phase(name="save", step=3),
        events.Saved(kind="checkpoint", step=3, path="c", bytes=1000, seconds=0.1),
        events.Phase(name="train", step=3),
    ]
    said = lines(*told, events.Finished(step=3, reason="stopped", seconds=75))
    assert said[0] == "training, step 0"
    assert said[2:] == [
        "saving a checkpoint, step 3",
        "checkpoint of step 3: /r/c (1 kB in 0.1 s)",
        "stopped at step 3 after 1:15: `aozora-tui resume demo-1` goes on from there",
    ]
    going_on = lines(*told, step(4), events.Micro(step=5, micro=1, loss=0.1, seconds=1.0))
    assert going_on[4] == "training, step 3" and going_on[5].startswith("step 4") and len(going_on) == 6


def test_rates_are_plain_numbers_and_left_out_where_there_is_none():
    told = [events.Progress(phase="scan", done=n, total=2, unit="pictures", rate=r) for n, r in ((1, 3180.4), (2, 0.0))]
    assert lines(*told) == ["  scan 1/2 pictures  3,180 pictures/s", "  scan 2/2 pictures"]


def test_names_of_files_cannot_steer_the_terminal():
    bad = events.Skipped(step=1, reason="nan", names=("\x1b]0;owned\x07\n.png", "猫.png"))
    assert lines(bad) == ["step 1 skipped: nan (\\x1b]0;owned\\x07\\n.png, 猫.png); nothing was changed"]


def test_sizes_are_short():
    assert [text.size(n) for n in (12, 1000, 812_000, 6_938_000_000)] == ["12 bytes", "1 kB", "812 kB", "6.94 GB"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.6, "1:00"), (3599.6, "1:00:00"), (187, "3:07"), (3731, "1:02:11"), (184200, "2 d 03:10")],
)
def test_durations_read_like_a_watch(seconds, said):
    assert text.duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(3, "now"), (200, "3 min"), (18000, "5 h"), (1e6, "11 d")])
def test_ages_are_coarse(seconds, said):
    assert text.age(seconds) == said


def test_a_forecast_adds_its_parts():
    gib = 1 << 30
    cost = Forecast(
        trained=500,
        total=1000,
        weights=5 * gib,
        gradients=gib,
        optimizer=gib // 2,
        activations=gib // 2,
        overhead=gib,
        host=2 * gib,
        checkpoint=10**9,
        export=7 * 10**9,
        disk=9 * 10**9,
    )
    assert plain.forecast(cost) == [
        "trains         500 of 1.00 K parameters (50.0 %)",
        "device memory  8.00 GiB (weights 5.00, gradients 1.00, optimizer 0.50, activations 0.50, overhead 1.00)",
        "host memory    2.00 GiB",
        "disk           9 GB (checkpoint 1 GB, export 7 GB)",
    ]


def test_long_lines_are_folded_between_words_for_a_terminal_only(monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "40")
    line = "  warning: /models/a-long-name.safetensors differs by 0.12 % from what was said before"
    assert terminal.fitted(line, io.StringIO(), indent="    ") == [line]
    folded = terminal.fitted(line, Stream(), indent="    ")
    assert len(folded) > 1 and all(len(part) <= 40 for part in folded)
    assert " ".join(" ".join(folded).split()) == " ".join(line.split()) and any("0.12 %" in part for part in folded)


def test_what_steers_and_damps_is_one_line_each():
    assert lines(
        events.Damped(step=9, loss=0.5, limit=0.25, factor=0.5),
        events.Steered(step=12, factor=0.5),
        events.Steered(step=20, factor=1.0),
    ) == [
        "step 9 damped: loss 0.5000 is above 0.2500, so its gradient counts x 0.5",
        "learning rate x 0.5 from step 13 on",
        "learning rate as scheduled again from step 21 on",
    ]


def test_a_step_says_how_much_it_changed():
    told = msgspec.structs.replace(step(48), updates={"unet": 1.2e-5, "text_encoder_2": 3e-6})
    assert lines(STARTED, told)[1].endswith("  update/weight UNet 1.2e-05, text encoder 2 3.0e-06")


@pytest.mark.parametrize(("number", "said"), [(0.5, "0.5"), (1e-5, "1e-5"), (2.0, "2"), (0.1 + 0.2, "0.3"), (0, "0")])
def test_factors_are_written_as_a_person_writes_them(number, said):
    assert text.factor(number) == said


@pytest.mark.parametrize("wrong", ["", "-0.1", "1001", "nan", "inf", "half"])
def test_what_is_no_factor_is_refused_with_the_range(wrong):
    with pytest.raises(ValueError, match=r"is not a number from 0 to 1,000, as 0\.5"):
        text.read_factor(wrong)


@pytest.mark.parametrize("written", ["0,5", " 1,000", ",5"])
def test_a_comma_is_named_rather_than_guessed(written):
    with pytest.raises(ValueError, match=r"has a comma: write a point, as 0\.5"):
        text.read_factor(written)


def test_two_exports_are_told_apart_and_both_named_at_the_end():
    first, second = "exports/a.safetensors", "exports/a-ema.safetensors"
    told = [
        item
        for path in (first, second)
        for item in (
            events.Phase(name="export", step=48),
            events.Saved(kind="export", step=48, path=path, bytes=1000, seconds=0.1),
        )
    ]
    said = lines(STARTED, *told, events.Finished(step=48, reason="finished", seconds=5, export=second))
    assert [said[1], said[3]] == ["writing the export, step 48", "writing the second export, step 48"]
    assert said[-2:] == [f"export: /r/{first}", f"export: /r/{second}"]
