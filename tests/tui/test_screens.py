"""Every screen, letter for letter, at the smallest usual size and at a comfortable one.

`UPDATE_SNAPSHOTS=1` writes the files anew: look at the difference before it is kept.
"""

import os
from pathlib import Path

import gallery
import pytest
import seen

SNAPSHOTS = Path(__file__).parent / "snapshots"


# A screen in one app, whose terminal grows; what lies behind a panel stands still, so there each size begins anew.
PANELS = ("stop", "rate")
# It tells of this machine's memory and disk; tests/tui/test_start.py looks at what it says.
OF_THE_MACHINE = ("start",)
PAGES = [(name, gallery.SIZES) for name in gallery.NAMES if name not in (*PANELS, *OF_THE_MACHINE)]
PAGES += [(name, (size,)) for name in PANELS for size in gallery.SIZES]


@pytest.mark.parametrize(("name", "sizes"), PAGES, ids=lambda value: value if isinstance(value, str) else len(value))
async def test_screens_look_as_they_did(name, sizes, own_place, monkeypatch):
    monkeypatch.setenv("HOME", str(own_place))  # paths are shown from there
    found = {}
    async with gallery.shown(name, sizes[0]) as pilot:
        for width, height in sizes:
            await pilot.resize_terminal(width, height)
            await seen.work_done(pilot.app)  # what the wider one shows may have to be read first
            await pilot.pause()
            found[SNAPSHOTS / f"{name}-{width}x{height}.txt"] = seen.text(pilot.app)
    for path, text in found.items():
        if os.environ.get("UPDATE_SNAPSHOTS") == "1":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text()
