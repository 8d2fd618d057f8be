"""One table of keys: complete, without clashes, and nothing bound outside it."""

import pytest
from textual.binding import Binding

from aozora_tui.app import AozoraApp
from aozora_tui.keymap import SCOPES, shown
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.ask_rate import AskRate
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.choice import Choice
from aozora_tui.screens.help import HEADINGS, Help
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.layers import LayersScreen, LayerTree
from aozora_tui.screens.log import LogScreen
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.profile_form import ProfileForm
from aozora_tui.screens.rows import Rows
from aozora_tui.screens.run import RunScreen

SCREENS = [HomeScreen, ProfileScreen, LayersScreen, RunScreen, LogScreen]
# Never the only way to do something: other programs take them, or they are another key in disguise.
UNSAFE = {"ctrl+m", "ctrl+i", "ctrl+h", "ctrl+j", "ctrl+a", "ctrl+b", "ctrl+s", "ctrl+o", "ctrl+q", "ctrl+p", "ctrl+z"}
UNSAFE |= {"f1", "f3", "f5", "f11", "ctrl+enter", "shift+enter"}


@pytest.mark.parametrize("owner", [AozoraApp, *SCREENS, ProfileForm, Ask, AskRate, Help, Rows, Choice, LayerTree])
def test_every_binding_has_an_id_and_a_help_text(owner):
    own = vars(owner).get("BINDINGS", ())
    assert all(isinstance(binding, Binding) and binding.id and binding.tooltip for binding in own)
    known = {key.id for keys in SCOPES.values() for key in keys}
    assert {binding.id for binding in own} <= known


def test_ids_are_unique_and_every_key_has_a_safe_form():
    keys = [key for listed in SCOPES.values() for key in listed]
    assert len({key.id for key in keys}) == len(keys)
    for key in keys:
        assert set(key.keys.split(",")) - UNSAFE, f"{key.id} hangs on {key.keys}"


@pytest.mark.parametrize("screen", SCREENS)
def test_no_key_means_two_things_on_one_screen(screen):
    taken: dict[str, str] = {}
    for scope in (*screen.scopes[:1], "app"):
        for key in SCOPES[scope]:
            for name in key.keys.split(","):
                assert name not in taken, f"{name}: {taken.get(name)} and {key.id}"
                taken[name] = key.id


@pytest.mark.parametrize("screen", SCREENS)
def test_every_action_exists_and_every_scope_has_a_heading(screen):
    targets = {"app": (AozoraApp,), "list": (Rows,), "choice": (Choice,), "tree": (LayerTree,)}
    for scope in (*screen.scopes, "app"):
        assert scope in HEADINGS
        for key in SCOPES[scope]:
            name = f"action_{key.action.partition('(')[0].rpartition('.')[2]}"
            owners = targets.get(scope, (screen, AozoraApp))
            assert any(hasattr(owner, name) for owner in owners), f"{key.id}: nobody has {name}"


@pytest.mark.parametrize(("key", "name"), [("question_mark", "?"), ("f10", "F10"), ("D", "D"), ("escape", "esc")])
def test_keys_are_written_as_on_the_keyboard(key, name):
    assert shown(key) == name


async def test_help_lists_every_key_of_the_screen():
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, Help)
        said = " ".join(str(line.content) for line in app.screen.query("Static"))
        for scope in ("home", "list", "app"):
            assert all(key.help in said for key in SCOPES[scope])
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_the_palette_offers_every_command_of_the_screen():
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(80, 24)):
        screen = app.screen
        assert isinstance(screen, AozoraScreen)
        offered = {command.help for command in app.get_system_commands(screen)}
        for key in (*SCOPES["home"], *SCOPES["app"]):
            assert key.help in offered or not key.in_palette or key.id == "app.palette"
