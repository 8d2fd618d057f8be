"""What the gallery shows: runs in several states, a profile with its pictures, settings. All of it is made up."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path

import fake_checkpoint
import fake_run
import sample_runs
from msgspec import structs

from aozora_tui import run_notes, settings
from engine.contract import events, places
from engine.contract.atomic import Entry, header_bytes
from engine.contract.rundir import RunDir

PROFILE = """\
# Portraits, third try: the two middle levels only.
[model]
base = "BASE"
tokenizer = "TOKENIZER"

[[data.folders]]
path = "PICTURES"
repeats = 2

[objective]
prediction_type = "v_prediction"

[train]
steps = 12000
accumulate = 64

[layers]
train = ["down_blocks.1.*", "up_blocks.1.*"]

[save]
export = false
"""


def own_settings() -> settings.Settings:
    """A few that were set, and one that is wrong."""
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('[look]\ntick = 2\nglyphs = "asci"\n[keys]\n"run.log" = "f4"\n')
    return settings.read(os.environ).with_keys()


def write_runs() -> tuple[RunDir, float]:
    """Four runs in four states; the live one, and the time it is."""
    folder = places.runs_folder()
    live = fake_run.make(folder, "portraits-20231114-221320")
    now = fake_run.trained(live, 412, samples=True)
    _tell_of_the_box(live, now)
    fake_run.add(live, events.Steered(time=now + 1, step=412, factor=0.5))
    fake_run.add(live, events.Damped(time=now + 4, step=413, loss=0.1824, limit=0.1219, factor=0.6683))
    fake_run.add(live, events.Micro(time=now + 5, step=413, micro=23, loss=0.1, seconds=0.41))
    live.log.write_text(
        "Loading weights:  10%\rLoading weights: 100%\nUserWarning: a picture has no caption: 0412.png\n"
    )
    demo = fake_run.make(folder, "demo-20231113-101010")
    at = fake_run.trained(demo, 48, steps=48, pace=1.0, device="CPU (8 threads)")
    fake_run.add(
        demo, events.Finished(time=at, step=48, reason="finished", seconds=61, export="exports/demo.safetensors")
    )
    landscapes = fake_run.make(folder, "landscapes-20231110-190502")
    at = fake_run.trained(landscapes, 309, steps=2000, previews=False)
    sample_runs.draw_all(landscapes)
    fake_run.add(landscapes, fake_run.step(310, at=at + 26, steps=2000))
    failed = fake_run.make(folder, "landscapes-20231109-081233")
    at = fake_run.trained(failed, 31, steps=2000)
    text = "The card ran out of memory at step 32: 11.6 of 11.8 GiB were in use"
    remedy = "Lower data.resolution or train.batch_size, or turn on memory.checkpointing."
    fake_run.add(failed, events.Failed(time=at, code="cuda-memory", text=text, remedy=remedy))
    _note_on(live, demo)
    return live, now + 7


def _note_on(live: RunDir, demo: RunDir) -> None:
    """Checkpoints whose weight hides what the name of this machine takes in the other files."""
    for step in ("step-000300", "step-000400"):
        (live.checkpoints / step).mkdir()
        with (live.checkpoints / step / "weights.safetensors").open("wb") as file:
            file.truncate(9_130_000_000)
    run_notes.change(live, add=("v2", "blue-eyes"), note="the third try: half the rate from step 413 on")
    run_notes.change(demo, add=("kept",))


def write_compared(live: RunDir) -> tuple[RunDir, ...]:
    """The live run and two that tried other settings."""
    tries = {
        "portraits-20231112-090000": ("learning_rate = 2e-5", 1000, 0.94, 24.0),
        "portraits-20231113-174211": ("learning_rate = 5e-6", 640, 1.06, 27.0),
    }
    told = PROFILE.replace('"BASE"', '"/data/base.safetensors"').replace('"TOKENIZER"', '"/data/tokenizer"')
    told = told.replace('"PICTURES"', '"/data/portraits"')
    made = []
    for name, (line, upto, factor, pace) in tries.items():
        run = fake_run.make(live.path.parent, name)
        fake_run.add(run, fake_run.started(run, at=fake_run.START + 40))
        for number in range(1, upto + 1):
            step = fake_run.step(number + 9 * upto % 40, at=fake_run.START + 40 + pace * number)
            fake_run.add(run, structs.replace(step, step=number, loss=step.loss * factor))
        made.append(run)
        run.profile.write_text(told.replace("[save]", f"[optimizer]\n{line}\n\n[save]"))
    at = fake_run.START + 24041
    fake_run.add(made[0], events.Finished(time=at, step=1000, reason="finished", seconds=24000))
    fake_run.add(made[1], events.Finished(time=at, step=640, reason="stopped", seconds=17280))
    live.profile.write_text(told.replace("accumulate = 64", "accumulate = 32"))
    return (live, *made)


def _tell_of_the_box(run: RunDir, now: float) -> None:
    gib = 1 << 30
    planned = events.Planned(
        time=now,
        plan="fast",
        checkpointing=True,
        keep=60,
        group=1,
        why="",
        host=10 * gib,
        needs=11 * gib,
        room=12 * gib,
    )
    planned = structs.replace(planned, step_seconds=27.0, rates="measured")
    box = events.Machine(
        time=now - 7200,
        card="GPU-1",
        card_used=11 * gib + gib // 3,
        card_total=12 * gib,
        utilisation=97,
        power=182.0,
        power_limit=200.0,
        temperature=71,
        run_memory=14 * gib,
        host_used=21 * gib,
        host_total=64 * gib,
        disk_free=310 * gib,
    )
    later = structs.replace(box, time=now, disk_free=292 * gib)
    fake_run.add(run, planned, events.Epoch(time=now, samples=1236, micro_batches=1236), box, later)


def write_profile(path: Path, *, small: bool) -> None:
    """With a `small` base there is little to read for the cache's keys, and nothing to train."""
    recipes = places.data_folder() / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    for name in ("demo", "whole-unet"):
        (recipes / f"{name}.toml").write_text(PROFILE.replace("12000", "48" if name == "demo" else "20000"))
    base = (_small_base if small else fake_checkpoint.write)(places.data_folder() / "models" / "base.safetensors")
    tokenizer = fake_checkpoint.write_tokenizer(base.parent / "tokenizer")
    pictures = places.data_folder() / "pictures"
    _pictures(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Relative: where a test's folders are is another name each time.
    base, tokenizer, pictures = (os.path.relpath(each, path.parent) for each in (base, tokenizer, pictures))
    text = PROFILE.replace("BASE", base).replace("TOKENIZER", tokenizer)
    path.write_text(text.replace("PICTURES", pictures))


def _small_base(path: Path) -> Path:
    names = ("first_stage_model.encoder.conv_in.weight", "conditioner.embedders.1.model.ln_final.weight")
    entries = [Entry(name, "F16", (40, 50), bytes) for name in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header_bytes(entries, {}) + bytes(sum(entry.nbytes for entry in entries)))
    return path


def _pictures(folder: Path) -> None:
    """Some as they should be, some not quite, some not at all."""
    sizes = {"sea": (1600, 1200), "hills": (900, 1400), "sky": (300, 60), "portrait": (1024, 1024)}
    for number in range(18):
        name = tuple(sizes)[number % len(sizes)]
        path = folder / name / f"{name} {number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_picture(sizes[name]))
        if number != 7:
            path.with_suffix(".txt").write_text(f"a {name} in the morning, soft light, calm, number {number}")
    (folder / "empty.jpg").touch()
    (folder / "sea" / "note.png").write_text("not yet here")


@cache
def _picture(size: tuple[int, int]) -> bytes:
    """Light above, dark below."""
    from PIL import Image

    light = Image.linear_gradient("L").rotate(180).resize(size)
    file = BytesIO()
    bands = light, light.point(lambda value: value * 3 // 4), light.point(lambda value: 255 - value // 2)
    Image.merge("RGB", bands).save(file, "png", compress_level=1)
    return file.getvalue()
