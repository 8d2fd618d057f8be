"""What a person at the profile editor once lost, or was not told."""

import os
import signal
import stat
import sys

import fake_checkpoint
import fake_run
import pytest
import seen
from layer_trees import trees_of
from rich.segment import Segment
from test_home import home, own_profile
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Key
from textual.strip import Strip

from aozora_tui import editor, settings
from aozora_tui.app import AozoraApp
from aozora_tui.changed_cells import _cells
from aozora_tui.screens.curve_words import never_trained
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.layers_open import layers_screen
from aozora_tui.screens.layers_prompt import MATCH_HINT, found, match
from aozora_tui.screens.lines import entries, entry_lines
from aozora_tui.screens.profile_number import stepped
from aozora_tui.screens.run import RunScreen
from aozora_tui.screens.settings import SettingsScreen
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.fields import form_fields
from engine.contract.sections import Objective
from engine.contract.text_tensors import published_name, text_tensors
from engine.contract.timesteps import density
from engine.contract.unet_names import to_published

NUMBERS = [field for field in form_fields().values() if field.kind in ("integer", "number")]


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    return read_base(fake_checkpoint.write(tmp_path_factory.mktemp("base") / "sdxl.safetensors"))


@pytest.mark.parametrize("texts", [["a", "", "b"], [""], [" ", '""', '" "', "a\nb"], ['"quoted"']])
def test_a_list_of_texts_keeps_all_of_its_entries(texts):
    assert entries("texts", "\n".join(entry_lines(texts, "texts")), texts) == texts


def test_what_steers_a_terminal_is_not_sent():
    strip = Strip([Segment("a\x1b[2J\x07\x7f\x9b31m\udc80\u202eb"), Segment("\x1b]0;x")])
    sent = "".join(cell[0] for cell in _cells(strip) if cell)
    assert sent == "a[2J31m?b]0;x"
    assert sent.encode()


@pytest.mark.parametrize("text", ["1e99999999", "-1e99999999", "1e-99999999", "0e99999999", "9" * 400, "1e301", "1_0"])
@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.path)
def test_no_number_is_too_strange_for_a_step(field, text):
    for by in (1, -1):
        made = stepped(field, text, by)
        assert made is None or len(made) < 400


@pytest.mark.parametrize(
    ("name", "text", "up", "down"),
    [
        ("data.resolution", "1000", "1024", "960"),
        ("train.steps", "523", "550", "500"),
        ("train.steps", "1e3", "1500", "950"),
        ("train.steps", "10.5", "11", "10"),
    ],
)
def test_a_step_comes_to_the_grid_and_whole_numbers_stay_whole(name, text, up, down):
    assert (stepped(form_fields()[name], text, 1), stepped(form_fields()[name], text, -1)) == (up, down)


def test_the_files_own_names_are_found_and_matched(header):
    trees = trees_of(header)
    for pattern in ("input_blocks.4", "model.diffusion_model.input_blocks.4", "input_blocks.4.*"):
        after = match(trees, trees.choose(trees.start, 0), pattern).chosen
        wanted = {name for name in trees.unet.tensors if to_published(name).startswith("input_blocks.4.")}
        assert wanted and trees.speller.chosen(after.unet) == wanted
        assert trees.speller.selected(after.spelling) == after.unet  # in words that the engine knows
    labels = [trees.nodes[index].label for index in found(trees, "conditioner.embedders.0")]
    assert labels == ["Text encoder 1, CLIP-L"]
    assert found(trees, "model.diffusion_model.input_blocks.1")
    assert "as a whole" in match(trees, trees.start, "conditioner.embedders.0").text
    assert len(MATCH_HINT) <= 78


def test_every_text_tensor_is_called_as_its_file_calls_it(header):
    made = {name: published_name(name) for name in text_tensors(header)}
    assert made == {name: tensor.published for name, tensor in text_tensors(header).items()}


def test_timesteps_that_are_never_drawn_are_said():
    assert never_trained(density(Objective(timesteps="noisier_half"))) == ["timesteps below 500 are never trained"]
    assert never_trained(density(Objective(timesteps="uniform"))) == []


async def settle(pilot):
    await pilot.pause()
    await seen.work_done(pilot.app)
    await pilot.pause()


async def test_costs_are_counted_again_after_they_failed_once(header):
    from layer_trees import profile_of

    state = {"broken": False}

    def read(_pid):
        if state["broken"]:
            raise OSError("the driver is away")
        return ()

    app = AozoraApp(ticking=False, read_gpu=read)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        state["broken"] = True
        app.push_screen(layers_screen(profile_of(header), header.path.parent))
        await settle(pilot)
        assert "what it costs is not known" in seen.text(app) and "the driver is away" in seen.text(app)
        state["broken"] = False
        await pilot.press("down")
        await settle(pilot)
        assert "not known" not in seen.text(app) and "all  " in seen.text(app)


async def test_undo_in_the_layers_says_what_it_undid_and_can_be_undone(header):
    from layer_trees import profile_of

    app = AozoraApp(ticking=False, read_gpu=lambda _pid: ())
    async with app.run_test(size=(80, 24)) as pilot:
        screen = layers_screen(profile_of(header), header.path.parent)
        app.push_screen(screen)
        await settle(pilot)
        await pilot.press("down", "space")
        after = screen.chosen
        label = screen.layer_tree.cursor_node.label
        await pilot.press("f7")
        await settle(pilot)
        assert f"Undone: {label}" in seen.text(app) and "frozen" in seen.text(app) and screen.chosen != after
        await pilot.press("U")
        await settle(pilot)
        assert f"Made again: {label}" in seen.text(app) and screen.chosen == after


@pytest.mark.parametrize("size", [(59, 24), (80, 14)])
async def test_keys_rest_while_nothing_can_be_seen_but_quitting_works(size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await pilot.press("n", "s", "enter", "9")
        assert isinstance(app.screen, HomeScreen) and len(app.screen_stack) == 1
        await pilot.press("ctrl+c")
        await pilot.pause()
    assert app.return_code == 0


async def test_names_of_profiles_are_readable_at_the_least_size():
    own_profile("a-long-name-x")
    app = home()
    async with app.run_test(size=(60, 15)) as pilot:
        await settle(pilot)
        assert "a-long-name-x" in seen.text(app)


async def test_the_lists_follow_a_window_that_grows_and_shrinks():
    own_profile("a-long-name-x")
    fake_run.trained(fake_run.make(places.runs_folder(), "a-long-name-x-20231112-101010"), 3, steps=20)
    app = home()
    async with app.run_test(size=(120, 40)) as pilot:
        for size in ((60, 15), (80, 24), (60, 15), (120, 40)):
            await pilot.resize_terminal(*size)
            await settle(pilot)
            assert "a-long-name-x-20231112" in seen.text(app)
        assert "loss" in seen.text(app)


async def test_ascii_terminals_get_ascii_alone(monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        for keys in ((), ("question_mark",), ("escape", "9"), ("escape", "colon"), ("a",)):
            await pilot.press(*keys)
            await settle(pilot)
            assert seen.text(app).isascii(), {char for char in seen.text(app) if not char.isascii()}


class Lending(HeadlessDriver):
    """A terminal that can be lent."""

    can_suspend = property(lambda self: True)
    lent = 0

    def suspend_application_mode(self):
        self.lent += 1

    def resume_application_mode(self):
        self.lent -= 1


async def test_the_terminal_comes_back_from_an_editor_that_fails(monkeypatch, tmp_path):
    broken = tmp_path / "editor"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("VISUAL", raising=False)
    app = AozoraApp(ticking=False, read_gpu=lambda _pid: (), driver_class=Lending)
    async with app.run_test(headless=False, size=(80, 24)):
        for named, said in ((str(broken), "could not be started"), ("no-such-program", "there is no such program")):
            monkeypatch.setenv("EDITOR", named)
            with pytest.raises(ValueError, match=said):
                editor.edit_behind(app, tmp_path / "a.toml")
            assert app._driver.lent == 0


def test_ctrl_c_in_the_editor_is_the_editors(monkeypatch, tmp_path):
    script = tmp_path / "editor.py"
    script.write_text(f"import os\nos.kill(os.getppid(), {int(signal.SIGINT)})\n")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    before = signal.getsignal(signal.SIGINT)
    editor.edit(tmp_path / "a.toml")
    assert signal.getsignal(signal.SIGINT) is before


async def test_the_settings_screen_follows_its_file_and_says_what_changed():
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("[look]\ntick = 2\n")
    app = AozoraApp(settings=settings.read(os.environ).with_keys(), ticking=False, read_gpu=lambda _pid: ())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("9")
        file.write_text('[look]\ntick = 3\n[keys]\n"app.quit" = "f12"\n')
        app.tick()
        await settle(pilot)
        said = seen.words(app)
        assert "keys.app.quit holds now" in said and "look.tick from the next start" in said
        assert "ctrl+c does not quit, F12 does" in said and "next start" in said
        await pilot.press("escape", "ctrl+c")
        assert "F12 quits" in seen.words(app)
        await pilot.press("9")
        file.write_text('[look]\ntick = "x"\n')
        app.tick()
        await settle(pilot)
        assert "wrong and left out" in seen.words(app)


async def test_a_key_and_a_tick_may_come_before_a_new_screen_has_anything_in_it():
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        run = fake_run.make(places.runs_folder(), "one")
        for screen in (SettingsScreen(), RunScreen(run)):
            app.push_screen(screen)
            assert app.screen is screen and not screen.is_mounted
            app.tick()
            await app.on_event(Key("down", None))
            await settle(pilot)
        assert isinstance(app.screen, RunScreen)
