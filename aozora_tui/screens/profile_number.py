"""A number's field, and how far one key press moves it."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

from textual.events import Key
from textual.widgets import Input

from aozora_tui.toml_edit import spelt
from engine.contract.decode import unwrap
from engine.contract.fields import FormField
from engine.contract.profile_values import default_of

PIXELS = 64  # a picture's side goes in buckets' steps
SMALL = 20  # below it whole numbers are counted one by one
ONE = Decimal(1)
MOST_DIGITS, MOST_EXPONENT = 18, 300  # of whole numbers as TOML has them; of the others


class NumberInput(Input):
    """Leaves + and - to the form where they cannot be part of a number: a sign stands at the beginning, or behind the
    e of an exponent. Everywhere else they can be typed."""

    async def _on_key(self, event: Key) -> None:
        if event.character in ("+", "-") and self._is_whole():
            event.prevent_default()  # and so it goes on to the form's own keys

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return not (character in ("+", "-") and self._is_whole()) and super().check_consume_key(key, character)

    def _is_whole(self) -> bool:
        """Whether the text is a number and the cursor is where no sign can follow."""
        before = self.value[: self.cursor_position]
        return (
            self.selection.is_empty and _parsed(self.value) is not None and before.strip()[-1:].lower() not in ("", "e")
        )


def stepped(field: FormField, text: str, by: int) -> str | None:
    """What stands in a number's field after a step up (`by` = 1) or down (-1), spelt as `text` is, from the default if
    that is empty; None if it is no number, or at the end of its range.

    A step is one of the leading digit: 1e-5, 2e-5, and down from there 9e-6. Whole numbers go by one, from 20 on by
    half of the leading digit's worth, or by what they must be a multiple of, and always to a multiple of the step.
    Shares near one go by what is missing.
    """
    whole = field.kind == "integer"
    value = _read(text.strip() or spelt_default(field), MOST_DIGITS if whole else MOST_EXPONENT)
    if value is None:
        return None
    low, high = _bounds(field)
    if whole:
        found = _next_multiple(value, _whole_step(field, value, by), by)
    else:
        found = value + by * _step(field, value, by if value >= 0 else -by)
    meta = unwrap(field.annotation)[1]
    found = max(found, low) if low is not None else found
    found = min(found, high) if high is not None else found
    outside = (meta.gt is not None and found <= _decimal(meta.gt)) or (
        meta.lt is not None and found >= _decimal(meta.lt)
    )
    if found == value or outside:
        return None
    return f"{int(found)}" if whole else _spelt(found, text)


def spelt_default(field: FormField) -> str:
    default = default_of(field)
    return spelt(default) if isinstance(default, float) else str(default)


def _whole_step(field: FormField, value: Decimal, by: int) -> Decimal:
    meta = unwrap(field.annotation)[1]
    if meta.multiple_of or field.unit == "pixels":
        return Decimal(meta.multiple_of or PIXELS)
    size = abs(value)
    if size < SMALL or (size == SMALL and by < 0):
        return ONE
    unit = _unit(size)
    return (unit / 10 if by < 0 and size == unit else unit) / 2


def _next_multiple(value: Decimal, step: Decimal, by: int) -> Decimal:
    place = value / step
    return step * (math.floor(place) + 1 if by > 0 else math.ceil(place) - 1)


def _step(field: FormField, value: Decimal, by: int) -> Decimal:
    """`by` is away from zero (1) or towards it."""
    low, high = _bounds(field)
    first = min(_unit(high) / 100, ONE) if high else Decimal("0.1")  # from zero, and to it
    size = abs(value)
    if size == 0 or (
        size == first and by < 0 and low is not None and low <= 0 and unwrap(field.annotation)[1].gt is None
    ):
        return first
    unit = _unit(size)
    if by < 0 and size == unit:
        unit /= 10
    if high is None or high > 1 or size <= Decimal("0.5") or size >= high:
        return unit
    missing = _unit(high - size)
    if by > 0 and missing == high - size and unwrap(field.annotation)[1].lt is not None:
        missing /= 10  # the end itself is not in the range
    return min(unit, missing)


def _bounds(field: FormField) -> tuple[Decimal | None, Decimal | None]:
    meta = unwrap(field.annotation)[1]
    low = meta.ge if meta.ge is not None else meta.gt
    high = meta.le if meta.le is not None else meta.lt
    lowest, highest = (None if end is None else _decimal(end) for end in (low, high))
    if meta.multiple_of and field.kind == "integer":
        grid = Decimal(meta.multiple_of)
        lowest = None if lowest is None else math.ceil(lowest / grid) * grid
        highest = None if highest is None else math.floor(highest / grid) * grid
    return lowest, highest


def _unit(size: Decimal) -> Decimal:
    """One of the leading digit."""
    return Decimal(1).scaleb(size.adjusted())


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


def _read(text: str, most: int) -> Decimal | None:
    """A number of at most so many digits before the point, and about as many zeros behind it."""
    found = _parsed(text)
    if found is None or not found:
        return found if found is None else Decimal(0)
    return found if abs(found.adjusted()) < most else None


def _parsed(text: str) -> Decimal | None:
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _spelt(value: Decimal, like: str) -> str:
    """As `like` is: with an exponent, or without."""
    if "e" not in like.lower():
        return f"{value:f}" if abs(value.adjusted()) < 7 or value == value.to_integral_value() else spelt(float(value))
    digits = value.normalize()
    exponent = digits.adjusted()
    return f"{digits.scaleb(-exponent):f}e{exponent}"
