"""What a person says of a run: tags and a note, in a file of the run's folder that the engine never looks at.

The file goes with the folder, to the trash and to other machines; a run that is live can have it, and a resume leaves
it alone. No Textual.
"""

import fcntl
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct

from aozora_tui.remote import links
from aozora_tui.text import printable
from engine.contract import places
from engine.contract.atomic import write_text
from engine.contract.events import UNREADABLE
from engine.contract.rundir import RunDir

NAME = "notes.json"
MOST_TAGS, LONGEST_TAG, LONGEST_NOTE = 12, 24, 500  # of a note and a tag, characters
_MOST_BYTES = 1 << 16
_SHOWN = 32  # characters of what was refused


class Notes(Struct, frozen=True, kw_only=True):
    """`trouble` says why the file cannot be read, "" if it can: then there is neither tag nor note to be had of it."""

    tags: tuple[str, ...] = ()
    note: str = ""
    trouble: str = ""


class _Written(Struct, frozen=True):
    """The part of the file that is understood; whatever else is in it stays."""

    tags: tuple[str, ...] = ()
    note: str = ""


NONE = Notes()


def read(run: RunDir) -> Notes:
    """Never raises: a list of runs must not fall with one of them."""
    try:
        return _parsed(_document(run))
    except FileNotFoundError:
        return NONE
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    return Notes(trouble=f"{NAME} of {printable(run.name)} cannot be read: {printable(reason)}")


def change(run: RunDir, *, add: Iterable[str] = (), remove: Iterable[str] = (), note: str | None = None) -> Notes:
    """Write other tags, and another note unless that is None; returns what the file says then. It is read first: what
    somebody else wrote meanwhile stays. Tags and the note as `tag` and `note_of` give them.

    Raises ValueError, saying what to do, if that cannot be, and OSError if the disk refuses.
    """
    if reason := why_not(run):
        raise ValueError(reason)
    with _alone(run):
        return _changed(run, frozenset(remove), add, note)


def _changed(run: RunDir, taken: Collection[str], add: Iterable[str], note: str | None) -> Notes:
    before = read(run)
    if before.trouble:
        raise ValueError(f"{before.trouble}. {mend(run)}")
    tags = tuple(dict.fromkeys(tag for tag in (*before.tags, *add) if tag not in taken))
    if len(tags) > MOST_TAGS:
        raise ValueError(f"{run.name} would have {len(tags)} tags: {MOST_TAGS} at most, take some away")
    after = Notes(tags=tags, note=before.note if note is None else note)
    if after != before:
        _write(run, after)
    return after


def mend(run: RunDir) -> str:
    """What to do about trouble with the file."""
    return f"Mend {printable(str(run.path / NAME))} or take it away: nothing is written over it"


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Nobody else changes them meanwhile."""
    folder = os.open(run.path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def why_not(run: RunDir) -> str:
    """Why nothing can be noted on a run, "" if it can: what is written into a copy never reaches the run itself."""
    if links.of(run) is not None or run.path.resolve().is_relative_to((places.cache_folder() / "remote").resolve()):
        return f"{run.name} is on another machine: tags and notes are made there"
    return ""


def stamp(run: RunDir) -> tuple[int, int]:
    """Changes whenever the file does."""
    try:
        seen = os.stat(f"{run.path}/{NAME}")  # noqa: PTH116  (a third of the time, and lists ask it of every run)
    except OSError:
        return (-1, -1)
    return seen.st_size, seen.st_mtime_ns


def tag(text: str) -> str:
    """What was typed, as a tag: in small letters. Raises ValueError with the reason if it cannot be one."""
    found = unicodedata.normalize("NFC", text).lower()
    if len(found) > LONGEST_TAG:
        raise ValueError(f'"{_shown(text)}" is too long: a tag has {LONGEST_TAG} characters at most')
    if not _is_tag(found):
        raise ValueError(f'"{_shown(text)}" cannot be a tag: letters and digits, and between them - _ or .')
    return found


def tags_of(text: str) -> tuple[str, ...]:
    """The tags in what was typed, with blanks or commas between. Raises ValueError with the reason."""
    found = tuple(dict.fromkeys(tag(word) for word in re.split(r"[\s,]+", text) if word))
    if len(found) > MOST_TAGS:
        raise ValueError(f"{len(found)} tags: {MOST_TAGS} at most")
    return found


def note_of(text: str) -> str:
    """What was typed, as one line. Raises ValueError with the reason if it cannot be a note."""
    found = unicodedata.normalize("NFC", " ".join(text.split()))
    if len(found) > LONGEST_NOTE:
        raise ValueError(f"it has {len(found):,} characters: a note has {LONGEST_NOTE} at most")
    if not found.isprintable():
        wrong = next(char for char in found if not char.isprintable())
        raise ValueError(f"a note is plain text, and cannot have {printable(wrong)}")
    return found


def told(tags: Collection[str]) -> str:
    """Tags as they are shown among other words."""
    return " ".join(f"#{each}" for each in tags)


def _is_tag(text: str) -> bool:
    """Letters of any language, and digits; a mark only behind one of them."""
    bare = re.sub("[-_.]", "", text)
    return bare.isalnum() and text[0] not in "-_." and text == text.lower() and len(text) <= LONGEST_TAG


def _shown(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ...")


def _document(run: RunDir) -> dict[str, Any]:
    """Raises OSError, and ValueError with the reason."""
    path = run.path / NAME
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no file")  # a pipe would keep its reader waiting
    if found.st_size > _MOST_BYTES:
        raise ValueError(f"it has {found.st_size:,} bytes")
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except UNREADABLE as error:
        raise ValueError(str(error)) from None


def _parsed(document: dict[str, Any]) -> Notes:
    """Raises ValueError. A note may be anybody's: it is shown with what could steer a terminal written out."""
    try:
        found = msgspec.convert(document, _Written)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for each in found.tags:
        if not _is_tag(each):
            raise ValueError(f'"{_shown(each)}" is no tag')
    return Notes(tags=tuple(dict.fromkeys(found.tags)), note=found.note)


def _write(run: RunDir, notes: Notes) -> None:
    path = run.path / NAME
    try:
        document = _document(run)
    except FileNotFoundError:
        document = {}
    document |= {"tags": notes.tags, "note": notes.note}
    before = run.path.stat()
    write_text(path, msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    if not run.info.exists():  # how old such a run is, and whether it may be starting, is told by its folder's time
        os.utime(run.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def most_used(found: Iterable[Collection[str]]) -> Sequence[str]:
    """Every tag of several runs, the most used first."""
    count: dict[str, int] = {}
    for each in (tag for tags in found for tag in tags):
        count[each] = count.get(each, 0) + 1
    return sorted(count, key=lambda each: (-count[each], each))
