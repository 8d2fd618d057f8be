"""The profile as a JSON Schema (draft 2020-12): editors complete a profile with it and underline what is wrong.

It says what a single field takes. What fields forbid each other, and what only the machine knows, says the check.
"""

import contextlib
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from engine.contract.about import Axis
from engine.contract.decode import decode_value, expected, unwrap
from engine.contract.sections import Profile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE_NAME = "profile.schema.json"
TITLE = "Aozora TUI profile"
# The comment by which taplo and Even Better TOML find it; a profile's first line.
DIRECTIVE = f"#:schema ./{FILE_NAME}"
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "pattern": "pattern",
}


def schema() -> dict[str, Any]:
    """The whole profile."""
    description = "What a run is told. `aozora-tui check PROFILE` finds more than this schema can say."
    return {"$schema": DIALECT, "title": TITLE, "description": description, **_object(Profile)}


def text() -> str:
    """The schema as the file that is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def keep_beside(profile: Path, written: str) -> None:
    """Write the schema beside a profile whose first line names it there, unless the present one is there already.

    A file of that name which is not this program's is left alone; so is a folder that cannot be written: a profile
    without it is none the worse.
    """
    if written.partition("\n")[0].strip() != DIRECTIVE:
        return
    from engine.contract.atomic import write_text

    target, wanted = profile.parent / FILE_NAME, text()
    with contextlib.suppress(OSError, ValueError):
        there = target.read_text(encoding="utf-8") if target.exists() else ""
        if there != wanted and (not there or msgspec.json.decode(there, type=dict).get("title") == TITLE):
            write_text(target, wanted)


def _object(kind: type[Struct]) -> dict[str, Any]:
    fields = msgspec.structs.fields(kind)
    required = [field.name for field in fields if field.required]
    return {
        "type": "object",
        "properties": {field.name: _field(field) for field in fields},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _field(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """A field with its label and help; a section has no default to write down, its fields have."""
    bare, meta = unwrap(field.type)
    said = {"title": meta.title, "description": _help(field.type, meta)}
    found = {**{name: value for name, value in said.items() if value}, **_type(field.type)}
    if isinstance(bare, type) and issubclass(bare, Struct):
        return found
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if default is not NODEFAULT:
        found["default"] = msgspec.to_builtins(default)
    # Some examples show a form in words (`#rrggbb`): those are no values.
    examples = [one for one in meta.examples or () if not decode_value(field.type, one, field.name)[1]]
    return {**found, "examples": examples} if examples else found


def _help(annotation: Any, meta: Meta) -> str:
    """The help, then what the field takes: editors show a description, but seldom a range or a unit."""
    bare, unit = unwrap(annotation)[0], (meta.extra or {}).get("unit", "")
    if bare not in (int, float):
        return meta.description or ""
    takes = expected(annotation)
    return f"{meta.description} {takes[0].upper()}{takes[1:]}{f'; in {unit}' if unit else ''}."


def _type(annotation: Any) -> dict[str, Any]:
    bare, meta = unwrap(annotation)
    bounds = {name: value for name, key in _BOUNDS.items() if (value := getattr(meta, key)) is not None}
    if get_origin(bare) is Literal:
        return {"type": "string", "enum": list(get_args(bare))}
    if get_origin(bare) in (Union, types.UnionType):
        return {"anyOf": [_type(one) for one in get_args(bare)]}
    if get_origin(bare) is dict:
        named = {"propertyNames": {"minLength": 1}}
        return {"type": "object", **named, "additionalProperties": _item(get_args(bare)[1])}
    if get_origin(bare) in (tuple, list):
        item = get_args(bare)[0]
        points = isinstance(item, type) and issubclass(item, Struct) and item.__struct_config__.array_like
        of = _pair(item, (meta.extra or {}).get("axis")) if points else _item(item)
        return {"type": "array", "items": of, **({"minItems": meta.min_length} if meta.min_length else {})}
    if isinstance(bare, type) and issubclass(bare, Struct):
        return _object(bare)
    if bare is str:
        return {"type": "string", **bounds, **({"minLength": meta.min_length} if meta.min_length else {})}
    names = {bool: "boolean", int: "integer", float: "number"}
    return {"type": names[bare], **bounds}


def _item(annotation: Any) -> dict[str, Any]:
    """What a list or a table holds, with its label where it has one."""
    _, meta = unwrap(annotation)
    said = {"title": meta.title, "description": meta.description}
    return {**{name: value for name, value in said.items() if value}, **_type(annotation)}


def _pair(kind: type[Struct], axis: Axis | None) -> dict[str, Any]:
    """A point of a curve, `[at, value]`."""
    parts = [_item(field.type) for field in msgspec.structs.fields(kind)]
    if axis is not None:
        parts[0] |= {"description": f"{axis.words[0].upper()}{axis.words[1:]}.", "maximum": axis.last}
    return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts), "maxItems": len(parts)}
