"""The tree of layers on the screen: its keys, what it says and costs, and how few bytes it sends."""

from __future__ import annotations

import tomllib

import fake_checkpoint
import msgspec
import pytest
import seen
from forms import AppForAScreen, paste
from layer_trees import RATES, TEXT, node_at, profile_of
from textual.widgets import Input

from aozora_tui.screens.ask import Ask
from aozora_tui.screens.layers import LayersScreen
from aozora_tui.screens.layers_menu import KindsMenu, PresetsMenu
from aozora_tui.screens.layers_open import layers_screen
from aozora_tui.screens.layers_sheet import Sheet
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.budget import forecast
from engine.contract.nvml_reading import Reading

CARD = Reading(
    0,
    "NVIDIA GeForce RTX 4070",
    "GPU-1",
    "580.95",
    1 << 30,
    12 << 30,
    11 << 30,
    utilisation=0,
    power=9.0,
    power_limit=200.0,
)


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    return read_base(fake_checkpoint.write(tmp_path_factory.mktemp("base") / "sdxl.safetensors"))


def app(**more) -> AppForAScreen:
    return AppForAScreen(ticking=False, read_gpu=lambda pid: (CARD,), **more)


async def opened(pilot, header, extra="", answers=None) -> LayersScreen:
    screen = layers_screen(profile_of(header, extra), header.path.parent)
    pilot.app.push_screen(screen, (answers if answers is not None else []).append)
    await settle(pilot)
    return screen


async def settle(pilot) -> None:
    await pilot.pause()
    await seen.work_done(pilot.app)
    await pilot.pause()


async def press(pilot, *keys) -> None:
    await pilot.press(*keys)
    await settle(pilot)


async def typed(pilot, text) -> None:
    await paste(pilot, text)
    await settle(pilot)


def lines(pilot) -> str:
    return seen.text(pilot.app)


async def test_a_selection_is_made_in_the_tree_and_given_to_who_asked(header):
    answers = []
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header, answers=answers)
        assert "2.57 B of 2.57 B, 100 %" in lines(pilot)
        await press(pilot, "x", "enter")
        assert "Nothing is left to train" in lines(pilot)
        while screen.layer_tree.cursor_node.label != "Middle block":
            await press(pilot, "down")
        await press(pilot, "space")
        assert "[x] Middle block" in lines(pilot) and "[-] UNet" in lines(pilot)
        assert "*layers.train  mid_block.*" in lines(pilot)
        await press(pilot, "u", "u", "u")
        assert not screen.changes and "no change to take back" in lines(pilot)
        await press(pilot, "i", "space", "enter")
    assert answers == [{"layers.train": ["mid_block.*"]}]


async def test_changes_are_not_lost_by_one_key(header):
    answers = []
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, header, answers=answers)
        await press(pilot, "x", "escape")
        assert isinstance(pilot.app.screen, Ask)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, LayersScreen)
        await press(pilot, "a", "escape")  # as it was
    assert answers == [None]


async def test_a_text_encoder_learns_whole_and_says_so_when_asked_for_a_part(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header)
        await press(pilot, "end", "space")
        assert "*text_encoders.train  second" in lines(pilot) and "and text encoder 2" in lines(pilot)
        await press(pilot, "right", "right")
        assert screen.layer_tree.cursor_node.label == "Embeddings"
        await press(pilot, "space")
        assert "learns whole or not at all: space on Text encoder 2, bigG" in lines(pilot)
        assert screen.changes == {"text_encoders.train": "second"}


async def test_a_frozen_table_is_shown_as_what_never_learns(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header, TEXT)
        trees = screen.trees
        screen.layer_tree.go_to(node_at(trees, "text_encoder.embeddings.token_embedding").index)
        await settle(pilot)
        assert "    Token embedding" in lines(pilot) and "never" in lines(pilot)
        await press(pilot, "f")
        assert "never learns: a factor would do nothing" in lines(pilot)
        await press(pilot, "home", "f")
        assert "that is optimizer.learning_rate itself" in lines(pilot)


async def test_kinds_are_toggled_together_and_presets_taken_whole(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header)
        await press(pilot, "t")
        assert isinstance(pilot.app.screen, KindsMenu) and "esc leave all as it was" in lines(pilot)
        await press(pilot, "space", "down", "space", "enter")
        assert screen.changes == {"layers.freeze": ["attn1", "attn2"]}
        await press(pilot, "t", "space", "escape")
        assert screen.changes == {"layers.freeze": ["attn1", "attn2"]}
        await press(pilot, "p")
        assert isinstance(pilot.app.screen, PresetsMenu) and "85.9 %" in lines(pilot)
        await press(pilot, "enter")
        v01 = tomllib.loads((places.shipped_profiles_folder() / "aozora-xl-v0.1.toml").read_text())
        assert screen.changes == {"layers.train": v01["layers"]["train"]}
        await press(pilot, "u")
        assert screen.changes == {"layers.freeze": ["attn1", "attn2"]}


async def test_patterns_factors_and_names_are_typed_below_the_tree(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header)
        await press(pilot, "m")
        assert isinstance(pilot.app.screen.focused, Input)
        await typed(pilot, "-atn2")
        assert "Did you mean `attn2`?" in lines(pilot)
        await press(pilot, "enter", "escape", "m")
        await typed(pilot, "-attn2")
        assert "350 tensors, 546 M: 78.7 % of the UNet then" in lines(pilot)
        await press(pilot, "enter")
        assert screen.changes == {"layers.freeze": ["attn2"]}
        await press(pilot, "slash")
        await typed(pilot, "mid_block")
        await press(pilot, "enter")
        assert screen.layer_tree.cursor_node.layer.path == "mid_block" and "1 of 1 layer found" in lines(pilot)
        await press(pilot, "f")
        await typed(pilot, "0.5")
        assert "x 0.5 on the learning rate" in lines(pilot)
        await press(pilot, "enter")
        assert screen.changes["optimizer.rates"] == {"mid_block.*": 0.5}
        assert "x 0.5" in next(line for line in lines(pilot).splitlines() if "Middle block" in line)


async def test_the_next_found_layer_is_unfolded_and_the_search_goes_round(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header)
        await press(pilot, "slash")
        await typed(pilot, "cross-attention")
        await press(pilot, "enter")
        tree, first = screen.layer_tree, screen.layer_tree.cursor_node.layer.path
        assert first == "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
        assert tree.cursor_node in tree.lines
        await press(pilot, "n")
        assert tree.cursor_node.layer.path.startswith("down_blocks.1.attentions.0.transformer_blocks.1.")
        await press(pilot, "N", "N")
        assert "70 of 70 layers found" in lines(pilot) and tree.cursor_node.layer.path.startswith("up_blocks.1.")


async def test_the_cost_of_a_layer_is_what_the_forecast_differs_by(header):
    extra = '[memory]\nplan = "plain"\n'
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, header, extra)
        await press(pilot, "space", "down")
        middle = node_at(screen.trees, "mid_block")
        screen.layer_tree.go_to(middle.index)
        await settle(pilot)
        profile, root = profile_of(header, extra), screen.trees.unet
        choice = screen._cost[2].ahead.cost.choice
        costs = [forecast(profile, root, frozenset(names), header, choice) for names in (middle.layer.tensors, ())]
        card, host = (getattr(costs[0], part) - getattr(costs[1], part) for part in ("device", "host"))
        assert card > 4 * middle.layer.parameters  # the sums of its gradients, at the least
        said = screen.query_one("#layer-here", Sheet).text
        assert said.split() == ["layer", "adds", "card", f"{card / 2**30:.2f}", "host", f"{host / 2**30:.2f}", "GiB"]


async def test_it_is_whole_at_any_size_and_in_ascii(header, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    for size in ((60, 15), (80, 24), (200, 60)):
        async with app().run_test(size=size) as pilot:
            screen = await opened(pilot, header, TEXT + RATES)
            await press(pilot, "down", "space", "end", "right")
            assert lines(pilot).isascii()
            assert all(len(line) <= size[0] for line in lines(pilot).splitlines())
            assert screen.layer_tree.cursor_node.label in lines(pilot) and "* layers" not in lines(pilot)


async def test_a_base_that_cannot_be_read_is_said_in_a_sentence(header, tmp_path):
    profile = profile_of(header)
    gone = msgspec.structs.replace(profile, model=msgspec.structs.replace(profile.model, base="gone.safetensors"))
    with pytest.raises(ValueError, match="does not exist"):
        layers_screen(gone, tmp_path)


async def test_training_a_layer_or_all_of_them_costs_little(header):
    async with app(driver_class=seen.CountingDriver).run_test(headless=False, size=(120, 40)) as pilot:
        screen = await opened(pilot, header, TEXT)
        await press(pilot, "plus")
        assert len(screen.layer_tree.lines) > 1300
        driver = pilot.app._driver
        await press(pilot, *["down"] * 20)
        driver.sent = 0
        await press(pilot, "space")
        one = driver.sent
        await press(pilot, "home")
        driver.sent = 0
        await press(pilot, "space")
        assert one <= 1024 and driver.sent <= 2048
        driver.sent = 0
        await settle(pilot)
        assert driver.sent == 0


async def test_boxes_and_folds_take_clicks(header):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, header)
        shown = lines(pilot).splitlines()
        y = next(row for row, line in enumerate(shown) if "Middle block" in line)
        await pilot.click(offset=(shown[y].index("[x]") + 1, y))
        await settle(pilot)
        assert screen.changes == {"layers.freeze": ["mid_block.*"]}
        await pilot.click(offset=(shown[y].index("+"), y))
        await settle(pilot)
        assert "[ ] Resnet 1" in lines(pilot)
