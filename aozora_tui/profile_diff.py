"""In which settings two profiles differ, whatever their files look like."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from aozora_tui.screens.field_words import default_of
from engine.contract.fields import FormField, form_fields


@dataclass(frozen=True)
class Difference:
    """Plain TOML values; None for a required field that is not written."""

    field: FormField
    before: Any
    after: Any


def differences(before: str, after: str) -> tuple[Difference, ...]:
    """Of two profiles' TOML texts, in the form's order. A default that is written down is no difference. Raises
    ValueError for text that is not TOML."""
    old, new = _values(before), _values(after)
    return tuple(
        Difference(field, old[path], new[path]) for path, field in form_fields().items() if old[path] != new[path]
    )


def _values(text: str) -> dict[str, Any]:
    read = tomllib.loads(text)
    values = {}
    for path, field in form_fields().items():
        section = read.get(field.section)
        written = section.get(field.name) if isinstance(section, dict) else None
        values[path] = default_of(field) if written is None else written
    return values
