"""The layers of a profile, for the tests of their model and of their screen."""

from __future__ import annotations

from aozora_tui.screens.layers_model import Node, Trees
from engine.contract.layers import read_layers, text_trees
from engine.contract.profile import parse
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile

PROFILE = """\
[model]
base = "{base}"
[[data.folders]]
path = "/pictures"
{extra}
"""
TEXT = '[text_encoders]\ntrain = "first"\n'
RATES = '[optimizer.rates]\n"mid_block.*" = 0.5\nattn2 = 2.0\n"*.bias" = 0.1\nnowhere = 3.0\n'


def profile_of(header: Header, extra: str = "") -> Profile:
    profile, problems = parse(PROFILE.format(base=header.path, extra=extra), "mine.toml")
    assert profile is not None, problems
    return profile


def trees_of(header: Header, extra: str = "") -> Trees:
    return Trees(read_layers(header), text_trees(header), profile_of(header, extra))


def node_at(trees: Trees, path: str) -> Node:
    return next(node for node in trees.nodes if node.layer.path == path)
