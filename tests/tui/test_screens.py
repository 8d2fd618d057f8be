"""Every screen, letter for letter, at the smallest usual size and at a comfortable one.

`UPDATE_SNAPSHOTS=1` writes the files anew: look at the difference before it is kept.
"""

import os
from pathlib import Path

import gallery
import pytest
import seen

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("size", gallery.SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", gallery.NAMES)
async def test_screens_look_as_they_did(name, size, own_place, monkeypatch):
    monkeypatch.setenv("HOME", str(own_place))  # paths are shown from there
    async with gallery.shown(name, size) as pilot:
        found = seen.text(pilot.app)
    path = SNAPSHOTS / f"{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert found == path.read_text()
