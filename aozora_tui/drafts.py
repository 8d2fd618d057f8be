"""Edits of profiles that nobody could be asked about any more: kept beside the data until they are saved or refused.

Each is a file of its own and none is written over, so that two sessions that end at once lose nothing. No Textual.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from engine.contract import places
from engine.contract.atomic import write_text


@runtime_checkable
class Keeping(Protocol):
    """A screen that may hold what is not saved."""

    def keep_draft(self) -> str | None:
        """Keep it; returns the profile's name, None if there is nothing. Raises OSError or ValueError."""


@dataclass(frozen=True)
class Draft:
    """`text` was made of `base`, what the file of `profile` held at that `time` (Unix seconds); it lies in `kept`."""

    kept: Path
    profile: Path
    text: str
    base: str
    time: float


class _Written(Struct, frozen=True, kw_only=True):
    """`profile` is for a person who looks into the file."""

    profile: str
    text: str
    base: str
    time: float


def folder() -> Path:
    return places.data_folder() / "drafts"


def keep(profile: Path, text: str, base: str, now: float) -> Path:
    """Returns where it lies; a draft that is kept already is not kept twice. Raises OSError, ValueError for a text that
    is none."""
    for draft in of(profile):
        if (draft.text, draft.base) == (text, base):
            return draft.kept
    place = _free(f"{_stem(profile)}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}")
    name = str(profile).encode(errors="replace").decode()
    write_text(place, msgspec.json.encode(_Written(profile=name, text=text, base=base, time=now)).decode())
    return place


def of(profile: Path) -> list[Draft]:
    """Of one profile, by whichever way its file is named, the newest first."""
    found = [_read(path) for path in folder().glob(f"*{_key(profile)}-*.json")]
    return sorted((draft for draft in found if draft is not None), key=lambda draft: -draft.time)


def of_deleted() -> dict[Path, Draft]:
    """The newest draft of each profile whose file is gone: nothing else leads to it."""
    found = (_read(path) for path in folder().glob("*.json"))
    lost = [draft for draft in found if draft is not None and not draft.profile.exists()]
    return {draft.profile: draft for draft in sorted(lost, key=lambda draft: draft.time)}


def forget(kept: Path) -> None:
    """What was saved, or what nobody wants. One that cannot be removed is offered again."""
    with contextlib.suppress(OSError):
        kept.unlink()


def keep_all(screens: Iterable[object]) -> str:
    """Keep what the screens hold that is not saved. Returns a sentence for the person; "" if there was nothing."""
    kept, lost = [], []
    for screen in screens:
        if isinstance(screen, Keeping):
            try:
                name = screen.keep_draft()
            except (OSError, ValueError) as error:
                lost.append(f"Unsaved changes could not be kept: {error}.")
            else:
                kept += [name] if name else []
    said = f"Unsaved changes of {', '.join(kept)} are kept in {folder()}: the form offers them again." if kept else ""
    return " ".join(part for part in (said, *lost) if part)


def _stem(profile: Path) -> str:
    """Names of files are short, and a person should find the one that is looked for."""
    return f"{re.sub(r'[^0-9A-Za-z_.]+', '-', profile.stem)[:40].strip('-.')}-{_key(profile)}"


def _key(profile: Path) -> str:
    return hashlib.blake2b(os.fsencode(os.path.realpath(profile)), digest_size=8).hexdigest()


def _free(stem: str) -> Path:
    names = (stem, *(f"{stem}-{index}" for index in range(2, 1000)))
    return next(path for name in names if not (path := folder() / f"{name}.json").exists())


def _read(path: Path) -> Draft | None:
    """None for what is no draft, or none that can be read."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Written)
    except (OSError, ValueError, RecursionError):
        return None
    return Draft(path, Path(found.profile), found.text, found.base, found.time)
