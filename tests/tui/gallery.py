"""The same screens for the snapshots and for the pictures in the documentation: fixed runs, fixed clock."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import fake_checkpoint
import fake_run
import seen
from textual.driver import Driver
from textual.pilot import Pilot

from aozora_tui.app import AozoraApp
from aozora_tui.gpu import Reading
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.profile import ProfileScreen
from engine.contract import events, places
from engine.contract.rundir import RunDir

SIZES = ((80, 24), (120, 40))
NAMES = (
    *("home", "recipes", "profile", "search", "differ", "layers", "curves", "start"),
    *("run", "failed", "finished", "log", "help", "stop", "rate"),
)
CARD = Reading(
    index=0,
    name="NVIDIA GeForce RTX 4070",
    uuid="GPU-1",
    driver_version="580.95",
    memory_used=11 << 30,
    memory_total=12 << 30,
    memory_free=1 << 30,
    run_memory=None,
    utilisation=97,
    power=182.0,
    power_limit=200.0,
    temperature=71,
)
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


@asynccontextmanager
async def shown(
    name: str, size: tuple[int, int], *, driver_class: type[Driver] | None = None
) -> AsyncIterator[Pilot[int]]:
    """The app showing the screen called `name`, with another driver if one is given.

    The AOZORA_ folders must be set, TZ too; all names in them are new.
    """
    live, now = _runs()
    with ExitStack() as stack:
        stack.enter_context(fake_run.engine_alive(live))
        app = AozoraApp(
            live if name in ("run", "log", "stop", "rate") else None,
            ticking=False,
            clock=lambda: now,
            read_gpu=lambda _pid: (CARD,),
            recipes=places.data_folder() / "recipes",
            driver_class=driver_class,
        )
        async with app.run_test(headless=driver_class is None, size=size) as pilot:
            await _settle(pilot)
            await _go(name, pilot)
            await _settle(pilot)
            yield pilot


async def _go(name: str, pilot: Pilot[int]) -> None:
    if name in ("profile", "layers", "search", "differ", "curves"):
        pilot.app.push_screen(ProfileScreen(ProfileFile.open(places.profiles_folder() / "portraits.toml")))
        await _settle(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ProfileScreen)
        screen.check_now()
        await seen.work_done(pilot.app)
        if name in ("profile", "layers"):
            screen.go_to("train.accumulate")
    if name == "layers":
        await pilot.press("f4")
        await seen.work_done(pilot.app)
        await _settle(pilot)
        await pilot.press(*["down"] * 4, "right", "space")
    keys = {
        "recipes": ("n",),
        "search": ("slash", *"memory"),
        "differ": ("v", "shift+tab"),
        "curves": ("c", "p", "right", "right"),
        "start": ("tab", "s"),
        "failed": ("end", "enter"),
        "finished": ("down", "enter"),
        "log": ("l",),
        "help": ("question_mark",),
        "stop": ("s",),
        "rate": ("f",),
    }
    for key in keys.get(name, ()):
        await pilot.press(key)
        await seen.work_done(pilot.app)


async def _settle(pilot: Pilot[int]) -> None:
    for _ in range(4):
        await pilot.pause()


def _runs() -> tuple[RunDir, float]:
    """Four runs in four states and a profile; the live one, and the time it is."""
    folder = places.runs_folder()
    live = fake_run.make(folder, "portraits-20231114-221320")
    now = fake_run.trained(live, 412)
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
    fake_run.trained(fake_run.make(folder, "landscapes-20231110-190502"), 310, steps=2000)
    failed = fake_run.make(folder, "landscapes-20231109-081233")
    at = fake_run.trained(failed, 31, steps=2000)
    text = "The card ran out of memory at step 32: 11.6 of 11.8 GiB were in use"
    remedy = "Lower data.resolution or train.batch_size, or turn on memory.checkpointing."
    fake_run.add(failed, events.Failed(time=at, code="cuda-memory", text=text, remedy=remedy))
    _profile(places.profiles_folder() / "portraits.toml")
    return live, now + 7


def _profile(path: Path) -> None:
    recipes = places.data_folder() / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    for name in ("demo", "whole-unet"):
        (recipes / f"{name}.toml").write_text(PROFILE.replace("12000", "48" if name == "demo" else "20000"))
    base = fake_checkpoint.write(places.data_folder() / "models" / "base.safetensors")
    tokenizer = fake_checkpoint.write_tokenizer(base.parent / "tokenizer")
    pictures = places.data_folder() / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "a.png").touch()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Relative: where a test's folders are is another name each time.
    base, tokenizer, pictures = (os.path.relpath(each, path.parent) for each in (base, tokenizer, pictures))
    text = PROFILE.replace("BASE", base).replace("TOKENIZER", tokenizer)
    path.write_text(text.replace("PICTURES", pictures))
