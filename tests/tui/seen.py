"""What a person sees: a screen's text, and the bytes it costs."""

from __future__ import annotations

import json
import math
from pathlib import Path

from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver

from engine.contract.layers import Layer, tree
from engine.contract.unet_names import unet_names

TENSORS = Path(__file__).parents[1] / "engine" / "sdxl_tensors.json"


def text(app: App) -> str:
    """The screen on top, as lines without trailing blanks."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


class CountingDriver(HeadlessDriver):
    """Counts what would go to the terminal."""

    is_headless = property(lambda self: False)  # so that the compositor writes to it

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent = 0

    def write(self, data):
        self.sent += len(data.encode())

    def flush(self):
        pass
