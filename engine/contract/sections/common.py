"""What every section's fields are made of."""

from typing import Annotated

from msgspec import Struct

from engine.contract.about import OVER_THE_RUN, OVER_TIMESTEPS, Axis, about

__all__ = ["OVER_THE_RUN", "OVER_TIMESTEPS", "Axis", "Point", "about"]


class Point(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A point of a drawn curve, written `[at, value]`; between two points the curve is straight, beyond them level."""

    at: Annotated[float, about("At", "Where on the axis.", ge=0, le=1e9)]
    value: Annotated[float, about("Value", "How much there.", ge=0, le=1e9)]
