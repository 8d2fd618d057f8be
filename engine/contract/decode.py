"""Strict decoding that reports every mistake at once, each with the field's path and a remedy."""

import difflib
import math
import re
import types
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from engine.contract.about import Axis
from engine.contract.problems import Problem

S = TypeVar("S", bound=Struct)
LONGEST_NAME = 255
CAUTIOUS = 0.8  # how alike words must be; `adamw8bit` is less like "adamw"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def unwrap(annotation: Any) -> tuple[Any, Meta]:
    """The bare type and its msgspec `Meta` (an empty one if there is none)."""
    if get_origin(annotation) is Annotated:
        bare, *metas = get_args(annotation)
        return bare, next((m for m in metas if isinstance(m, Meta)), Meta())
    return annotation, Meta()


def choices(bare: Any) -> tuple[str, ...]:
    """The words of a `Literal`, else nothing."""
    return tuple(str(word) for word in get_args(bare)) if get_origin(bare) is Literal else ()


def decode(kind: type[S], raw: Any, path: str = "") -> tuple[S | None, list[Problem]]:
    """`raw` (plain TOML values) as `kind`, or None with every problem in it."""
    if not isinstance(raw, dict):
        return None, [Problem(path, f"a table is expected, not {_shown(raw)}", f"Write it as [{path}].")]
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    problems = [_unknown(_join(path, str(key)), str(key), tuple(known)) for key in raw if key not in known]
    values: dict[str, Any] = {}
    for name, field in known.items():
        where = _join(path, name)
        if name in raw:
            value, found = decode_value(field.type, raw[name], where, field.default)
            values[name] = value
            problems += found
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            problems.append(Problem(where, "is missing", f"Give {expected(field.type)}."))
    return (None, problems) if problems else (kind(**values), [])


def decode_value(annotation: Any, raw: Any, path: str, default: Any = NODEFAULT) -> tuple[Any, list[Problem]]:
    """One field's value, checked against its type and range. `default` is only named in the remedy."""
    bare, meta = unwrap(annotation)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return decode(bare, raw, path)
    if get_origin(bare) is tuple:
        return _decode_tuple(get_args(bare)[0], meta, raw, path)
    if get_origin(bare) is dict:
        return _decode_table(get_args(bare)[1], raw, path)
    if isinstance(raw, str) and "\0" in raw:
        return None, [Problem(path, "holds a NUL character, which no path or text may", "Remove it.")]
    is_path = isinstance(raw, str) and (meta.extra or {}).get("kind") in ("file", "folder")
    if is_path and any(len(part.encode()) > LONGEST_NAME for part in raw.split("/")):
        text = f"holds a name of more than {LONGEST_NAME} bytes, which no file can have"
        return None, [Problem(path, text, "Shorten it.")]
    if raw == "" and meta.min_length:
        return None, [Problem(path, "must not be empty", f"Give {meta.title or path}." if meta.title else "Give it.")]
    try:
        if _is_finite(raw):
            return msgspec.convert(raw, annotation, strict=True), []
    except msgspec.ValidationError:
        pass
    if isinstance(raw, list) and (found := _wrong_element(bare, raw, path)):
        return None, [found]
    text = f"{_shown(raw)} is not {expected(annotation)}"
    return None, [Problem(path, text, _remedy(annotation, raw, default))]


def _decode_tuple(item: Any, meta: Meta, raw: Any, path: str) -> tuple[Any, list[Problem]]:
    if not isinstance(raw, list):
        example = f", as {as_toml(meta.examples[0])}" if meta.examples else ""
        return None, [Problem(path, f"{_shown(raw)} is not a list", f"Write it in square brackets{example}.")]
    if meta.min_length and len(raw) < meta.min_length:
        return None, [Problem(path, "the list is empty", "Name at least one.")]
    if isinstance(item, type) and issubclass(item, Struct) and item.__struct_config__.array_like:
        decoded = _decode_points(item, meta, raw, path)
    else:
        decoded = [decode_value(item, value, f"{path}[{index}]") for index, value in enumerate(raw)]
    return tuple(value for value, _ in decoded), [problem for _, found in decoded for problem in found]


def _decode_table(item: Any, raw: Any, path: str) -> tuple[Any, list[Problem]]:
    """Values by names of the person's own choice."""
    if not isinstance(raw, dict):
        return None, [Problem(path, f"a table is expected, not {_shown(raw)}", f"Write it as [{path}].")]
    values, problems = {}, []
    for key, value in raw.items():
        where = key_path(path, key)
        if not key or "\0" in key:
            text = "a name holds a NUL character" if key else "a name is empty"
            problems.append(Problem(where, text, "Write what the value is for."))
            continue
        values[key], found = decode_value(item, value, where)
        problems += found
    return (None, problems) if problems else (values, [])


def key_path(path: str, key: str) -> str:
    """The path of an entry of a table, the key as TOML writes it: `optimizer.rates."mid_block.*"`."""
    return f"{path}.{_key(key)}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else msgspec.json.encode(key).decode()


def path_parts(path: str) -> list[str]:
    """The keys and indices that a problem's path is made of. Raises ValueError for a path that is none."""
    found: list[str] = re.findall(r'"(?:[^"\\]|\\.)*"|[^.\[\]]+', path)
    return [msgspec.json.decode(part, type=str) if part.startswith('"') else part for part in found]


def _decode_points(kind: type[S], meta: Meta, raw: list[Any], path: str) -> list[tuple[S | None, list[Problem]]]:
    """The points of a curve; `meta` is the curve's."""
    example = meta.examples[0] if meta.examples else [[0, 1]]
    if raw and not any(isinstance(entry, list) for entry in raw):
        text = "pairs of two numbers are expected: where, and how much"
        return [(None, [Problem(path, text, f"Write it as {as_toml(example)}.")])]
    axis = (meta.extra or {}).get("axis")
    return [
        _decode_pair(kind, entry, f"{path}[{index}]", axis=axis, example=example[-1]) for index, entry in enumerate(raw)
    ]


def _decode_pair(
    kind: type[S], raw: Any, path: str, *, axis: Axis | None, example: Any
) -> tuple[S | None, list[Problem]]:
    """A struct that is written as a list of two numbers: its fields' values in order, the first on the axis."""
    fields = msgspec.structs.fields(kind)
    if not isinstance(raw, list) or len(raw) != len(fields) or not all(_is_number(value) for value in raw):
        text = "two numbers are expected: where, and how much"
        return None, [Problem(path, text, f"Write it as {as_toml(example)}.")]
    decoded = [
        decode_value(field.type, value, f"{path}.{field.name}") for field, value in zip(fields, raw, strict=True)
    ]
    problems = [problem for _, found in decoded for problem in found]
    # The type of a point, made for any axis, does not know this one.
    if axis and not 0 <= raw[0] <= axis.last:
        others = [problem for problem in problems if problem.path != f"{path}.{fields[0].name}"]
        problems = [Problem(f"{path}.{fields[0].name}", axis.words, "Put the point there."), *others]
    return (None, problems) if problems else (kind(*(value for value, _ in decoded)), [])


def _wrong_element(bare: Any, raw: list[Any], path: str) -> Problem | None:
    """The first that does not belong, where one of the types that a value may have is a list."""
    element = next((get_args(one)[0] for one in get_args(bare) if get_origin(one) is list), None)
    if element is None:
        return None
    for place, value in enumerate(raw, start=1):
        _, found = decode_value(element, value, path)
        if found:
            text = f"element {place} of the list, {_shown(value)}, is not {expected(element)}"
            return Problem(path, text, found[0].remedy)
    return None


def as_toml(value: Any) -> str:
    """A plain value as TOML writes it in one line; the keys of a table in quotes where TOML wants them."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {as_toml(one)}' for key, one in value.items())} }}" if value else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_toml, value))}]"
    return msgspec.json.encode(value).decode()


def expected(annotation: Any) -> str:
    """What a field takes, in words: `a whole number from 1 to 100`."""
    bare, meta = unwrap(annotation)
    if words := choices(bare):
        return "one of " + ", ".join(f'"{word}"' for word in words)
    if get_origin(bare) in (Union, types.UnionType):
        *parts, last = map(expected, get_args(bare))
        return f"{', '.join(parts)} or {last}"
    if get_origin(bare) is dict:
        return f"a table: for each name, {expected(get_args(bare)[1])}"
    if get_origin(bare) is list:
        return f"a list of {'numbers' if get_args(bare)[0] is float else 'values'}"
    if bare is bool:
        return "true or false"
    if bare in (int, float):
        return ("a whole number" if bare is int else "a number") + _range(meta)
    if bare is str:
        if meta.min_length:
            return "text, required"
        return "text" + (f" of the form {meta.examples[0]}" if meta.examples else "")
    return "a list" if get_origin(bare) is tuple else "a table"


def _range(meta: Meta) -> str:
    low = meta.ge if meta.ge is not None else meta.gt
    high = meta.le if meta.le is not None else meta.lt
    steps = f", a multiple of {meta.multiple_of}" if meta.multiple_of else ""
    if meta.ge is not None and meta.le is not None:
        return f" from {low:,} to {high:,}{steps}"
    above = f"above {low:,}" if meta.gt is not None else f"of at least {low:,}" if low is not None else ""
    below = f"below {high:,}" if meta.lt is not None else f"at most {high:,}" if high is not None else ""
    joined = ", ".join(part for part in (above, below) if part)
    return f" {joined}{steps}" if joined else steps


def _remedy(annotation: Any, raw: Any, default: Any) -> str:
    bare, meta = unwrap(annotation)
    if word := _word_meant(bare, meta, raw):
        return f'Did you mean "{word}"?'
    if bare in (int, float, bool) and isinstance(raw, str) and _is_plain_value(raw):
        return "Remove the quotes."
    if bare is float and isinstance(raw, str) and (share := _share(annotation, meta, raw)) is not None:
        return f"Write {_shown(share)}."
    number = _is_number(raw)
    if bare in (int, float) and number and meta.ge is not None and raw < meta.ge:
        return f"The least allowed is {meta.ge:,}."
    if bare in (int, float) and number and meta.le is not None and raw > meta.le:
        return f"The most allowed is {meta.le:,}."
    if advice := (meta.extra or {}).get("remedy"):
        return str(advice)
    if default is not NODEFAULT:
        return f"The default is {_shown(default)}."
    if not _is_finite(raw):
        return "Write a finite number."
    return "Write it in quotes." if bare is str and not isinstance(raw, str) else "Correct it."


def _word_meant(bare: Any, meta: Meta, raw: Any) -> str:
    """The word that somebody means who writes `raw`, as far as that can be guessed; cautiously where a field has a
    remedy for whatever else is written."""
    if not choices(bare) or not isinstance(raw, (str, int)):
        return ""
    extra = meta.extra or {}
    words = {_letters(word): word for word in choices(bare)}
    said = _letters(str(raw))
    if meant := (words | extra.get("aliases", {})).get(said):
        return str(meant)
    near = difflib.get_close_matches(said, words, 1, CAUTIOUS if extra.get("remedy") else 0.5)
    return words[near[0]] if near else ""


def _letters(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _share(annotation: Any, meta: Meta, text: str) -> float | None:
    """What `10 %` means to a field that takes it as 0.1, or as 10 where percent is its unit."""
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%\s*", text)
    if match is None:
        return None
    percent = (meta.extra or {}).get("unit") == "percentile"
    share = float(match[1]) if percent else float(f"{float(match[1]) / 100:.12g}")
    return None if decode_value(annotation, share, "")[1] else share


def _is_number(raw: Any) -> bool:
    return isinstance(raw, (int, float)) and not isinstance(raw, bool)


def _is_finite(raw: Any) -> bool:
    if isinstance(raw, list):
        return all(map(_is_finite, raw))
    return not isinstance(raw, float) or math.isfinite(raw)


def _is_plain_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("true", "false")
    return True


def _unknown(path: str, key: str, known: tuple[str, ...]) -> Problem:
    near = difflib.get_close_matches(key, known, 1, 0.6)
    remedy = f"Did you mean `{near[0]}`?" if near else f"Remove it; known here: {', '.join(known)}."
    return Problem(path, "there is no such setting", remedy)


def _shown(raw: Any) -> str:
    if isinstance(raw, float) and not math.isfinite(raw):
        return str(raw)
    if isinstance(raw, (str, bool, int, float)):
        return msgspec.json.encode(raw).decode()
    return "a table" if isinstance(raw, dict) else "a list" if isinstance(raw, (list, tuple)) else type(raw).__name__


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
