"""Writes docs/screens/<screen>-<columns>x<rows>.svg: every screen over the same fixed runs as the snapshot tests.

    python scripts/screenshots.py [--to FOLDER] [SCREEN ...]

Nothing is trained and nothing of yours is read: runs, profiles and the checkpoint are made up in a temporary folder.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FONTS = "font-family: 'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


async def draw(target: Path, scratch: Path, names: Collection[str]) -> None:
    """One picture a view and size, of those called so; each area of them begins in empty folders."""
    import gallery

    for area in gallery.AREAS:
        wanted = [view.name for view in gallery.VIEWS if view.area == area and (not names or view.name in names)]
        home = scratch / area
        os.environ["HOME"] = str(home)
        for part in ("DATA", "CACHE", "RUNS", "PROFILES", "CONFIG"):
            os.environ[f"AOZORA_{part}"] = str(home / part.lower())
        if not wanted:
            continue
        async with gallery.opened(area, gallery.SIZES[0]) as pilot:
            async for name, (width, height) in gallery.tour(area, pilot):
                if name in wanted:
                    picture = self_contained(pilot.app.export_screenshot(title="aozora-tui"))
                    (target / f"{name}-{width}x{height}.svg").write_text(picture, encoding="utf-8")


def self_contained(picture: str) -> str:
    """Without the web fonts that the exporter names: a picture in a README must not fetch anything."""
    local = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    return local.replace("font-family: Fira Code, monospace", FONTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "screens", metavar="FOLDER")
    names_help = "those that FOLDER has, if none is named; all of them, if it has none"
    parser.add_argument("names", nargs="*", metavar="SCREEN", help=names_help)
    args = parser.parse_args()
    args.to.mkdir(parents=True, exist_ok=True)
    names = args.names or {path.stem.rpartition("-")[0] for path in args.to.glob("*.svg")}
    os.environ.update(TZ="UTC", AOZORA_ASCII="0", TERM="xterm-256color", COLORTERM="truecolor")
    os.environ.pop("TEXTUAL_THEME", None)
    time.tzset()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui")]
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(draw(args.to.absolute(), Path(scratch), names))


if __name__ == "__main__":
    main()
