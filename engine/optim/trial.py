"""An imported optimizer is tried on tiny parameters before a run: what it refuses, and which argument is to blame."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor

from engine.contract.problems import Problem
from engine.optim.foreign_state import tensor_differs
from engine.optim.import_path import (
    ANOTHER,
    CORRECT,
    ImportedOptimizerError,
    default_of,
    first_line,
    look,
    wrong_argument,
    wrong_class,
)
from engine.optim.imported import Imported

# Steps before the resume, and after it: some packages touch their slow weights only at every tenth step.
BEFORE, AFTER = 12, 12
MATRIX = (2, 1.0)
# Words about Python's own types say nothing to who wrote a value into a profile.
_PYTHONS = re.compile(r"'(float|int|str|bool|list|tuple|NoneType)'")

Trial = Callable[[Mapping[str, object]], ImportedOptimizerError | None]


def check(
    path: str,
    arguments: Mapping[str, object],
    *,
    device: torch.device | None = None,
    tensors: Iterable[tuple[int, float]] = (MATRIX,),
    learning_rate: float = 1e-3,
) -> None:
    """A rehearsal, some steps, a save, a resume and further steps, on the CPU by default, of one tiny parameter for
    each of `tensors`: number of dimensions and factor on the learning rate of what will be trained; one whose factor is
    0 rests. Raises ImportedOptimizerError with everything that would end a run or change it. What says that it is not
    implemented for the CPU is judged no further than its construction."""
    found, wrong = look(path, arguments)
    problems = list(wrong.values())
    if wrong.keys() <= arguments.keys():  # else it lacks one that it needs, and nothing can be tried
        chosen = {f"tensor{at}": each for at, each in enumerate(sorted(set(tensors)))}
        trial = _Tiny(
            path,
            device or torch.device("cpu"),
            {name: Size([2] * dims) for name, (dims, _) in chosen.items()},
            {name: factor for name, (_, factor) in chosen.items()},
            learning_rate,
        )
        known = {name: value for name, value in arguments.items() if name not in wrong}
        problems += _refused(trial, found, known)
    if problems:
        raise ImportedOptimizerError(*problems)


@dataclass(frozen=True)
class _Tiny:
    path: str
    device: torch.device
    shapes: Mapping[str, Size]
    rates: Mapping[str, float]
    learning_rate: float

    def __call__(self, arguments: Mapping[str, object]) -> ImportedOptimizerError | None:
        """What is wrong with the class and these arguments, if anything."""
        try:
            first, second = self._made(arguments), self._made(arguments)
        except ImportedOptimizerError as error:
            return error
        try:
            self._told(first, second)
        except ImportedOptimizerError as error:
            elsewhere = self.device.type == "cpu" and isinstance(error.__cause__, NotImplementedError)
            return None if elsewhere else error
        return None

    def _made(self, arguments: Mapping[str, object]) -> Imported:
        rate = self.learning_rate
        return Imported(self.path, arguments, self.shapes, self.device, rates=self.rates, learning_rate=rate)

    def _told(self, first: Imported, second: Imported) -> None:
        try:
            self._try(first, second)
        except (torch.OutOfMemoryError, ImportedOptimizerError):
            raise
        except Exception as error:  # state in a shape that no one thought of
            raise wrong_class(f"{self.path} cannot be saved and resumed: {first_line(error)}") from error

    def _try(self, first: Imported, second: Imported) -> None:
        masters = {name: self._drawn(shape, 0) for name, shape in self.shapes.items()}
        first.rehearse("tensor0", masters["tensor0"])  # of which nothing may be left
        for step in range(BEFORE):
            masters = self._step(first, masters, step)
        saved = _copied(first.state_dict())
        second.load_state_dict(saved)
        with first.evaluating(masters.__getitem__):
            pass
        if _differ(saved, first.state_dict()):
            text = (
                f"{self.path} changes its state by its own train() and eval(), so that a preview would change the run"
            )
            raise wrong_class(text)
        others = masters
        for step in range(BEFORE, BEFORE + AFTER):
            masters, others = self._step(first, masters, step), self._step(second, others, step)
            if _differ(masters, others) or _differ(first.state_dict(), second.state_dict()):
                text = "keeps state that torch's state_dict does not hold, so that a resume would change the run"
                raise wrong_class(f"{self.path} {text}")

    def _step(self, optimizer: Imported, masters: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The masters after it. What draws numbers draws the same ones at the same step."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(step)
            optimizer.begin_step()
            for name, factor in self.rates.items():
                if factor:
                    gradient = self._drawn(self.shapes[name], step + 1).mul_(0.1)
                    optimizer.update(name, masters[name], gradient, self.learning_rate * factor)
            return {**masters, **_copied(optimizer.finish_step())}

    def _drawn(self, shape: Size, seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _differ(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return some.keys() != others.keys() or any(tensor_differs(some[key], others[key]) for key in some)


def _refused(trial: Trial, found: type[Any], arguments: Mapping[str, object]) -> Iterable[Problem]:
    """What is wrong with the class, or with these arguments."""
    error = trial(arguments)
    if error is None:
        return ()
    needed = {n: v for n, v in arguments.items() if default_of(found, n) is inspect.Parameter.empty}
    bare = trial(needed)
    if bare is not None:
        return (_of_class(error, bare, needed),)
    optional = [name for name in arguments if name not in needed]
    alone = [name for name in optional if trial({n: v for n, v in arguments.items() if n != name}) is None]
    if alone:
        words = set(_reason(error).replace("'", " ").replace("`", " ").replace(",", " ").split())
        name = next((name for name in alone if name in words), alone[0])
        return (_of_argument(found, name, arguments[name], error),)
    left = _never_taken(trial, needed, {name: arguments[name] for name in optional})
    return [_of_argument(found, name, arguments[name], why) for name, why in left.items()] or error.problems


def _never_taken(
    trial: Trial, good: Mapping[str, object], candidates: Mapping[str, object]
) -> dict[str, ImportedOptimizerError]:
    """The candidates that are refused beside whichever others are accepted, and why. One may need another: each is
    tried again as long as others come through."""
    taken, left = dict(good), dict(candidates)
    refused: dict[str, ImportedOptimizerError] = {}
    while left:
        refused = {}
        for name, value in left.items():
            error = trial(taken | {name: value})
            if error is None:
                taken[name] = value
            else:
                refused[name] = error
        if refused.keys() == left.keys():
            return refused
        left = {name: left[name] for name in refused}
    return refused


def _of_class(error: ImportedOptimizerError, bare: ImportedOptimizerError, needed: Mapping[str, object]) -> Problem:
    """Where leaving out all that can be left out does not help."""
    if len(needed) == 1 and bare.__cause__ is not None:
        ((name, value),) = needed.items()
        text = f"arguments.{name} = {_toml(value)} is refused: {_reason(bare)}"
        return wrong_argument(name, text, "Correct it, or choose another class.")
    (problem,) = error.problems
    if _reason(error) != _reason(bare) or needed:
        return Problem(problem.path, problem.text, CORRECT)
    (problem,) = bare.problems
    return Problem(problem.path, problem.text, ANOTHER)


def _of_argument(found: type[Any], name: str, value: object, error: ImportedOptimizerError) -> Problem:
    default = _toml(default_of(found, name))
    remedy = f"Its default is {default}." if default else "Leave it out."
    return wrong_argument(name, f"arguments.{name} = {_toml(value)} is refused: {_reason(error)}", remedy)


def _reason(error: ImportedOptimizerError) -> str:
    """What the class itself said, if anything."""
    if error.__cause__ is None:
        return error.problems[0].text
    said = first_line(error.__cause__)
    if isinstance(error.__cause__, TypeError) and _PYTHONS.search(said):
        return "it is not the kind of value that the class expects"
    return said


def _toml(value: object) -> str:
    """As a profile writes it; "" for what it cannot."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value!r}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return ""
