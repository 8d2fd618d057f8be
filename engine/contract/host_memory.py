"""How much host memory a process may still take: what the machine has available, or what its group may use more."""

import re
from pathlib import Path

_V2, _V1 = "memory.max", "memory.limit_in_bytes"
_USED = {_V2: "memory.current", _V1: "memory.usage_in_bytes"}
_NO_LIMIT = 1 << 60  # version 1 writes the largest number there is


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes, or None if nothing tells. Where a group has a limit and the machine grows when asked, only the limit is
    true: the greater of both counts."""
    machine, headroom = _machine(proc), _headroom(proc, groups)
    if headroom is None:
        return machine
    return headroom if machine is None else max(machine, headroom)


def _machine(proc: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(proc / "meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _headroom(proc: Path, groups: Path) -> int | None:
    """Of the group of this process, and all above it, the least."""
    left = [_left(folder, limit) for folder, limit in _folders(proc, groups)]
    return min((amount for amount in left if amount is not None), default=None)


def _folders(proc: Path, groups: Path) -> list[tuple[Path, str]]:
    """Where limits may be written, and in which file. In a container the group's path is often not there: then the
    root is the group's own folder."""
    found: list[tuple[Path, str]] = []
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            root, limit = groups, _V2
        elif "memory" in controllers.split(","):
            root, limit = groups / "memory", _V1
        else:
            continue
        own = root / path.strip("/")
        found += [(folder, limit) for folder in (own, *own.parents) if folder == root or root in folder.parents]
    return found or [(groups, _V2), (groups / "memory", _V1)]


def _left(folder: Path, limit: str) -> int | None:
    most, used = _text(folder / limit).strip(), _text(folder / _USED[limit]).strip()
    if not most.isdecimal() or not used.isdecimal() or int(most) >= _NO_LIMIT:
        return None
    # Pages of files that were read count as used, and are given up first.
    cached = re.search(r"^(?:total_)?inactive_file (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return max(0, int(most) - int(used) + (int(cached[1]) if cached else 0))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
