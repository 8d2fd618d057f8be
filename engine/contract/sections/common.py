"""What every section's fields are made of."""

from typing import Annotated, Any

from msgspec import Meta, Struct


def about(title: str, description: str, unit: str = "", kind: str = "", **bounds: Any) -> Meta:
    """A field's label, help, unit, and kind of text (`file`, `folder`, `colour`, `pattern`), with its bounds."""
    return Meta(title=title, description=description, extra={"unit": unit, "kind": kind}, **bounds)


class Point(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A point of a drawn curve, written `[at, value]`; between two points the curve is straight, beyond them level."""

    at: Annotated[float, about("At", "Where on the axis.", ge=0, le=1e9)]
    value: Annotated[float, about("Value", "How much there.", ge=0, le=1e9)]
