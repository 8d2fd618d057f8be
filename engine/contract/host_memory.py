"""How much host memory a process may still take: what the machine has available, or what its group may use more."""

import re
from pathlib import Path

_V2, _V1 = "memory.max", "memory.limit_in_bytes"
_USED = {_V2: "memory.current", _V1: "memory.usage_in_bytes"}
_NO_LIMIT = 1 << 60  # version 1 writes the largest number there is


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes, or None if nothing tells. A group may have less than the machine. Where its limit is above all that the
    machine has now, the machine grows when asked, and only the limit is true."""
    total, free = _machine(proc)
    found = [entry for folder, limit in _folders(proc, groups) if (entry := _group(folder, limit))]
    if not found:
        return free
    headroom = min(left for _, left in found)
    if free is None or (total is not None and min(most for most, _ in found) > total):
        return headroom
    return min(free, headroom)


def _machine(proc: Path) -> tuple[int | None, int | None]:
    """All of it, and what is available."""
    text = _text(proc / "meminfo")
    found = [re.search(rf"^{name}:\s+([0-9]{{1,18}}) kB", text, re.MULTILINE) for name in ("MemTotal", "MemAvailable")]
    total, free = (int(each[1]) * 1024 if each else None for each in found)
    return total, free


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


def _group(folder: Path, limit: str) -> tuple[int, int] | None:
    """Its limit, and what is left of it; None where there is none."""
    most, used = _number(_text(folder / limit)), _number(_text(folder / _USED[limit]))
    if most is None or used is None or most >= _NO_LIMIT:
        return None
    # Pages of files that were read count as used, and are given up first.
    cached = re.search(r"^(?:total_)?inactive_file ([0-9]{1,20})$", _text(folder / "memory.stat"), re.MULTILINE)
    return most, max(0, most - used + (int(cached[1]) if cached else 0))


def _number(text: str) -> int | None:
    """Python refuses to read one of thousands of digits."""
    found = re.fullmatch(r"[0-9]{1,20}", text.strip())
    return int(found[0]) if found else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
