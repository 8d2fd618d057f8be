"""The screen of curves: every key, what it says in numbers, what it gives, and what it sends."""

import inspect
from pathlib import Path

import msgspec
import pytest
import seen
from textual.screen import Screen

from aozora_tui.app import AozoraApp
from aozora_tui.keymap import SCOPES
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.curve_kinds import KINDS
from aozora_tui.screens.curves import CurvesScreen
from engine.contract.curves import rate
from engine.contract.loss_weight import weights
from engine.contract.profile import decode_profile
from engine.contract.timesteps import density

DRAWN = {"schedule": {"shape": "curve", "curve": [[0, 0.1], [0.1, 1.0], [0.5, 0.6], [1, 0.0]]}}
DENSE = {"objective": {"timesteps": "curve", "timestep_curve": [[0, 1.0], [500, 2.0], [999, 1.0]]}}
FACTOR = {"objective": {"weight_curve": [[0, 1.0], [500, 0.5], [999, 1.0]]}}


class App(AozoraApp):
    """Without the first screen."""

    CSS_PATH = Path(inspect.getfile(AozoraApp)).parent / "aozora.tcss"

    def get_default_screen(self):
        return Screen()


def profile(**sections):
    raw = {"model": {"base": "a"}, "data": {"folders": [{"path": "b"}]}, "optimizer": {"learning_rate": 8e-7}}
    found, _ = decode_profile({**raw, "train": {"steps": 2000, "accumulate": 64}, **sections})
    assert found is not None
    return found


class Shown:
    """A screen in an app, and what it gave."""

    def __init__(self, path, sections, **options):
        self.app = App(ticking=False, read_gpu=lambda pid: (), **options)
        self.screen = CurvesScreen(profile(**sections), path)
        self.given = []

    async def open(self, pilot):
        self.pilot = pilot
        self.app.push_screen(self.screen, self.given.append)
        await pilot.pause()
        return self

    async def press(self, *keys):
        await self.pilot.press(*keys)
        await self.pilot.pause()

    @property
    def pairs(self):
        return [(point.at, point.value) for point in self.screen.sketch.points]

    @property
    def text(self):
        return seen.text(self.app)

    @property
    def message(self):
        return str(self.screen.query_one("#message").content)


@pytest.fixture
async def at(request):
    path, sections = getattr(request, "param", ("schedule.curve", DRAWN))
    shown = Shown(path, sections)
    async with shown.app.run_test(size=(80, 24)) as pilot:
        yield await shown.open(pilot)


def opened(path, sections=None):
    return pytest.mark.parametrize("at", [(path, sections or {})], indirect=True)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("schedule.shape", "[learning rate]"),
        ("schedule.curve", "[learning rate]"),
        ("optimizer.learning_rate", "[learning rate]"),
        ("objective.timesteps", "[timestep density]"),
        ("objective.timestep_curve", "[timestep density]"),
        ("objective.loss_weight", "[loss weight]"),
        ("objective.min_snr_gamma", "[loss weight]"),
    ],
)
async def test_it_opens_on_the_curve_of_the_field(path, name):
    shown = Shown(path, {})
    async with shown.app.run_test(size=(80, 24)) as pilot:
        await shown.open(pilot)
        assert name in shown.text


async def test_tab_and_brackets_go_through_the_curves(at):
    for key, name in (("tab", "timestep density"), ("]", "loss weight"), ("tab", "learning rate")):
        await at.press(key)
        assert f"[{name}]" in at.text
    for key, name in (("shift+tab", "loss weight"), ("[", "timestep density")):
        await at.press(key)
        assert f"[{name}]" in at.text


async def test_left_and_right_walk_along_the_points(at):
    places = []
    for key in ("right", "l", "right", "right", "left", "h", "end", "home"):
        await at.press(key)
        places.append(at.screen.sketch.cursor)
    assert places == [1, 2, 3, 3, 2, 1, 3, 0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("up", 0.61), ("k", 0.61), ("down", 0.59), ("j", 0.59)),
        *(("K", 0.7), ("shift+up", 0.7), ("J", 0.5), ("shift+down", 0.5)),
    ],
)
async def test_up_and_down_change_the_value(at, key, value):
    await at.press("right", "right", key)
    assert at.pairs == [(0, 0.1), (0.1, 1.0), (0.5, value), (1, 0)]


@pytest.mark.parametrize(("key", "place"), [(",", 0.495), (".", 0.505), ("<", 0.45), (">", 0.55)])
async def test_points_move_sideways(at, key, place):
    await at.press("right", "right", key)
    assert at.pairs[2] == (place, 0.6)


async def test_a_point_without_room_says_so(at):
    await at.press("<")
    assert at.pairs[0] == (0, 0.1) and "no room that way" in at.message


@pytest.mark.parametrize("keys", [("i", "x"), ("insert", "delete")])
async def test_points_are_added_in_between_and_removed(at, keys):
    await at.press("right", keys[0])
    assert at.pairs[1:4] == [(0.1, 1.0), (0.3, 0.8), (0.5, 0.6)]
    assert at.screen.sketch.cursor == 2
    await at.press(keys[1])
    assert len(at.pairs) == 4


async def test_the_last_point_of_a_drawn_curve_stays(at):
    await at.press(*["x"] * 6)
    assert len(at.pairs) == 1 and "The last point stays" in at.message


@opened("objective.weight_curve", FACTOR)
async def test_the_last_point_of_a_factor_may_go_and_leaves_the_weight_alone(at):
    await at.press("x", "x", "x", "f2")
    assert at.given == [{"objective.weight_curve": None}]


async def test_a_point_is_typed_exactly(at):
    await at.press("right", "right", "enter")
    box = at.screen.box
    assert box.has_focus and box.value == "0.5 0.6" and "share of the peak" in at.message
    await at.press(*["backspace"] * len(box.value), *"1500 12.5%", "enter")
    assert at.pairs == [(0, 0.1), (0.1, 1.0), (0.75, 0.125), (1, 0)]
    assert not box.has_focus and box.value == ""
    await at.press("right")
    assert at.screen.sketch.cursor == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("0.5", "Two numbers are expected"),
        ("a b", "Two numbers are expected"),
        ("nan 1", "Two numbers are expected"),
        ("3000 1", "shares of the run go from 0 to 1"),
        ("0.5 -1", "is not a number from 0"),
        ("0.1 1", "there is a point at 0.1 already"),
    ],
)
async def test_what_is_no_point_is_said_and_stays_to_be_mended(at, typed, said):
    await at.press("right", "right", "enter", *["backspace"] * 7, *typed)
    await at.press("enter")
    assert said.lower() in at.message.lower() and at.screen.box.value == typed
    await at.press("escape")
    assert at.pairs[2] == (0.5, 0.6) and not at.screen.box.has_focus
    assert at.app.screen is at.screen


async def test_letters_arrows_and_tab_are_the_entrys_while_it_is_open(at):
    before = at.pairs
    await at.press("enter", "x", "up", "down", "tab", "s", "u")
    assert at.pairs == before and at.screen.box.value == "0 0.1xsu"


async def test_f2_takes_what_is_being_typed(at):
    await at.press("right", "right", "enter", *["backspace"] * 3, *"0.7", "f2")
    assert at.given == [{"schedule.curve": [[0, 0.1], [0.1, 1.0], [0.5, 0.7], [1, 0.0]]}]


@opened("schedule.shape")
async def test_s_goes_through_the_shapes_and_back(at):
    await at.press("s", "s")
    assert "[constant]" in at.text
    await at.press("S", "w")
    assert at.given == [{"schedule.shape": "linear"}]


async def test_a_shape_in_place_of_points_takes_them_out_of_the_profile(at):
    await at.press("s")
    assert "[cosine]" in at.text
    await at.press("f2")
    assert at.given == [{"schedule.shape": None, "schedule.curve": None}]


async def test_points_come_back_while_the_screen_is_open(at):
    before = at.pairs
    await at.press("s", "S")
    assert at.pairs == before
    await at.press("f2")
    assert at.given == [None]


@opened("schedule.shape")
async def test_p_draws_the_schedule_as_points_and_the_contract_takes_them(at):
    await at.press("p")
    assert "[curve]" in at.text and at.screen.sketch.problems() == []
    await at.press("f2")
    (given,) = at.given
    assert given["schedule.shape"] == "curve"
    raw = {"model": {"base": "a"}, "data": {"folders": [{"path": "b"}]}, "train": {"steps": 2000}}
    made, problems = decode_profile({**raw, "schedule": {"shape": "curve", "curve": given["schedule.curve"]}})
    assert not [problem for problem in problems if problem.severity == "error"]
    before = profile().schedule
    off = [abs(rate(made.schedule, step, 2000) - rate(before, step, 2000)) for step in range(2000)]
    assert max(off) < 0.02


@opened("objective.loss_weight")
async def test_p_on_the_weight_makes_it_all_points(at):
    await at.press("p", "f2")
    (given,) = at.given
    assert given["objective.loss_weight"] == "none" and len(given["objective.weight_curve"]) > 4


@opened("objective.loss_weight")
async def test_i_begins_a_factor_on_the_shape(at):
    await at.press("i", "right", "J", "f2")
    (given,) = at.given
    assert given == {"objective.weight_curve": [[0, 1.0], [250, 0.9], [500, 1.0], [750, 1.0], [999, 1.0]]}


@opened("schedule.shape")
async def test_keys_of_points_say_what_to_do_first_where_there_are_none(at):
    for key in ("up", "K", ">", "x", "enter", "i"):
        await at.press(key)
        assert "turn it into points first" in at.message
    await at.press("f2")
    assert at.given == [None]


async def test_g_keeps_points_on_a_grid(at):
    await at.press("right", "right", "up", ",", "g")
    assert "grid" in at.text and at.pairs[2] == (0.5, 0.6)
    await at.press("up", ">")
    assert at.pairs[2] == (0.75, 0.65)
    await at.press("g", "up")
    assert at.pairs[2] == (0.75, 0.66)


async def test_the_logarithmic_axis_changes_what_a_key_does(at):
    await at.press("right", "right", "L")
    assert "log" in at.text.splitlines()[0]
    await at.press("K")
    assert at.pairs[2][1] == pytest.approx(0.6 * 10**0.2, rel=1e-3)
    await at.press("L", "K")
    assert at.pairs[2][1] == pytest.approx(0.6 * 10**0.2 + 0.1, rel=1e-3)


async def test_undo_takes_whole_changes_back_and_redo_makes_them_again(at):
    first = at.pairs
    await at.press("right", "up", "up", "up")
    second = at.pairs
    await at.press("right", "x")
    third = at.pairs
    await at.press("tab", "s")
    await at.press("u")
    assert "[uniform]" in at.text
    await at.press("u")
    assert at.pairs == second and "[learning rate]" in at.text
    await at.press("u")
    assert at.pairs == first
    await at.press("u")
    assert "Nothing to undo" in at.message
    await at.press("U", "U")
    assert at.pairs == third
    await at.press("u", "up", "U")
    assert "Nothing to redo" in at.message


async def test_esc_asks_only_if_something_changed(at):
    await at.press("right", "L", "g", "tab", "escape")
    assert at.given == [None]


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ("d", [None]),
        ("y", [{"schedule.curve": [[0, 0.11], [0.1, 1.0], [0.5, 0.6], [1, 0.0]]}]),
        ("escape", []),
    ],
)
async def test_esc_after_a_change_asks_what_shall_become_of_it(at, answer, given):
    await at.press("up", "escape")
    assert isinstance(at.app.screen, Ask)
    await at.press(answer)
    assert at.given == given


async def test_leaving_by_the_apps_keys_asks_too(at):
    await at.press("up", "q")
    assert isinstance(at.app.screen, Ask)
    await at.press("d")
    assert at.app.return_code == 0


async def test_a_curve_that_means_nothing_is_said_at_once_and_not_taken(at):
    await at.press("J", "right", *["J"] * 10, "right", *["J"] * 6)
    assert all(value == 0 for _, value in at.pairs)
    assert "is 0 at every step" in at.message
    await at.press("f2")
    assert at.given == [] and "is 0 at every step" in at.message


@opened("schedule.curve", {"schedule": {"shape": "curve"}})
async def test_a_curve_without_points_is_said_and_begun(at):
    assert "has no points" in at.message and "the curve has no points" in at.text
    await at.press("p", "f2")
    assert at.given == [{"schedule.curve": [[0, 1.0], [0.25, 1.0], [0.5, 1.0], [0.75, 1.0], [1, 1.0]]}]


@opened("schedule.curve", {"schedule": {"shape": "curve", "curve": [[1, 0.0], [0, 1.0]]}})
async def test_points_out_of_order_are_put_in_order(at):
    await at.press("f2")
    assert at.given == [{"schedule.curve": [[0, 1.0], [1, 0.0]]}]


@opened(
    "objective.loss_weight",
    {"objective": {"prediction_type": "flow", "zero_terminal_snr": False, "loss_weight": "debiased_aozora"}},
)
async def test_a_weight_that_has_no_form_is_said(at):
    assert "has no form for rectified flow" in at.message
    await at.press("p")
    assert "Nothing to turn into points" in at.message


async def test_the_numbers_of_the_rate_are_the_engines(at):
    await at.press("right", "right")
    assert "step 1,000 of 2,000" in at.text and "lr 4.8e-7 = 0.6 x 8e-7" in at.text
    made = at.screen.sketch.profile
    mean = sum(rate(made.schedule, step, 2000) for step in range(2000)) / 2000
    assert f"{mean:.4g} of the peak" in at.text


@opened("objective.timestep_curve", DENSE)
async def test_the_numbers_of_the_density_are_the_engines(at):
    await at.press("right", "K")
    table = density(at.screen.sketch.profile.objective)
    around = sum(table[450:550])
    assert f"{100 * around:.3g} % in 450-549" in at.text
    assert f"{table[500] * 1000:.4g} x uniform" in at.text
    assert f"of 64 pictures a step {64 * around:.1f} in 450-549" in at.text


@opened("objective.weight_curve", {"objective": {**FACTOR["objective"], "weight_floor": 0.1}})
async def test_the_numbers_of_the_weight_hold_min_snr_floor_and_factor(at):
    await at.press("right")
    objective = at.screen.sketch.profile.objective
    table, effective = density(objective), weights(objective)
    counts = [share * weight for share, weight in zip(table, effective, strict=True)]
    bare = weights(msgspec.structs.replace(objective, weight_curve=()))
    assert f"weight {effective[500]:.4g} = min_snr {bare[500]:.4g} x factor 0.5" in at.text
    assert f"{100 * sum(counts[450:550]) / sum(counts):.2g} % of the weight" in at.text
    assert f"mean weight {sum(counts):.4g}" in at.text
    await at.press("right")
    assert "weight 0.1 = floor 0.1 (min_snr 0) x factor 1" in at.text


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("letters", ["0", "1"])
async def test_every_curve_is_whole_at_any_size_and_in_ascii(size, letters, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", letters)
    shown = Shown("schedule.shape", {})
    async with shown.app.run_test(size=size) as pilot:
        await shown.open(pilot)
        for _ in KINDS:
            await shown.press("p", "right")
            lines = shown.text.splitlines()
            assert all(len(line) <= size[0] for line in lines)
            assert ("@" if letters == "1" else "●") in shown.screen.plot.text
            assert "point 2 of" in shown.text
            assert letters == "0" or shown.text.isascii()
            await shown.press("tab")


async def test_a_larger_terminal_draws_anew(at):
    await at.pilot.resize_terminal(120, 40)
    await at.pilot.pause()
    assert max(map(len, at.screen.plot.text.splitlines())) > 100


async def test_every_key_of_the_table_does_something_here():
    assert {key.id.partition(".")[0] for key in SCOPES["curves"]} == {"curves"}
    assert all(hasattr(CurvesScreen, f"action_{key.action.partition('(')[0]}") for key in SCOPES["curves"])


async def test_a_click_goes_to_the_nearest_point(at):
    plot = at.screen.plot
    await at.pilot.click(plot, offset=(plot.size.width // 2 + 4, 5))
    assert at.screen.sketch.cursor == 2


EDITS = ("right", "up", "K", "J", "down", ".", ",", ">", "<", "i", "x", "left", "right", "enter", "escape")
REDRAWS = ("g", "L", "S", "u", "tab", "p")
COLOURS_256 = 2  # what a session over SSH gets, where COLORTERM does not arrive


@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ("schedule.curve", DRAWN),
        ("objective.timestep_curve", DENSE),
        ("objective.weight_curve", {}),
        ("schedule.shape", {}),
        ("objective.timesteps", {"objective": {"timesteps": "logit_normal"}}),
    ],
)
async def test_a_key_in_the_plot_sends_under_two_kilobytes_and_idling_nothing(path, sections):
    shown = Shown(path, sections, driver_class=seen.CountingDriver)
    async with shown.app.run_test(headless=False, size=(120, 40)) as pilot:
        shown.app.console._color_system = COLOURS_256
        await shown.open(pilot)
        await shown.press("p", "up", "down")
        driver, costs = shown.app._driver, {}
        for key in EDITS:
            driver.sent = 0
            await shown.press(key)
            costs[key] = max(driver.sent, costs.get(key, 0))
        assert all(0 < cost <= 2000 for cost in costs.values()), costs
        for key in REDRAWS:
            driver.sent = 0
            await shown.press(key)
            costs[key] = driver.sent
        assert all(costs[key] < 9000 for key in REDRAWS), costs
        await shown.press("right", "left")
        driver.sent = 0
        await pilot.pause()
        shown.screen._show()
        shown.screen.rest()
        await pilot.pause()
        assert driver.sent == 0


@opened("schedule.curve", DRAWN)
async def test_undo_passes_over_keys_that_came_back_to_where_they_began(at):
    before = at.pairs
    await at.press("up", "down", "u")
    assert at.pairs == before
    await at.press("up", "up", "u")
    assert at.pairs == before
