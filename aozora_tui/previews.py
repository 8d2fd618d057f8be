"""The pictures that a run has drawn while it trains: which there are, by prompt, step and weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract.events import Sampled

_NAME = re.compile(r"step-\d+-(\d+)(?:-\w+)?\.png")
# In the order in which they stand side by side.
WEIGHTS = ("latest", "average", "")


@dataclass(frozen=True)
class Preview:
    """One picture. `weights` are those that drew it, "" where the run does not say. `path` is None where the run names
    one outside its folder. `time` tells a picture from one that is drawn again later."""

    step: int
    prompt: str
    number: int
    weights: str
    path: Path | None
    time: float
    settings: Mapping[str, Any] = field(hash=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, square where the run does not say."""
        return self.said_size or (1024, 1024)

    @property
    def said_size(self) -> tuple[int, int] | None:
        width, height = (self.settings.get(name) for name in ("width", "height"))
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
        return None


@dataclass(frozen=True)
class Prompt:
    """`number` as in the file names, from 1 on; 0 where they do not have it. The same number has the same noise."""

    number: int
    text: str


@dataclass(frozen=True)
class Previews:
    """`weights`: those that drew any but the untouched model."""

    prompts: tuple[Prompt, ...] = ()
    steps: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()
    drawn: Mapping[tuple[Prompt, int, str], Preview] = field(default_factory=dict)

    def at(self, prompt: Prompt, step: int, weights: str) -> Preview | None:
        """By those weights, or by others where these have drawn nothing."""
        order = (weights, *(each for each in WEIGHTS if each != weights))
        return next((found for each in order if (found := self.drawn.get((prompt, step, each)))), None)

    def base(self, prompt: Prompt) -> Preview | None:
        """By the model before its first step."""
        return self.at(prompt, 0, "")

    def all_at(self, prompt: Prompt, step: int) -> tuple[Preview, ...]:
        """By all the weights that drew it at that step."""
        return tuple(found for each in WEIGHTS if (found := self.drawn.get((prompt, step, each))))


def previews(sampled: Iterable[Sampled], folder: Path) -> Previews:
    """Of a run's events, its `folder` with them. A picture that was drawn again replaces the one before."""
    drawn: dict[tuple[Prompt, int, str], Preview] = {}
    for event in sampled:
        found = _preview(event, folder)
        drawn[Prompt(found.number, found.prompt), found.step, found.weights] = found
    prompts = sorted({prompt for prompt, _, _ in drawn}, key=lambda prompt: (prompt.number, prompt.text))
    steps = sorted({step for _, step, _ in drawn})
    present = {weights for _, step, weights in drawn if step}
    return Previews(tuple(prompts), tuple(steps), tuple(each for each in WEIGHTS if each in present), drawn)


def _preview(event: Sampled, folder: Path) -> Preview:
    name = _NAME.fullmatch(Path(event.path).name)
    weights = event.settings.get("weights")
    return Preview(
        step=event.step,
        prompt=event.prompt,
        number=int(name[1]) if name else 0,
        weights=weights if weights in WEIGHTS else "",
        path=_inside(folder, event.path),
        time=event.time,
        settings=event.settings,
    )


def _inside(folder: Path, path: str) -> Path | None:
    """A run that came from elsewhere names no files of this machine."""
    given = Path(path)
    return None if given.is_absolute() or ".." in given.parts or "\0" in path else folder / given


def settings_words(preview: Preview) -> tuple[str, ...]:
    """How it was drawn, each part whole; what the run does not say is left out."""
    given, parts = preview.settings, []
    if "seed" in given:
        parts.append(f"seed {given['seed']}")
    if "sampler_steps" in given:
        parts.append(f"{given.get('sampler', '')} {given['sampler_steps']} sampler steps".strip())
    if "guidance" in given:
        parts.append(f"guidance {given['guidance']:g}" if isinstance(given["guidance"], float | int) else "")
    if size := preview.said_size:
        parts.append(f"{size[0]}x{size[1]}")
    if preview.step and preview.weights:
        parts.append(f"{preview.weights} weights")
    return tuple(part for part in parts if part)
