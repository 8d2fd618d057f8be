"""Writes docs/screens/<screen>-<columns>x<rows>.svg: every screen over the same fixed runs as the snapshot tests.

    python scripts/screenshots.py [FOLDER]

Nothing is trained and nothing of yours is read: runs, profiles and the checkpoint are made up in a temporary folder.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FONTS = "font-family: 'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, monospace"


async def draw(target: Path, scratch: Path) -> None:
    """One picture a screen and size; each begins in empty folders."""
    import gallery

    for name in gallery.NAMES:
        for width, height in gallery.SIZES:
            home = scratch / f"{name}-{width}x{height}"
            os.environ["HOME"] = str(home)
            for part in ("DATA", "CACHE", "RUNS", "PROFILES", "CONFIG"):
                os.environ[f"AOZORA_{part}"] = str(home / part.lower())
            async with gallery.shown(name, (width, height)) as pilot:
                picture = pilot.app.export_screenshot(title="aozora-tui")
            (target / f"{home.name}.svg").write_text(self_contained(picture), encoding="utf-8")


def self_contained(picture: str) -> str:
    """Without the web fonts that the exporter names: a picture in a README must not fetch anything."""
    local = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    return local.replace("font-family: Fira Code, monospace", FONTS)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screens"
    target.mkdir(parents=True, exist_ok=True)
    os.environ.update(TZ="UTC", AOZORA_ASCII="0")
    os.environ.pop("TEXTUAL_THEME", None)
    time.tzset()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui")]
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(draw(target.absolute(), Path(scratch)))


if __name__ == "__main__":
    main()
