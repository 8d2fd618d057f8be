"""What is in the training folders: pictures, their captions, and what is wrong with either. Nothing is ever modified.

Only headers are read here. A picture damaged further in is found when it is encoded, and reported there.
"""

import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.contract.atomic import Interrupted, never
from engine.contract.picture_file import EXTENSIONS, FOREIGN, damage, decoding_errors, limited_decoding, read_header
from engine.contract.problems import Problem

_CAPTION_BYTES = 1 << 20


class Identity(NamedTuple):
    """What tells a changed file from an unchanged one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its caption; width and height are those after EXIF rotation."""

    path: Path
    width: int
    height: int
    caption: str
    repeats: int
    identity: Identity
    captioned: bool = True  # by a file of its own; else with the picture's name


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that is not used; `reason` continues a sentence that began with its name."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...]
    problems: tuple[Problem, ...]


class _Found(NamedTuple):
    path: Path
    status: os.stat_result | None  # None: it cannot be asked for, usually a link to nothing
    sidecar: Path | None


def scan(
    folders: Sequence[tuple[Path, int]],
    *,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int, int], None] = lambda *_: None,
    read: Callable[[Picture | Skipped], None] = lambda _: None,
) -> Scan:
    """Every picture below `folders`, each a path with its repeats, in an order that depends on names alone.

    A picture without a sidecar is captioned with its file name. A folder listed beside its parent keeps its own repeats
    and is not walked twice; hidden files and folders are passed over. `progress(done, total)` counts pictures; `read`
    is told of each as it comes. Nothing on the disk makes it raise: see `skipped` and `problems`. Raises Interrupted
    when `should_stop` says so.
    """
    for folder, repeats in folders:
        if repeats < 1:
            raise ValueError(f"{shown(folder)} would be drawn {repeats} times an epoch: repeats starts at 1")
    problems: list[Problem] = []
    listed = _roots(folders, problems)
    seen = {key for _, _, key in listed}
    found: list[tuple[_Found, int]] = []
    for folder, repeats, _ in listed:
        below = sorted(_walk(folder, seen, problems, should_stop), key=lambda each: each.path.as_posix())
        found += [(each, repeats) for each in below]
        problems += _remarks(folder, [each for each in below if each.path.suffix.lower() in EXTENSIONS])
    outcomes: list[Picture | Skipped] = []
    with limited_decoding():
        for done, (each, repeats) in enumerate(found):
            if should_stop():
                raise Interrupted("the scan of the folders was stopped")
            progress(done, len(found))
            outcomes.append(_read(each, repeats, problems))
            read(outcomes[-1])
    progress(len(found), len(found))
    pictures = tuple(outcome for outcome in outcomes if isinstance(outcome, Picture))
    return Scan(pictures, tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped)), tuple(problems))


def identify(path: Path) -> Identity:
    """Raises OSError when the file is gone."""
    return _identity(path.stat())


def shown(path: Path) -> str:
    """A path as one printable line, whatever bytes its name holds: fit for messages, events and tables."""
    text = str(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_caption(path: Path) -> tuple[str, str]:
    """(caption, what had to be repaired or ""): UTF-8 with or without BOM, or UTF-16 with one; NULs removed; every run
    of white space one space. Only the first MiB is read. Raises OSError."""
    with path.open("rb") as file:
        data = file.read(_CAPTION_BYTES + 1)
    remark = ""
    if len(data) > _CAPTION_BYTES:
        data, remark = data[:_CAPTION_BYTES], "is longer than 1 MiB: the rest is ignored"
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode(encoding, "replace")
        remark = remark or "is not valid UTF-8: the unreadable bytes became U+FFFD"
    return " ".join(text.replace("\0", "").split()), remark


def _roots(folders: Iterable[tuple[Path, int]], problems: list[Problem]) -> list[tuple[Path, int, tuple[int, int]]]:
    """The folders that exist, once each, with what identifies them."""
    listed: list[tuple[Path, int, tuple[int, int]]] = []
    for folder, repeats in folders:
        try:
            status = folder.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) else error
            problems.append(Problem(shown(folder), f"cannot be opened ({why})", "Check the folder's name."))
            continue
        key = (status.st_dev, status.st_ino)
        if not stat.S_ISDIR(status.st_mode):
            problems.append(Problem(shown(folder), "is not a folder", "Name the folder that holds the pictures."))
        elif key in (other for _, _, other in listed):
            text = "is listed twice; the first listing counts"
            problems.append(Problem(shown(folder), text, "Remove one, or raise its repeats.", "warning"))
        else:
            listed.append((folder, repeats, key))
    return listed


def _walk(
    root: Path, seen: set[tuple[int, int]], problems: list[Problem], should_stop: Callable[[], bool]
) -> Iterator[_Found]:
    for files in _listings(root, seen, problems, should_stop):
        pictures: list[tuple[Path, os.stat_result | None]] = []
        sidecars: dict[tuple[str, str], Path] = {}
        for path in files:
            if path.suffix.lower() in EXTENSIONS or path.suffix.lower() in FOREIGN:
                pictures.append((path, _status(path)))
            elif path.suffix.lower() == ".txt" and (status := _status(path)) and stat.S_ISREG(status.st_mode):
                for sidecar_key in _sidecar_keys(path):
                    sidecars.setdefault(sidecar_key, path)
        for path, found in pictures:
            keys = _sidecar_keys(path.with_suffix(".txt"))
            yield _Found(path, found, next((sidecars[key] for key in keys if key in sidecars), None))


def _listings(
    root: Path, seen: set[tuple[int, int]], problems: list[Problem], should_stop: Callable[[], bool]
) -> Iterator[list[Path]]:
    """What is in each folder that a scan of `root` goes into, folders apart. `seen` holds the (device, inode) of
    folders already walked or reserved: links are followed and may loop, and folders be nested."""
    pending = [root]
    while pending:
        if should_stop():
            raise Interrupted("the scan of the folders was stopped")
        folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            text = f"cannot be opened ({error.strerror}); its pictures are left out"
            problems.append(Problem(shown(folder), text, "Check its permissions.", "warning"))
            continue
        files = []
        for entry in entries:
            path = folder / entry.name
            status = None if entry.is_file(follow_symlinks=False) else _status(path)
            if status is None or not stat.S_ISDIR(status.st_mode):
                files.append(path)
            elif (key := (status.st_dev, status.st_ino)) not in seen:
                seen.add(key)
                pending.append(path)
        yield files


def _sidecar_keys(path: Path) -> tuple[tuple[str, str], ...]:
    """What a sidecar may be found by, best first: its exact name, its stem, its stem in any letter case or Unicode
    normal form (file systems and archivers change both)."""
    folded = unicodedata.normalize("NFC", path.stem).casefold()
    return ("name", path.name), ("stem", path.stem), ("folded", folded)


def _remarks(folder: Path, found: Sequence[_Found]) -> Iterator[Problem]:
    if not found:
        yield Problem(shown(folder), "holds no pictures", f"It may hold {', '.join(EXTENSIONS)} files.", "warning")
    without = sum(each.sidecar is None for each in found)
    if without:
        text = f"holds {without} of {len(found)} pictures without a caption; their file names are used"
        yield Problem(shown(folder), text, "Put a .txt file of the same name beside each.", "warning")


def _read(found: _Found, repeats: int, problems: list[Problem]) -> Picture | Skipped:
    path, status, sidecar = found
    if status is None:
        return Skipped(path, "cannot be opened: it may be a link to nothing")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        return Skipped(path, "is not a file")
    if status.st_size == 0:
        return Skipped(path, "is empty (0 bytes)")
    if path.suffix.lower() in FOREIGN:
        return Skipped(path, f"is a {path.suffix[1:].lower()} file, which is not read here: convert it to png")
    try:
        width, height, animated = read_header(path)
    except decoding_errors() as error:
        return Skipped(path, damage(error))
    if animated:
        problems.append(Problem(shown(path), "is animated; its first frame is used", "", "warning"))
    caption, remark = " ".join(os.fsencode(path.stem).decode("utf-8", "replace").replace("_", " ").split()), ""
    if sidecar is not None:
        try:
            caption, remark = read_caption(sidecar)
        except OSError as error:
            return Skipped(path, f"has a caption file that cannot be read ({error.strerror})")
    if remark:
        problems.append(Problem(shown(found.sidecar or path), remark, "Save it as UTF-8 text.", "warning"))
    return Picture(path, width, height, caption, repeats, _identity(status), sidecar is not None)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def holding(folders: Sequence[Path]) -> tuple[bool, ...]:
    """Of each of the folders whether a scan of all of them would find in it what is a picture by its name, as far as
    the first one. What another of them has already counts for that one."""
    listed = _roots([(folder, 1) for folder in folders], [])
    seen = {key for _, _, key in listed}
    held = {
        key: any(path.suffix.lower() in EXTENSIONS for files in _listings(folder, seen, [], never) for path in files)
        for folder, _, key in listed
    }
    found = [_status(folder) for folder in folders]
    return tuple(status is not None and held.get((status.st_dev, status.st_ino), False) for status in found)
