"""What can be said of a profile while some of its settings are wrong: what holds whatever they should have been."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Meta

from engine.contract.decode import decode_value, unwrap
from engine.contract.fields import FormField, form_fields
from engine.contract.problems import Problem
from engine.contract.sections import Profile

_LITTLE = 1e-9


def certain(
    find: Callable[[Profile], Iterable[Problem]], profile: Profile, wrong: Sequence[Problem] = ()
) -> list[Problem]:
    """What `find` says of `profile`, in which every setting named in `wrong` has its default, and would say as well if
    any one of them had another value."""
    found = list(find(profile))
    for other in _others(profile, wrong) if found else ():
        said = {(problem.path, problem.severity) for problem in find(other)}
        found = [problem for problem in found if (problem.path, problem.severity) in said]
    return found


def _others(profile: Profile, wrong: Sequence[Problem]) -> Iterator[Profile]:
    meant = {_meant(problem.path) for problem in wrong}
    for path in sorted(meant & form_fields().keys()):
        field = form_fields()[path]
        section = getattr(profile, field.section)
        for value in _values(field):
            changed = msgspec.structs.replace(section, **{field.name: value})
            yield msgspec.structs.replace(profile, **{field.section: changed})


def _meant(path: str) -> str:
    """The field that a problem is in, or whose name was misspelt."""
    section, _, rest = path.partition(".")
    name = rest.partition(".")[0].partition("[")[0]
    if f"{section}.{name}" in form_fields():
        return f"{section}.{name}"
    names = [field.name for field in form_fields().values() if field.section == section]
    near = difflib.get_close_matches(name, names, 1, 0.6)
    return f"{section}.{near[0]}" if near else ""


def _values(field: FormField) -> Iterator[Any]:
    """Some that it could have: every word, or both ends of its range, or an example."""
    meta = unwrap(field.annotation)[1]
    tried: tuple[Any, ...] = (field.example,)
    if field.kind == "choice":
        tried = field.choices
    elif field.kind == "switch":
        tried = (False, True)
    elif field.kind in ("integer", "number"):
        tried = _ends(meta)
    elif field.kind == "texts" and field.example is None:
        tried = (["any"],)
    for raw in tried:
        value, problems = decode_value(field.annotation, raw, field.path)
        if not problems:
            yield value


def _ends(meta: Meta) -> tuple[float | None, float | None]:
    low = meta.ge if meta.ge is not None else None if meta.gt is None else meta.gt + _LITTLE
    high = meta.le if meta.le is not None else None if meta.lt is None else meta.lt - _LITTLE
    return low, high
