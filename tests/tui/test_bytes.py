"""What screens send to the terminal, at 120x40, in as many colours as there are: those take most bytes to say."""

import fake_checkpoint
import gallery
import layer_trees
import pytest
import seen

from aozora_tui.screens.layers_open import layers_screen
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.fields import sections

SIZE = (120, 40)
KEY, MOVE, LEAP, OPENING = 2048, 1024, 2560, 6144

OPENED = {
    "profile": ("e",),
    "search": ("e", "slash"),
    "differ": ("e", "v"),
    "layers": ("e", "f4"),
    "curves": ("e", "c"),
    "start": ("s",),
    "recipes": ("n",),
    "help": ("question_mark",),
    "settings": ("9",),
}
# In the form, from a field on: what is typed, taken back, completed, gone to.
TYPED = {
    "data.resolution": ("backspace", "5", "plus", "minus", "ctrl+up", "f8", "f7", "ctrl+y"),
    "data.background": ("x", "f7"),
    "data.folders": ("end", "enter", "a", "backspace", "up", "f7", "f7"),
    "model.base": ("backspace", "backspace", "tab", "x", "f7", "down", "tab"),
    "objective.loss_weight": ("space", "space", "left", "f7", "f8"),
    "objective.weight_curve": ("5", "enter", "x", "f7"),
    "save.every": ("9", "f8", "f10", "f10"),
}
# The same, and each time one waits for the check.
CHECKED = {
    "data.resolution": ("backspace", "x", "f7"),
    "memory.limit": ("1", "backspace", "e", "f8"),
    "model.base": ("backspace", "f7"),
    "objective.prediction_type": ("space", "f7"),
    "objective.zero_terminal_snr": ("space", "f7"),
    "optimizer.rates": ("a", "f7"),
    "preview.prompts": ("a", "f7"),
}
USED = {
    "differ": ("tab", "down", "x", "u", "tab", "tab", "shift+tab"),
    "curves": ("right", "up", "K", "comma", "less_than_sign", "i", "x", "enter", "5", "escape", "u", "L", "s", "tab"),
    "home": ("down", "tab", "down", *["o"] * 6, "slash", "p", "o", "backspace", "escape"),
    "tags": ("x", "backspace", "slash", "backspace", "escape", "i", "a", "b", "escape"),
    "search": ("backspace", *["down"] * 12, *["backspace"] * 5, *["down"] * 40, *"zz", "escape"),
}


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("STY", raising=False)


def shown(name):
    return gallery.shown(name, SIZE, driver_class=seen.CountingDriver)


async def settle(pilot):
    await seen.work_done(pilot.app)
    await pilot.pause()


async def sent(pilot, key):
    """For a key, with what threads find out because of it."""
    pilot.app._driver.sent = 0
    await pilot.press(key)
    await settle(pilot)
    return pilot.app._driver.sent


async def checked(pilot, key):
    """For a key in the form, with what the check says when one stops typing."""
    cost = await sent(pilot, key)
    pilot.app.screen.check_now()
    await settle(pilot)
    return max(pilot.app._driver.sent, cost)


async def costs_of(pilot, fields, measure):
    found = {}
    for path, keys in fields.items():
        pilot.app.screen.go_to(path)
        await settle(pilot)
        for index, key in enumerate(keys):
            found[f"{path}: {key} ({index})"] = await measure(pilot, key)
    return found


async def test_a_screen_opens_in_few_bytes_and_then_sends_nothing(own_place, monkeypatch):
    monkeypatch.setenv("HOME", str(own_place))
    async with shown("home") as pilot:
        await pilot.press("tab")
        await pilot.pause()
        home = pilot.app.screen
        for name, keys in OPENED.items():
            for key in keys:
                cost = await sent(pilot, key)
            assert 500 < cost <= OPENING, name
            pilot.app._driver.sent = 0
            for _ in range(3):
                pilot.app.tick()
                await pilot.pause()
            assert pilot.app._driver.sent == 0, name
            while pilot.app.screen is not home:
                pilot.app.pop_screen()
                await settle(pilot)


async def test_going_through_the_form_takes_few_bytes_a_key():
    async with shown("profile") as pilot:
        await pilot.press("escape", "home")
        await settle(pilot)
        costs = {}
        for section in sections():
            costs[f"into {section.name}"] = await sent(pilot, "right")
            for _ in pilot.app.screen._form().shown[1:]:
                costs[f"{section.name}: past {pilot.app.screen._at.path}"] = await sent(pilot, "down")
            costs[f"out of {section.name}"] = await sent(pilot, "escape")
            costs[f"past {section.name}"] = await sent(pilot, "down")
        assert len(costs) > 80
        assert not {key: cost for key, cost in costs.items() if cost > KEY}


async def test_typing_in_the_form_takes_few_bytes_a_key():
    async with shown("profile") as pilot:
        costs = await costs_of(pilot, TYPED, sent)
        assert not {key: cost for key, cost in costs.items() if cost > KEY}


async def test_problems_and_forecasts_that_a_key_brings_are_paid_with_it():
    async with shown("profile") as pilot:
        costs = await costs_of(pilot, CHECKED, checked)
        assert max(costs.values()) > 1000
        assert not {key: cost for key, cost in costs.items() if cost > KEY}
        # Back in another section to a value that brings a problem of six lines, and another forecast: two screens.
        await costs_of(pilot, {"memory.limit": ("5", "f8"), "preview.prompts": ()}, checked)
        jump = await checked(pilot, "f7")
        assert pilot.app.screen._at.path == "memory.limit"
        assert jump <= LEAP


@pytest.mark.parametrize(("name", "keys"), USED.items(), ids=USED)
async def test_a_key_on_another_screen_takes_few_bytes(name, keys, own_place, monkeypatch):
    monkeypatch.setenv("HOME", str(own_place))
    async with shown(name) as pilot:
        costs = [await sent(pilot, key) for key in keys]
        assert any(costs)
        assert not [pair for pair in zip(keys, costs, strict=True) if pair[1] > KEY]


async def test_going_through_a_folder_of_many_files_takes_few_bytes_a_key():
    async with shown("profile") as pilot:
        for number in range(60):
            fake_checkpoint.write(places.data_folder() / "models" / f"model-{number:02}.safetensors")
        pilot.app.screen.go_to("model.base")
        await settle(pilot)
        assert await sent(pilot, "ctrl+g") <= OPENING
        keys = (*["down"] * 32, *["up"] * 32, "pagedown", "slash", "4", "backspace")
        costs = [await sent(pilot, key) for key in keys]
        assert not [pair for pair in zip(keys, costs, strict=True) if pair[1] > KEY]


@pytest.mark.parametrize(("name", "most"), [("xterm-256color", MOVE // 2), ("screen-256color", MOVE)])
async def test_moving_in_a_fully_unfolded_tree_costs_little(name, most, own_place, monkeypatch):
    """Lines that stay on the screen are moved by the terminal. A leap shows a whole page of others; a terminal that
    does not colour what it erases has to be sent the blanks too."""
    monkeypatch.setenv("TERM", name)
    header = read_base(fake_checkpoint.write(own_place / "sdxl.safetensors"))
    async with shown("home") as pilot:
        screen = layers_screen(layer_trees.profile_of(header, layer_trees.TEXT), own_place)
        pilot.app.push_screen(screen)
        await settle(pilot)
        for root in screen.trees.roots:
            screen.layer_tree.go_to(root.index)
            await pilot.press("plus")
        await pilot.press("home")
        await settle(pilot)
        assert len(screen.layer_tree.lines) == len(screen.trees.nodes) > 1800
        for keys in (["down"] * 40, ["up"] * 36):
            assert max([await sent(pilot, key) for key in keys]) <= most
            assert max([await sent(pilot, key) for key in ["pagedown"] * 4]) <= LEAP
        assert max([await sent(pilot, key) for key in ("end", "home")]) <= LEAP
