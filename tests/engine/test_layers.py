import random
import struct
from pathlib import Path

import pytest

from engine.contract.layer_kinds import KINDS, PRESETS
from engine.contract.layers import Layer, count, human, read_layers, select, text_trees
from engine.contract.safetensors_header import CheckpointError, Header, Piece, TensorInfo, read_header
from engine.contract.sections import TextEncoders
from engine.contract.spelling import Speller, Spelling, patterns_for
from engine.contract.text_tensors import learning_text, text_tensors
from engine.contract.unet_names import UNET_PREFIX, read_topology, to_diffusers, to_published, unet_names


@pytest.fixture(scope="module")
def header(demo_checkpoint: Path) -> Header:
    return read_header(demo_checkpoint)


@pytest.fixture(scope="module")
def root(header: Header) -> Layer:
    return read_layers(header)


@pytest.fixture(scope="module")
def speller(root: Layer) -> Speller:
    return Speller(root)


def every_node(layer: Layer) -> list[Layer]:
    return [layer, *(node for child in layer.children for node in every_node(child))]


def test_names_convert_as_the_published_correspondence_says():
    for published, diffusers in {
        "input_blocks.0.0.weight": "conv_in.weight",
        "input_blocks.3.0.op.bias": "down_blocks.0.downsamplers.0.conv.bias",
        "input_blocks.5.0.skip_connection.weight": "down_blocks.1.resnets.1.conv_shortcut.weight",
        "input_blocks.8.1.transformer_blocks.9.attn2.to_out.0.bias": (
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0.bias"
        ),
        "middle_block.2.emb_layers.1.weight": "mid_block.resnets.1.time_emb_proj.weight",
        "output_blocks.2.2.conv.weight": "up_blocks.0.upsamplers.0.conv.weight",
        "output_blocks.8.0.out_layers.3.bias": "up_blocks.2.resnets.2.conv2.bias",
        "label_emb.0.2.weight": "add_embedding.linear_2.weight",
        "out.2.bias": "conv_out.bias",
    }.items():
        assert to_diffusers(published) == diffusers
        assert to_published(diffusers) == published


@pytest.mark.parametrize("name", ["input_blocks.9.0.in_layers.0.weight", "middle_block.3.x.y", "lost.weight", "weight"])
def test_names_without_a_place_are_refused(name):
    with pytest.raises(ValueError, match="has no place in SDXL"):
        to_diffusers(name)


def test_every_tensor_is_in_the_tree_once_and_parents_add_up(header, root):
    assert set(root.tensors) == set(unet_names(header.tensors).values())
    assert root.parameters == sum(
        info.elements for name, info in header.tensors.items() if name.startswith(UNET_PREFIX)
    )
    for node in every_node(root):
        assert node.parameters == sum(node.sizes) and len(node.sizes) == len(node.tensors)
        assert all(name.startswith(node.path) for name in node.tensors)
        if node.children:
            assert [name for child in node.children for name in child.tensors] == list(node.tensors)


def test_the_tree_is_in_the_order_of_the_forward_pass(root):
    assert [child.path for child in root.children] == [
        *("conv_in", "time_embedding", "add_embedding", "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block"),
        *("up_blocks.0", "up_blocks.1", "up_blocks.2", "conv_norm_out", "conv_out"),
    ]
    middle = next(child for child in root.children if child.path == "mid_block")
    assert [child.name for child in middle.children] == ["resnets.0", "attentions.0", "resnets.1"]
    attention = middle.children[1]
    assert [child.name for child in attention.children] == [
        *("norm", "proj_in", "transformer_blocks.0", "transformer_blocks.1", "proj_out")
    ]
    assert [child.name for child in attention.children[2].children] == [
        "norm1",
        "attn1",
        "norm2",
        "attn2",
        "norm3",
        "ff",
    ]
    assert [child.label for child in attention.children[2].children[1].children] == ["Query", "Key", "Value", "Output"]


def test_text_encoders_have_trees_of_all_their_tensors(header):
    trees = text_trees(header)
    assert [tree.path for tree in trees] == ["text_encoder", "text_encoder_2"]
    assert {name for tree in trees for name in tree.tensors} == set(text_tensors(header))
    for node in (node for tree in trees for node in every_node(tree)):
        assert all(name.startswith(f"{node.path}.") for name in node.tensors)
        if node.children:
            assert [name for child in node.children for name in child.tensors] == list(node.tensors)
    labels = [child.label for child in trees[1].children]
    assert labels[:2] == ["Embeddings", "Layer 0"] and labels[-2:] == ["Final norm", "Projection of the pooled vector"]
    learning = learning_text(trees[0].tensors, TextEncoders(train="first"))
    assert learning and learning < set(trees[0].tensors)


def test_words_match_whole_parts_and_patterns_whole_names(root):
    names = root.tensors
    assert select(names, ["attn1"]).trained == {name for name in names if ".attn1." in name}
    assert select(names, ["attentions.0"]).trained == {name for name in names if ".attentions.0." in name}
    assert select(names, ["conv_in"]).trained == {"conv_in.weight", "conv_in.bias"}
    assert select(names, ["*.bias"]).trained == {name for name in names if name.endswith(".bias")}
    assert select(names, ["mid_block*"], ["ff", "*.bias"]).trained == {
        name for name in names if name.startswith("mid_block") and ".ff." not in name and not name.endswith(".bias")
    }


def test_patterns_that_match_nothing_are_reported_in_order(root):
    selection = select(root.tensors, ["attn", "attn1", "ATTN1"], ["down_blocks.9.*", "attn1"])
    assert selection.unmatched == ("attn", "ATTN1", "down_blocks.9.*")
    assert selection.trained == frozenset()


def test_patterns_for_any_set_select_exactly_that_set(root, speller):
    draw = random.Random(0)
    nodes = every_node(root)
    known = Spelling(("*",))
    for _ in range(150):
        chosen: set[str] = set()
        for node in draw.sample(nodes, draw.randrange(1, 8)):
            chosen |= set(node.tensors)
        if draw.random() < 0.5:
            chosen -= set(draw.sample(root.tensors, draw.randrange(1, 30)))
        wanted = speller.mask(chosen)
        patterns = speller.patterns(wanted)
        assert select(root.tensors, patterns).trained == chosen == speller.chosen(wanted)
        assert len(patterns) <= max(len(chosen), 1)
        spelling = speller.spell(wanted, known)
        assert select(root.tensors, spelling.train, spelling.freeze).trained == chosen
        assert spelling.length <= len(patterns)
        known = spelling if draw.random() < 0.7 else Spelling(("depth:1", "attn2", "nowhere"), ("*.bias",))


def test_what_a_person_wrote_stays_where_it_still_says_what_is_wanted(speller):
    def spelt(train, freeze, wanted_train, wanted_freeze=()):
        wanted = speller.selected(Spelling(wanted_train, wanted_freeze))
        return speller.spell(wanted, Spelling(train, freeze))

    assert spelt(("depth:1",), (), ("depth:1", "mid_block")) == Spelling(("depth:1", "mid_block.*"))
    assert spelt(("*",), (), ("*",), ("mid_block",)) == Spelling(("*",), ("mid_block.*",))
    assert spelt(("down_blocks*", "attn2"), (), ("down_blocks", "attn2", "conv_in")) == Spelling(
        ("down_blocks*", "attn2", "conv_in.*")
    )
    assert spelt(("attn1", "attn2"), ("*.bias",), ("attn1", "attn2"), ("*.bias", "mid_block")) == Spelling(
        ("attn1", "attn2"), ("*.bias", "mid_block.*")
    )
    assert spelt(("attn1",), ("attn1",), ("*",)) == Spelling(("*",))
    assert speller.spell(0, Spelling(("*",))) == Spelling(())


def test_kinds_and_presets_mean_something_in_every_unet(root, speller):
    for patterns in (*(kind.patterns for kind in KINDS), *(preset.spelling.train for preset in PRESETS)):
        assert select(root.tensors, patterns).trained
    whole = [preset for preset in PRESETS if speller.selected(preset.spelling) == speller.every]
    assert [preset.label for preset in whole] == ["Everything"]
    # Every layer is of some kind.
    assert select(root.tensors, [pattern for kind in KINDS for pattern in kind.patterns]).trained == set(root.tensors)


def test_patterns_are_short_where_the_choice_is_simple(root):
    def patterns(*train: str) -> list[str]:
        return patterns_for(root, select(root.tensors, train).trained)

    assert patterns("*") == ["*"]
    assert patterns() == []
    assert patterns("mid_block") == ["mid_block.*"]
    assert sorted(patterns("attn1", "attn2")) == ["attn1", "attn2"]
    assert sorted(patterns("ff", "down_blocks.0")) == ["down_blocks.0.*", "ff"]
    assert patterns("conv_in.bias") == ["conv_in.bias"]


def test_count_and_human_readable_numbers(root):
    assert count(root, {"conv_in.weight", "conv_in.bias", "not.there"}) == 32 * 4 * 9 + 32
    assert [human(n) for n in (0, 999, 1000, 77_049, 20_800_000, 999_600, 2_567_463_684, 956_000_000)] == [
        *("0", "999", "1.00 K", "77.0 K", "20.8 M", "1.00 M", "2.57 B", "956 M")
    ]


def test_the_depths_are_read_off_the_names(header):
    topology = read_topology(header.tensors)
    assert (topology.depths, topology.middle_depth) == ((0, 1, 2), 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b'{"error": "gated"}', "JSON text"),
        (b"PK\x03\x04archive/data.pkl", "pickled"),
        (b"\x80\x02}q\x00X\x05\x00", "pickled"),
        (b"GGUF\x03\x00\x00\x00\x00\x00\x00", "GGUF"),
        (bytes(64), "only zeros"),
        (b"\x10\x00", "cut short"),
        (struct.pack("<Q", 1 << 60) + b"x" * 20, "announce a header of 1,152,921,504,606,846,976 bytes"),
        (struct.pack("<Q", 1000) + b'{"a": ', "cut short: its header alone"),
        (struct.pack("<Q", 9) + b"not json!", "its header is not JSON"),
        (struct.pack("<Q", 10) + b'["a", "b"]', "its header is not a table"),
    ],
)
def test_files_that_are_something_else_are_named_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    assert sentence in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"is a folder: name a \.safetensors file in it"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "size", "sentence"),
    [
        ((0, 4), (4, 10), 9, "is cut short: 9 of 10 bytes"),
        ((0, 4), (4, 10), 11, "1 bytes too many"),
        ((0, 4), (2, 6), 6, "b overlaps"),
        ((0, 4), (6, 10), 10, "b leaves a gap"),
        ((0, 4), (8, 4), 8, "not what its shape says"),
        ((0, 4), (-2, 4), 4, "no natural number"),
    ],
)
def test_tables_that_do_not_fit_the_data_are_refused(write_header, first, second, size, sentence):
    header = {
        name: {"dtype": "F16", "shape": [abs(end - start) // 2], "data_offsets": [start, end]}
        for name, (start, end) in (("a", first), ("b", second))
    }
    with pytest.raises(CheckpointError, match=sentence):
        read_header(write_header({}, header=header, data=bytes(size)))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"dtype": "F16", "shape": [2]}, "malformed"),
        ({"dtype": "F17", "shape": [2], "data_offsets": [0, 4]}, "stores a as F17"),
        ({"dtype": "F16", "shape": [3], "data_offsets": [0, 4]}, "not what its shape says"),
        ({"dtype": "F16", "shape": [2.0], "data_offsets": [0, 4]}, "no natural number"),
        ("F16", "malformed"),
    ],
)
def test_malformed_entries_are_refused(write_header, entry, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        read_header(write_header({}, header={"a": entry}, data=bytes(4)))


def test_headers_are_read_with_their_metadata(write_header):
    header = read_header(write_header({"a": [2], "b": [3]}))
    assert header.tensors["b"] == TensorInfo("F16", (3,), (Piece(header.path, header.size - 6, 6),))
    assert read_header(write_header({}, header={"__metadata__": {"a": "1"}}, data=b"")).metadata == {"a": "1"}
    with pytest.raises(CheckpointError, match="metadata must map texts to texts"):
        read_header(write_header({}, header={"__metadata__": {"a": 1}}, data=b""))


def test_any_truncation_of_a_checkpoint_is_refused(demo_checkpoint, tmp_path):
    content = demo_checkpoint.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    path = tmp_path / "cut.safetensors"
    for size in (1, 9, 8 + length // 2, 8 + length, 9 + length, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError):
            read_header(path)
