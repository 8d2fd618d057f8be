"""A small validator for the part of JSON Schema 2020-12 that the profile's schema uses, written from the standard.

A keyword that it does not know is an error, so that no part of a schema goes by unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

NOTES = {"$schema", "title", "description", "default", "examples"}
TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
OF_NUMBERS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, bound: value % bound == 0,
}
OF_TEXTS = {
    "pattern": lambda value, pattern: re.search(pattern, value) is not None,
    "minLength": lambda value, least: len(value) >= least,
}
OF_LISTS = {
    "minItems": lambda value, least: len(value) >= least,
    "maxItems": lambda value, most: len(value) <= most,
}


def mistakes(schema: dict[str, Any] | bool, value: Any, where: str = "") -> list[str]:
    """The places in `value` that the schema forbids, with the keyword that does."""
    if isinstance(schema, bool):
        return [] if schema else [f"{where}: false"]
    return [found for keyword, wanted in schema.items() for found in _by(keyword, wanted, schema, value, where)]


def _by(keyword: str, wanted: Any, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    for kind, tests in (("number", OF_NUMBERS), ("string", OF_TEXTS), ("array", OF_LISTS)):
        if keyword in tests:
            if TYPES[kind](value) and not tests[keyword](value, wanted):
                yield f"{where}: {keyword}"
            return
    if keyword == "type":
        if not TYPES[wanted](value):
            yield f"{where}: type"
    elif keyword == "enum":
        if not any(type(one) is type(value) and one == value for one in wanted):
            yield f"{where}: enum"
    elif keyword == "anyOf":
        if all(mistakes(one, value) for one in wanted):
            yield f"{where}: anyOf"
    elif keyword in ("properties", "required", "additionalProperties", "propertyNames"):
        if isinstance(value, dict):
            yield from _of_object(keyword, wanted, schema, value, where)
    elif keyword in ("items", "prefixItems"):
        if isinstance(value, list):
            yield from _of_list(keyword, wanted, schema, value, where)
    elif keyword not in NOTES:
        raise AssertionError(f"{where}: the check knows no {keyword}")


def _of_object(keyword: str, wanted: Any, schema: dict[str, Any], value: dict[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    if keyword == "required":
        yield from (f"{where}.{name}: required" for name in wanted if name not in value)
        return
    for name, one in value.items():
        if keyword == "properties" and name in known:
            yield from mistakes(known[name], one, f"{where}.{name}")
        if keyword == "additionalProperties" and name not in known:
            yield from mistakes(wanted, one, f"{where}.{name}")
        if keyword == "propertyNames":
            yield from mistakes(wanted, name, f"{where}.{name}")


def _of_list(keyword: str, wanted: Any, schema: dict[str, Any], value: list[Any], where: str) -> Iterator[str]:
    first = schema.get("prefixItems", [])
    if keyword == "prefixItems":
        for index, (one, rule) in enumerate(zip(value, wanted, strict=False)):
            yield from mistakes(rule, one, f"{where}[{index}]")
    else:
        for index, one in enumerate(value[len(first) :], start=len(first)):
            yield from mistakes(wanted, one, f"{where}[{index}]")
