"""The profile's fields as one flat table: it drives the form, the check, the help and the documentation."""

import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT

from engine.contract.decode import choices, decode_value, expected, unwrap
from engine.contract.problems import Problem
from engine.contract.sections import Folder, Point, Profile

FieldKind = Literal[
    "integer", "number", "switch", "choice", "text", "file", "folder", "colour", "texts", "folders", "points", "table"
]


@dataclass(frozen=True)
class FormField:
    """One setting. `path` is its dotted name in the file; `default` is NODEFAULT where the person must write it;
    `example` is a list or a table that it could be, as plain TOML values, None for other kinds."""

    path: str
    section: str
    name: str
    label: str
    help: str
    unit: str
    kind: FieldKind
    choices: tuple[str, ...]
    default: Any
    expected: str
    annotation: Any
    example: Any = None

    @property
    def required(self) -> bool:
        return self.default is NODEFAULT

    def problems(self, raw: Any) -> list[Problem]:
        """What is wrong with a plain TOML value in this field."""
        return decode_value(self.annotation, raw, self.path, self.default)[1]


@dataclass(frozen=True)
class Section:
    name: str
    label: str
    help: str
    fields: tuple[FormField, ...]


@cache
def sections() -> tuple[Section, ...]:
    """Every section in the profile's order."""
    found = []
    for part in msgspec.structs.fields(Profile):
        kind, meta = unwrap(part.type)
        fields = tuple(_form_field(part.name, field) for field in msgspec.structs.fields(kind))
        found.append(Section(part.name, meta.title or part.name, meta.description or "", fields))
    return tuple(found)


@cache
def form_fields() -> dict[str, FormField]:
    """Every field by its dotted path."""
    return {field.path: field for section in sections() for field in section.fields}


def _form_field(section: str, field: msgspec.structs.FieldInfo) -> FormField:
    bare, meta = unwrap(field.type)
    extra = meta.extra or {}
    return FormField(
        path=f"{section}.{field.name}",
        section=section,
        name=field.name,
        label=meta.title or field.name,
        help=meta.description or "",
        unit=extra.get("unit", ""),
        kind=_kind(bare, extra.get("kind", "")),
        choices=choices(bare),
        default=_default(field),
        expected=expected(field.type),
        annotation=field.type,
        example=meta.examples[0] if meta.examples and get_origin(bare) in (tuple, dict) else None,
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    """msgspec makes a factory of an empty table."""
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _kind(bare: Any, text_kind: str) -> FieldKind:
    if get_origin(bare) is Literal:
        return "choice"
    if get_origin(bare) is tuple:
        lists: dict[Any, FieldKind] = {Folder: "folders", Point: "points"}
        return lists.get(get_args(bare)[0], "texts")
    if get_origin(bare) is dict:
        return "table"
    assert get_origin(bare) not in (Union, types.UnionType), "a form has no row for a union yet"
    if bare is bool:
        return "switch"
    if bare is int:
        return "integer"
    if bare is float:
        return "number"
    named: dict[str, FieldKind] = {"file": "file", "folder": "folder", "colour": "colour"}
    return named.get(text_kind, "text")
