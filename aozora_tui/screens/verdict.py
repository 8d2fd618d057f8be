"""What the whole check says of a profile that is being edited. For a thread: it reads files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.forecast_bar import Card
from aozora_tui.screens.profile_text import field_of
from engine.contract.fields import form_fields
from engine.contract.only_with import ONLY_WITH
from engine.contract.problems import Problem
from engine.contract.sections import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.contract.check import Checked
    from engine.contract.nvml_reading import Reading
    from engine.contract.outlook import Outlook


@dataclass(frozen=True)
class Verdict:
    """The file as the check saw it, and what it said. `usable` bytes of its card are the run's; None on the processor
    and if nobody knows. `here` is what this machine's memory adds to the problems, `card` that card as it is now.
    `pictures` is what is wrong with those, None as long as nobody has looked through the folders."""

    seen: ProfileFile
    checked: Checked
    usable: int | None = None
    here: tuple[Problem, ...] = ()
    card: Card | None = None
    pictures: tuple[Problem, ...] | None = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return (*self.checked.problems, *self.here, *(self.pictures or ()))

    @property
    def base(self) -> str:
        """What the base checkpoint announces to be, as `SDXL base, v_prediction, zero terminal SNR` and where it says
        so; "" if it cannot be trained."""
        kind = self.checked.kind
        if kind is None:
            return ""
        snr = ", zero terminal SNR" if kind.zero_terminal_snr else ""
        return f"{kind.name}, {kind.prediction_type}{snr} ({kind.announced_by})"

    def saw(self, file: ProfileFile, path: str) -> bool:
        """Whether a field still has the value that the check saw."""
        return bool(self.seen.get(path) == file.get(path))

    def still_true(self, file: ProfileFile) -> list[Problem]:
        """The problems of fields that have not changed since; of memory, if none of its fields has."""
        known = [p for p in self.checked.problems if (path := field_of(p)) in form_fields() and self.saw(file, path)]
        memory = [path for path, field in form_fields().items() if field.section == "memory"]
        known += self.pictures or () if self.saw(file, "data.folders") else ()
        return [*known, *(self.here if all(self.saw(file, path) for path in memory) else ())]


def judge(text: str, path: Path, readings: Sequence[Reading], *, busy: bool = False) -> Verdict:
    """`busy`: a run of ours is active. What it holds is free again when it ends, and what a limit leaves does not
    depend on the moment: then the cards count as empty."""
    from aozora_tui.cards import at_the_start, cards, usable, with_leanest
    from engine.contract.check import check_text

    seen, emptied = ProfileFile(path, text, None), cards(readings, emptied=True)
    found = at_the_start(readings, limited=bool(seen.get("memory.limit")), busy=busy)
    checked = with_leanest(check_text(text, path, found), path.parent, found)
    if checked.profile is None or checked.outlook is None:
        return Verdict(seen, checked)
    room = usable(checked.profile.memory, emptied)
    here = _lasting(checked.outlook, room) if busy else checked.outlook.problems
    free = usable(checked.profile.memory, cards(readings))
    card = None if room is None else Card(room, room if free is None else min(free, room))
    return Verdict(seen, checked, room, here, card)


def _lasting(ahead: Outlook, room: int | None) -> tuple[Problem, ...]:
    """Beside a run of ours host memory is short too, for as long as that lasts."""
    from aozora_tui.cards import none_fits

    over = room is not None and ahead.cost.device > room
    return ahead.problems if over or none_fits(ahead) else ()


def idle_fields(profile: Profile | None, file: ProfileFile) -> dict[str, str] | None:
    """The fields that do nothing beside the others, and where they would, as the end of "has no effect". `profile` is
    what of `file` is right: where something is wrong it may lack a choice that is. None if nothing can be known."""
    if profile is None:
        return None
    for path, field in form_fields().items():
        chosen = file.get(path) if field.kind == "choice" else None
        if chosen in field.choices and chosen is not None:
            section = msgspec.structs.replace(getattr(profile, field.section), **{field.name: chosen})
            profile = msgspec.structs.replace(profile, **{field.section: section})
    return {path: only.otherwise for path, only in ONLY_WITH.items() if not only.used(profile)}
