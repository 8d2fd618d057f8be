"""A run with previews: pictures of a disc that grows with the steps, told in its events."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import fake_run

from engine.contract import events
from engine.contract.rundir import RunDir

PROMPTS = ("a lighthouse at dawn, oil on canvas", "a red bus in the rain")
STEPS = (0, 100, 200, 300)
SETTINGS = {
    "seed": 7,
    "sampler": "DDIM",
    "sampler_steps": 28,
    "guidance": 4.5,
    "width": 512,
    "height": 512,
    "negative": "blurry",
}


def draw(
    run: RunDir, step: int, number: int, *, prompt: str = "", weights: str = "", at: float = 0.0, **changed: Any
) -> Path:
    """Write one picture and its event, as the engine does."""
    suffix = "-latest" if weights == "latest" else ""
    path = run.samples / f"step-{step:06d}-{number}{suffix}.png"
    path.write_bytes(picture(step, number))
    tell(run, step, f"samples/{path.name}", prompt=prompt or PROMPTS[number - 1], weights=weights, at=at, **changed)
    return path


def tell(run: RunDir, step: int, path: str, *, prompt: str, weights: str = "", at: float = 0.0, **changed: Any) -> None:
    settings = {**SETTINGS, **({"weights": weights} if weights else {}), **changed}
    time = at or fake_run.START + 100 + step
    fake_run.add(run, events.Sampled(time=time, step=step, path=path, prompt=prompt, settings=settings))


def drawn(folder: Path, name: str = "lighthouse-20231114-221320", *, steps: tuple[int, ...] = STEPS) -> RunDir:
    """A run that drew both prompts at each of the steps."""
    run = fake_run.make(folder, name)
    fake_run.add(run, fake_run.started(run))
    draw_all(run, steps)
    return run


def draw_all(run: RunDir, steps: tuple[int, ...] = STEPS) -> None:
    for step in steps:
        for number in (1, 2):
            draw(run, step, number)


@cache
def picture(step: int, number: int) -> bytes:
    """Flat colours and straight edges, so that every version of Pillow scales it alike."""
    from PIL import Image, ImageDraw

    ground, figure = ((30, 60, 120), (250, 200, 90)) if number == 1 else ((70, 80, 70), (200, 30, 40))
    image = Image.new("RGB", (512, 512), ground)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 384, 511, 511), fill=tuple(level // 2 for level in ground))
    half = 32 + min(step // 100, 6) * 32
    draw.rectangle((256 - half, 384 - 2 * half if half < 192 else 0, 255 + half, 383), fill=figure)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
