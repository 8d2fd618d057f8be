"""One table of keys: complete, without clashes, and nothing bound outside it."""

import importlib
import inspect
import pkgutil

import pytest
from textual.binding import Binding
from textual.widget import Widget

import aozora_tui
from aozora_tui.app import AozoraApp
from aozora_tui.key_names import shown
from aozora_tui.keymap import SCOPES
from aozora_tui.own_keys import groups
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.choice import Choice
from aozora_tui.screens.help import HEADINGS, Help
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.layers_tree import LayerTree
from aozora_tui.screens.lines import Lines
from aozora_tui.screens.rows import Rows

MODULES = [
    importlib.import_module(one.name)
    for one in pkgutil.walk_packages(aozora_tui.__path__, f"{aozora_tui.__name__}.")
    if not one.name.endswith(".__main__")
]
# Everything of ours on the screen; of it the screens that hold keys, and of those the ones that are opened.
OWNERS = sorted(
    {
        one
        for module in MODULES
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, Widget) and one.__module__.startswith("aozora_tui.")
    },
    key=lambda owner: owner.__name__,
)
SCREENS = [owner for owner in OWNERS if issubclass(owner, AozoraScreen) and owner is not AozoraScreen and owner.scopes]
OPENED = [
    owner
    for owner in OWNERS
    if issubclass(owner, AozoraScreen) and not any(issubclass(one, owner) and one is not owner for one in OWNERS)
]
PANELS = {"app", "ask", "help"}
# Never the only way to do something: other programs take them, or they are another key in disguise.
UNSAFE = {"ctrl+m", "ctrl+i", "ctrl+h", "ctrl+j", "ctrl+a", "ctrl+b", "ctrl+s", "ctrl+o", "ctrl+q", "ctrl+p", "ctrl+z"}
UNSAFE |= {"f1", "f3", "f5", "f11", "ctrl+enter", "shift+enter"}


@pytest.mark.parametrize("owner", [AozoraApp, *(owner for owner in OWNERS if owner is not Lines)])
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


@pytest.mark.parametrize("screen", OPENED)
def test_every_screen_holds_keys_and_binds_its_own(screen):
    assert screen.scopes and set(screen.scopes) <= set(SCOPES)
    bound = {binding.id for base in screen.__mro__ for binding in vars(base).get("BINDINGS", ()) if binding}
    assert {key.id for key in SCOPES[screen.scopes[0]]} <= bound


def test_every_scope_holds_somewhere():
    assert {scope for screen in OPENED for scope in screen.scopes} | PANELS == set(SCOPES)


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
            # Screens that share a scope may lack an action of it, which they then do not offer (`check_action`).
            owners = targets.get(scope, (*(one for one in SCREENS if scope in one.scopes), AozoraApp))
            assert any(hasattr(owner, name) for owner in owners), f"{key.id}: nobody has {name}"


@pytest.mark.parametrize("screen", SCREENS)
def test_what_holds_on_a_screen_is_known_to_hold_together(screen):
    """Else a person's key could mean two things there, and nobody would tell."""
    assert any({*screen.scopes, "app"} <= set(group) for group in groups()), screen.scopes


def test_where_arrows_move_the_keys_of_vim_do_too():
    """But for arrows that go on working while letters are typed, and where the letter opens or closes a run's log."""
    typed = {"picker.down", "picker.up", "pick.down", "pick.up", "run.right", "log.right"}
    for keys in SCOPES.values():
        for key in keys:
            names = set(key.keys.split(","))
            for arrow, letter in (("down", "j"), ("up", "k"), ("left", "h"), ("right", "l")):
                assert arrow not in names or letter in names or key.id in typed, f"{key.id} has no {letter}"


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
        for key in screen.active_keys():
            assert key.help in offered or not key.in_palette or key.id == "app.palette"
