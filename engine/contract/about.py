"""What is said about a field beside its type: for forms, checks, help, schemas and the settings file alike."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Meta


class Axis(NamedTuple):
    """What a drawn curve lies over: where it ends, and the sentence that says so."""

    last: float
    words: str


OVER_TIMESTEPS = Axis(999, "timesteps go from 0 to 999")
OVER_THE_RUN = Axis(1, "shares of the run go from 0 to 1")


def about(
    title: str,
    description: str,
    unit: str = "",
    kind: str = "",
    *,
    aliases: Mapping[str, str] | None = None,
    remedy: str = "",
    axis: Axis | None = None,
    **bounds: Any,
) -> Meta:
    """A field's label, help, unit, and kind of text (`file`, `folder`, `colour`, `pattern`), with its bounds.

    `aliases`: what others call one of the field's words, in small letters and digits only, and that word. `remedy`:
    what to do about any other wrong value. `axis` is a curve's. `examples`, plain TOML values, show a list or a table.
    """
    extra = {"unit": unit, "kind": kind, "aliases": dict(aliases or {}), "remedy": remedy, "axis": axis}
    return Meta(title=title, description=description, extra=extra, **bounds)
