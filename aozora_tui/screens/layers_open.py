"""The layers screen of a profile. Blocking: it reads the base checkpoint's header."""

from __future__ import annotations

from pathlib import Path

from aozora_tui.screens.layers import LayersScreen
from aozora_tui.screens.layers_model import Trees
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.check import is_demo
from engine.contract.checkpoint_kind import identify
from engine.contract.layers import read_layers, text_trees
from engine.contract.safetensors_header import CheckpointError
from engine.contract.sections import Profile


def layers_screen(profile: Profile, folder: Path) -> LayersScreen:
    """`folder` is where relative paths in the profile start. Raises OSError, or ValueError with a sentence, if there
    is no UNet of SDXL to choose from."""
    path = places.expand(profile.model.base, folder)
    if not path.exists() and is_demo(path):
        raise CheckpointError("the demo's checkpoint is made when the demo first runs: start that, then come back")
    header = read_base(path)
    kind = identify(header)
    if not kind.trainable:
        raise CheckpointError(f"{path} cannot be trained here: {kind.why_not}")
    return LayersScreen(Trees(read_layers(header), text_trees(header), profile), header)
