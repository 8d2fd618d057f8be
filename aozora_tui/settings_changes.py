"""What is other than before in the settings, and from when on it holds."""

from __future__ import annotations

from collections.abc import Sequence

from aozora_tui.settings import Settings

AT_ONCE = ("look.theme", "keys.")


def changed(before: Settings, after: Settings) -> list[str]:
    """The names of settings and keys whose value is another one, in order."""
    found = []
    for name in sorted({*before.values, *after.values}):
        old, new = (one.values[name].value if name in one.values else None for one in (before, after))
        found += [name] if old != new else []
    keys = sorted({*before.own_keys, *after.own_keys})
    return found + [f"keys.{id}" for id in keys if before.own_keys.get(id) != after.own_keys.get(id)]


def awaited(started: Settings, now: Settings) -> frozenset[str]:
    """What is set, but holds from the next start only."""
    return frozenset(name for name in changed(started, now) if not name.startswith(AT_ONCE))


def told(before: Settings, after: Settings) -> str:
    """In one sentence; "" if nothing is other than before."""
    names = changed(before, after)
    later = [name for name in names if not name.startswith(AT_ONCE)]
    now = [name for name in names if name not in later]
    parts = [f"{_listed(now)} {'holds' if len(now) == 1 else 'hold'} now"] if now else []
    parts += [f"{_listed(later)} from the next start"] if later else []
    if "keys.app.quit" in now and (other := without_ctrl_c(after)):
        parts.append(other)
    return "; ".join(parts)


def without_ctrl_c(settings: Settings) -> str:
    """Which key quits where ctrl+c does not; "" where it does."""
    keys = settings.keys
    return "" if "ctrl+c" in keys.listed("app.quit") else f"ctrl+c does not quit, {keys.name('app.quit')} does"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{', '.join(names[:2])} and {len(names) - 2} more"
