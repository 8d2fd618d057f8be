"""What is chosen in the trees is what the profile trains afterwards: boxes, patterns, rates."""

from __future__ import annotations

import random

import fake_checkpoint
import pytest
from layer_trees import PROFILE, RATES, TEXT, node_at, trees_of

from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.layers_lines import bar, percent, written_rows
from aozora_tui.screens.layers_model import Chosen, Tally, Trees
from aozora_tui.screens.layers_prompt import found, match, set_factor
from engine.contract.base_checkpoint import read_base
from engine.contract.layer_kinds import KINDS, PRESETS
from engine.contract.layers import select
from engine.contract.patterns import factors
from engine.contract.profile import parse
from engine.contract.text_tensors import learning_factors, learning_text


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    return read_base(fake_checkpoint.write(tmp_path_factory.mktemp("base") / "sdxl.safetensors"))


def written_profile(header, trees: Trees, chosen: Chosen, extra=""):
    """The profile as the file would have it after the result was written into it."""
    file = ProfileFile(header.path.with_suffix(".toml"), PROFILE.format(base=header.path, extra=extra), None)
    file.update(trees.changes(chosen))
    profile, problems = parse(file.text, "mine.toml")
    assert profile is not None, (problems, file.text)
    return profile


def some_change(draw: random.Random, trees: Trees, chosen: Chosen) -> Chosen:
    whole = [node for node in trees.nodes if not node.encoder or node.parent < 0]
    match draw.randrange(6):
        case 0:
            return trees.toggle_all(chosen, draw.choice(KINDS).patterns)
        case 1:
            return trees.take(chosen, draw.choice(PRESETS).spelling)
        case 2:
            return trees.choose(chosen, trees.speller.every & ~chosen.unet)
        case 3:
            word = draw.choice(("-attn2", "depth:0-1", "=mid_block.* +up_blocks.1.*", "*.bias -norm1", "-to_k"))
            return match(trees, chosen, word).chosen or chosen
        case 4:
            return trees.with_factor(chosen, draw.choice(trees.nodes[1:]), draw.choice((0.0, 0.5, 1.0, 3.0)))
        case _:
            return trees.toggle(chosen, draw.choice(whole))


@pytest.mark.parametrize("extra", ["", TEXT + RATES, '[layers]\ntrain = ["depth:1", "gone"]\nfreeze = ["*.bias"]\n'])
def test_whatever_is_toggled_the_patterns_select_exactly_the_boxes_shown(header, extra):
    trees, draw = trees_of(header, extra), random.Random(3)
    chosen = trees.start
    for _ in range(20):
        chosen = some_change(draw, trees, chosen)
        if not chosen.unet:
            continue
        profile, tally = written_profile(header, trees, chosen, extra), Tally(trees, chosen)
        learning = select(trees.unet.tensors, profile.layers.train, profile.layers.freeze).trained
        learning |= learning_text(trees.names, profile.text_encoders) - set(trees.unet.tensors)
        expected = learning_factors(profile, trees.names)
        for node in trees.nodes:
            counted, names = tally.of(node), node.layer.tensors
            hit = [name for name in names if name in learning]
            assert counted.learning == len(hit)
            box = "[x]" if len(hit) == counted.able else "[-]" if hit else "[ ]"
            assert counted.box == (box if counted.able else "   ")
            shown = tally.factors(node)
            assert {round(each, 9) for each in shown} == {round(expected.get(name, 1.0), 9) for name in hit or names}
        assert profile.optimizer.rates == chosen.rates
    assert chosen != trees.start


def test_only_what_changed_is_written_and_defaults_are_left_out(header):
    extra = '[layers]\ntrain = ["attn1", "attn2"]\nfreeze = ["mid_block.*"]\n'
    trees = trees_of(header, extra)
    start = trees.start
    assert trees.changes(start) == {}
    there = trees.toggle(start, node_at(trees, "conv_in"))
    assert trees.changes(there) == {"layers.train": ["attn1", "attn2", "conv_in.*"]}
    assert trees.toggle(there, node_at(trees, "conv_in")) == start
    everything = trees.choose(start, trees.speller.every)
    assert trees.changes(everything) == {"layers.train": None, "layers.freeze": None}
    both = trees.toggle(trees.toggle(start, trees.roots[1]), trees.roots[2])
    assert trees.changes(both) == {"text_encoders.train": "both"}
    assert trees.changes(trees.toggle(both, trees.roots[1])) == {"text_encoders.train": "second"}
    rated = trees.with_factor(start, trees.roots[2], 0.5)
    assert trees.changes(rated) == {"text_encoders.rate_2": 0.5}


def test_factors_that_mean_no_single_layer_survive_and_a_layers_own_is_replaced(header):
    trees = trees_of(header, RATES)
    start, middle = trees.start, node_at(trees, "mid_block")
    assert trees.own_factor(start, middle) == 0.5
    assert trees.changes(trees.with_factor(start, middle, 0.25)) == {
        "optimizer.rates": {"mid_block.*": 0.25, "attn2": 2.0, "*.bias": 0.1, "nowhere": 3.0}
    }
    plain = trees.with_factor(start, middle, 1)
    assert trees.changes(plain) == {"optimizer.rates": {"attn2": 2.0, "*.bias": 0.1, "nowhere": 3.0}}
    first = node_at(trees, "down_blocks.1.attentions.0.transformer_blocks.1")
    both = trees.with_factor(plain, first, 0.5)
    assert both.rates["down_blocks.1.attentions.0.transformer_blocks.1.*"] == 0.5
    query = node_at(trees, f"{first.layer.path}.attn2.to_q")
    assert Tally(trees, both).factors(query) == (1.0,)  # 0.5 of the block, 2 of attn2
    assert factors(query.layer.tensors, both.rates) == {}


def test_patterns_are_understood_as_the_profile_has_them(header):
    trees = trees_of(header, '[layers]\ntrain = ["attn1"]\n')
    start = trees.start

    def trained(text):
        outcome = match(trees, start, text)
        assert not outcome.wrong and outcome.chosen is not None
        return trees.speller.chosen(outcome.chosen.unet)

    names = trees.unet.tensors
    assert trained("depth:0-1") == select(names, ["attn1", "depth:0-1"]).trained
    assert trained("=attn2 -mid_block*") == select(names, ["attn2"], ["mid_block*"]).trained
    assert trained("-attn1.to_q") == select(names, ["attn1"], ["attn1.to_q"]).trained
    assert match(trees, start, "depth:2").chosen.spelling.train == ("attn1", "depth:2")
    assert match(trees, start, "conv_in").text == "2 tensors, 11.8 K: 16.0 % of the UNet then"
    assert match(trees, start, "atn2").text == "matches nothing. Did you mean `attn2`?"
    assert "as a whole" in match(trees, start, "text_encoder.*").text
    assert match(trees, start, "attn2 -").wrong and match(trees, start, "  ").chosen is None


def test_layers_are_found_by_our_names_and_by_those_of_the_file(header):
    trees = trees_of(header)

    def paths(text):
        return [trees.nodes[index].layer.path for index in found(trees, text)]

    assert len(paths("cross-att")) == 70 == len(paths("attn2"))
    assert paths("MID_BLOCK") == ["mid_block"]
    assert paths("input_blocks.5.1.") == ["down_blocks.1.attentions.1"]
    assert paths("label_emb") == ["add_embedding"]
    assert paths("nobody") == [] == paths(" ")


def test_factors_that_are_none_are_refused_in_words(header):
    trees = trees_of(header, RATES)
    middle = node_at(trees, "mid_block.attentions.0")
    assert set_factor(trees, trees.start, middle, "-1").wrong and set_factor(trees, trees.start, middle, "0,5").wrong
    assert "with others" in set_factor(trees, trees.start, middle, "0.5").text


def test_the_selections_that_others_trained_with_are_as_large_as_theirs(header):
    trees = trees_of(header)
    sizes = {}
    for preset in PRESETS:
        counted = Tally(trees, trees.take(trees.start, preset.spelling)).of(trees.roots[0])
        sizes[preset.label] = percent(counted.parameters, trees.unet.parameters)
    assert sizes["The original's default"] == "85.9 %" and sizes["Aozora-XL v0.15"] == "92.2 %"


def test_the_written_patterns_keep_to_their_rows_and_say_how_many_are_left_out():
    patterns = [f"down_blocks.{n}.resnets.0.conv1.weight" for n in range(100)]
    written = {"layers.train": patterns, "layers.freeze": [], "text_encoders.train": "both", "optimizer.rates": {}}
    for width in (56, 78, 118):
        rows = written_rows(written, {"layers.train": patterns}, width=width, height=3)
        lines = ["".join(text for text, _ in row) for row in rows]
        assert len(lines) == 3 and all(len(line) <= width for line in lines)
        shown = sum(line.count("down_blocks") for line in lines)
        assert lines[0].startswith("*layers.train  down_blocks.0.")
        assert lines[-1].endswith(f"and {100 + 1 - shown} more")
    few = written_rows({**written, "layers.train": ["*"]}, {}, width=78, height=3)
    assert ["".join(text for text, _ in row) for row in few] == [" layers.train  *", " text_encoders.train  both"]


@pytest.mark.parametrize(
    ("top", "rows"), [(0, range(0, 4)), (1863 - 36, range(32, 36))], ids=["at the top", "at the end"]
)
def test_the_scroll_bar_ends_where_the_tree_does(top, rows):
    thumb = bar(top, 36, 1863)
    assert thumb and set(thumb) <= set(rows)
    assert not bar(0, 36, 20)
