"""An optimizer of an installed package, found by its import path: "torch.optim.NAdam", "prodigyopt.Prodigy"."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import torch

EXAMPLE = "Write where the class is, as in `torch.optim.NAdam` or `prodigyopt.Prodigy`."


class ImportedOptimizerError(ValueError):
    """An optimizer that cannot be had as the profile asks for it. `field` is `import_path` or `arguments.<name>`."""

    def __init__(self, text: str, remedy: str, field: str = "import_path") -> None:
        super().__init__(f"{text}. {remedy}")
        self.text, self.remedy, self.field = text, remedy, field


def find(path: str, arguments: Mapping[str, object]) -> Callable[..., torch.optim.Optimizer]:
    """What makes the optimizer from its parameter groups and `lr`, with `arguments` as its own settings (lists become
    tuples, which TOML lacks). Raises ImportedOptimizerError; so does the result, for what the optimizer refuses."""
    found = _class_at(path)
    _check_arguments(path, found, arguments)
    settings = {name: _as_tuple(value) for name, value in arguments.items()}

    def build(params: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        try:
            made: torch.optim.Optimizer = found(params, lr=lr, **settings)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a package raises at settings that it does not like
            text = f"{path} refuses these settings: {first_line(error)}"
            raise ImportedOptimizerError(
                text, "Correct its arguments, or choose another.", _named(error, arguments)
            ) from error
        return made

    return build


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__


def _named(error: Exception, arguments: Mapping[str, object]) -> str:
    """The argument that a message speaks of, if it is certain which one."""
    words = set(str(error).replace("'", " ").replace(",", " ").split())
    named = [name for name in arguments if name in words]
    return f"arguments.{named[0]}" if len(named) == 1 else "import_path"


def _class_at(path: str) -> type[Any]:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ImportedOptimizerError(f'"{path}" is not the import path of a class', EXAMPLE)
    module = _imported(".".join(parts[:-1]))
    found = getattr(module, parts[-1], None)
    if found is None:
        raise ImportedOptimizerError(f"{module.__name__} has no {parts[-1]}", _suggestion(module, parts[-1]))
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        text = f"{path} is not a subclass of torch.optim.Optimizer"
        raise ImportedOptimizerError(text, _suggestion(module, parts[-1]))
    return found


def _imported(name: str) -> ModuleType:
    package = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == package:
            remedy = f"Install it into this environment: `pip install {package}`."
            raise ImportedOptimizerError(f"the package {package} is not installed", remedy) from error
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ImportedOptimizerError(f"there is no module {error.name}", EXAMPLE) from error
        raise _broken(name, package, error) from error
    except (Exception, SystemExit) as error:  # importing runs the package's code: it may raise anything
        raise _broken(name, package, error) from error


def _broken(name: str, package: str, error: BaseException) -> ImportedOptimizerError:
    return ImportedOptimizerError(
        f"importing {name} fails with {type(error).__name__}: {first_line(error)}",
        f"Mend the installation of {package}, or choose another optimizer.",
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


def _check_arguments(path: str, found: type[Any], arguments: Mapping[str, object]) -> None:
    known = dict(inspect.signature(found).parameters)
    params = next(iter(known), "params")
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    if "lr" not in known and not takes_any:
        raise ImportedOptimizerError(f"{path} takes no learning rate `lr`", "Choose another optimizer.")
    _refuse_reserved(arguments, params)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    offered = {
        name: parameter
        for name, parameter in known.items()
        if name not in (params, "lr") and parameter.kind not in variadic
    }
    for name in arguments:
        if name not in offered and not takes_any:
            near = difflib.get_close_matches(name, offered, 1, 0.6)
            listed = f"Known there: {', '.join(offered) or 'none'}."
            remedy = f"Did you mean `{near[0]}`? {listed}" if near else listed
            raise ImportedOptimizerError(f"{path} has no argument `{name}`", remedy, f"arguments.{name}")
    for name, parameter in offered.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ImportedOptimizerError(f"{path} needs the argument `{name}`", "Set it.", f"arguments.{name}")


def _refuse_reserved(arguments: Mapping[str, object], params: str) -> None:
    if "lr" in arguments:
        text = "the learning rate is not one of the optimizer's arguments"
        raise ImportedOptimizerError(text, "Set optimizer.learning_rate instead.", "arguments.lr")
    for name in {"params", params} & arguments.keys():
        text = "the parameters are those of the selected layers"
        raise ImportedOptimizerError(text, "Remove it; see layers.train.", f"arguments.{name}")


def _as_tuple(value: object) -> object:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
