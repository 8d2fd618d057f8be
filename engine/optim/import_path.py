"""An optimizer of an installed package, found by its import path: "torch.optim.NAdam", "prodigyopt.Prodigy"."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

from engine.contract.decode import key_path
from engine.contract.problems import Problem

EXAMPLE = "Write where the class is, as in `torch.optim.NAdam` or `prodigyopt.Prodigy`."
ANOTHER = "Choose another class."
CORRECT = "Correct its arguments, or choose another class."


class ImportedOptimizerError(ValueError):
    """An optimizer that cannot be had as the profile asks for it. `problems` are all that were found, each located at
    `optimizer.import_path` or at one of `optimizer.arguments`."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(" ".join(f"{problem.text}. {problem.remedy}" for problem in problems))
        self.problems = problems


def wrong_class(text: str, remedy: str = ANOTHER) -> ImportedOptimizerError:
    return ImportedOptimizerError(Problem("optimizer.import_path", text, remedy))


def wrong_argument(name: str, text: str, remedy: str) -> Problem:
    return Problem(key_path("optimizer.arguments", name), text, remedy)


def find(path: str, arguments: Mapping[str, object]) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer from its parameter groups and `lr`, with `arguments` as its own settings (lists become
    tuples, which TOML lacks). Raises ImportedOptimizerError; so does the result, for what the optimizer refuses."""
    found, wrong = look(path, arguments)
    if wrong:
        raise ImportedOptimizerError(*wrong.values())
    settings = {name: _as_tuple(value) for name, value in arguments.items()}

    def build(params: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        try:
            made: torch.optim.Optimizer = found(params, lr=lr, **settings)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a package raises at settings that it does not like
            refused = "refuses these settings" if arguments else "cannot be used here"
            text = f"{path} {refused}: {first_line(error)}"
            raise wrong_class(text, CORRECT if arguments else ANOTHER) from error
        return made

    return build


def look(path: str, arguments: Mapping[str, object]) -> tuple[type[Any], dict[str, Problem]]:
    """The class, and by name the arguments that it does not know, that are not for the profile to give, or that it
    needs and lacks. Raises ImportedOptimizerError for a path that leads to no optimizer."""
    try:
        found = _class_at(path)
        known = dict(inspect.signature(found).parameters)
        if "lr" not in known and not _takes_any(known):
            raise wrong_class(f"{path} takes no learning rate `lr`")
    except ImportedOptimizerError as error:
        raise ImportedOptimizerError(*error.problems, *_reserved(arguments, "params").values()) from error
    return found, _wrong_names(path, known, arguments)


def default_of(found: type[Any], name: str) -> object:
    """`inspect.Parameter.empty` for an argument that must be given; None also for one of `**others`."""
    known = inspect.signature(found).parameters
    return known[name].default if name in known else None


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    named = f"{type(error).__name__} " if isinstance(error, KeyError) else ""  # its message is the key alone
    return named + lines[0].rstrip(" .")


def _class_at(path: str) -> type[Any]:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise wrong_class(f'"{path}" is not the import path of a class', EXAMPLE)
    module = _imported(".".join(parts[:-1]))
    found = getattr(module, parts[-1], None)
    if found is None:
        raise wrong_class(f"{module.__name__} has no {parts[-1]}", _suggestion(module, parts[-1]))
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        text = f"{path} is not a subclass of torch.optim.Optimizer"
        raise wrong_class(text, _suggestion(module, parts[-1]))
    return found


def _imported(name: str) -> ModuleType:
    package = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == package:
            remedy = f"Install it into this environment: `pip install {package}`."
            raise wrong_class(f"the package {package} is not installed", remedy) from error
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise wrong_class(f"there is no module {error.name}", EXAMPLE) from error
        raise _broken(name, package, error) from error
    except (Exception, SystemExit) as error:  # importing runs the package's code: it may raise anything
        raise _broken(name, package, error) from error


def _broken(name: str, package: str, error: BaseException) -> ImportedOptimizerError:
    return wrong_class(
        f"importing {name} fails with {type(error).__name__}: {first_line(error)}",
        f"Mend the installation of {package}, or choose another class.",
    )


def _suggestion(module: ModuleType, name: str) -> str:
    base = torch.optim.Optimizer
    offered = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    ]
    if near := difflib.get_close_matches(name, offered, 1, 0.5):
        return f"Did you mean `{module.__name__}.{near[0]}`?"
    return f"Optimizers there: {', '.join(sorted(offered))}." if offered else EXAMPLE


def _takes_any(known: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())


def _wrong_names(
    path: str, known: Mapping[str, inspect.Parameter], arguments: Mapping[str, object]
) -> dict[str, Problem]:
    params = next(iter(known), "params")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    offered = {
        name: parameter
        for name, parameter in known.items()
        if name not in (params, "lr") and parameter.kind not in variadic
    }
    wrong = _reserved(arguments, params)
    for name in arguments:
        if name not in offered and name not in wrong and not _takes_any(known):
            near = difflib.get_close_matches(name, offered, 1, 0.6)
            listed = f"Known there: {', '.join(offered) or 'none'}."
            remedy = f"Did you mean `{near[0]}`? {listed}" if near else listed
            wrong[name] = wrong_argument(name, f"{path} has no argument `{name}`", remedy)
    for name, parameter in offered.items():
        if parameter.default is parameter.empty and name not in arguments:
            wrong[name] = wrong_argument(name, f"{path} needs the argument `{name}`", "Set it.")
    return wrong


def _reserved(arguments: Mapping[str, object], params: str) -> dict[str, Problem]:
    wrong: dict[str, Problem] = {}
    if "lr" in arguments:
        text = "the learning rate is not one of the optimizer's arguments"
        wrong["lr"] = wrong_argument("lr", text, "Set optimizer.learning_rate instead.")
    for name in sorted({"params", params} & arguments.keys()):
        text = "the parameters are those of the selected layers"
        wrong[name] = wrong_argument(name, text, "Remove it; see layers.train.")
    return wrong


def _as_tuple(value: object) -> object:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
