"""Where a run's weights, gradients and activations live: the plan and its knobs, as chosen at the start."""

from dataclasses import dataclass, replace
from typing import Literal

from engine.contract.problems import Problem
from engine.contract.sections import Profile

LEAST_GROUP = 2  # with groups units are smaller: of two it needs less than without, and takes less time
PlanName = Literal["plain", "fast", "resident", "stage-major"]


@dataclass(frozen=True)
class Choice:
    """`checkpointing` counts in plain, `keep` (blocks) in fast, `group` (micro-batches) and `staying` (bytes of a
    step's activations that stay on the card between units) in stage-major."""

    plan: PlanName
    checkpointing: bool = True
    keep: int = 0
    group: int = 1
    staying: int = 0

    def __str__(self) -> str:
        match self.plan:
            case "plain":
                return "plain with checkpointing" if self.checkpointing else "plain without checkpointing"
            case "fast":
                return f"fast with keep = {self.keep}"
            case "stage-major":
                return f"stage-major with group = {self.group}"
            case _:
                return self.plan


PLAIN = Choice("plain")


def within(choice: Choice, accumulate: int) -> Choice:
    """No more micro-batches come together than a step has."""
    return replace(choice, group=min(choice.group, accumulate))


def too_many_kept(profile: Profile, blocks: int) -> Problem | None:
    """Also `fast` where nothing can be kept. `blocks`: how many transformer blocks the base has."""
    memory = profile.memory
    if memory.plan == "fast" and not blocks:
        text = 'is "fast", but the base has no transformer blocks that could keep their activations'
        return Problem("memory.plan", text, 'Write "resident", which is the same without them, or "auto".')
    if memory.plan != "fast" or memory.keep <= blocks:
        return None
    text = f"is {memory.keep}, but the base has {blocks} transformer blocks"
    return Problem("memory.keep", text, f"Write {blocks} at the most, or 0 for as many as fit.")


def as_written(profile: Profile) -> Choice:
    """Without a card that something has to fit: `auto` is plain; of what is left to the start, the least."""
    memory = profile.memory
    plan: PlanName = "plain" if memory.plan == "auto" else memory.plan
    keep = max(1, memory.keep) if plan == "fast" else 0
    group = (memory.group or LEAST_GROUP) if plan == "stage-major" else 1
    return within(Choice(plan, memory.checkpointing, keep, group), profile.train.accumulate)
