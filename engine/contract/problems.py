"""A problem as the person at the keyboard needs it: where, what, and what to do."""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

Severity = Literal["error", "warning"]


class Problem(Struct, frozen=True):
    """`path` is a profile field (`train.steps`) or a file; `remedy` is one imperative sentence."""

    path: str
    text: str
    remedy: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.path}: {self.text}. {self.remedy}" if self.remedy else f"{self.path}: {self.text}."


class ProfileError(ValueError):
    """A profile that cannot run; carries every problem found, not only the first."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(f"{source}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]
