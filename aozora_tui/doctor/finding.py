"""One line of the doctor's report."""

from typing import Literal

from msgspec import Struct

Level = Literal["ok", "note", "wrong"]


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `remedy` is one imperative sentence, empty where nothing need be done."""

    topic: str
    level: Level
    text: str
    remedy: str = ""
