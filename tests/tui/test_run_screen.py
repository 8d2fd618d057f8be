"""One run on the screen: states, commands, and what it costs to watch."""

import dataclasses
import os

import fake_run
import msgspec
import pytest
import seen
from textual.widgets import Input

from aozora_tui import run_state
from aozora_tui.app import AozoraApp
from aozora_tui.run_state import Note, RunState
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.meters import card_of
from aozora_tui.screens.run import RunScreen
from aozora_tui.screens.run_words import newest
from engine.contract import events, places, rundir
from engine.contract.health import Finding
from engine.contract.nvml_reading import Reading

CARD = Reading(
    index=0,
    name="NVIDIA GeForce RTX 4070",
    uuid="GPU-1",
    driver_version="580.95",
    memory_used=11 << 30,
    memory_total=12 << 30,
    memory_free=1 << 30,
    run_memory=None,
    utilisation=97,
    power=182.0,
    power_limit=200.0,
    temperature=71,
)


@pytest.fixture
def run():
    return fake_run.make(places.runs_folder(), "eel-20231113-101010")


def watching(run, **options):
    clock = options.pop("clock", lambda: fake_run.START + 100)
    read_gpu = options.pop("read_gpu", lambda pid: (CARD,))
    return AozoraApp(run, ticking=False, clock=clock, read_gpu=read_gpu, **options)


def commands(run):
    return [name.partition("-")[2] for name in sorted(path.name for path in run.commands.glob("*.json"))]


async def test_a_live_run_shows_its_numbers_and_the_card(run):
    fake_run.trained(run, 42)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            shown = seen.text(app)
            for part in ("● running", "step 42/1,000", "left", "s/micro-batch 0.410", "11.0/12.0 GiB", "182/200 W"):
                assert part in shown


def test_of_several_cards_the_one_that_holds_the_run_is_shown(run):
    state = RunState()
    state.apply([fake_run.started(run)])
    other = dataclasses.replace(CARD, index=1, name="NVIDIA H100")
    assert card_of(state, (other, CARD)) is CARD
    holding = dataclasses.replace(other, run_memory=1 << 30)
    assert card_of(state, (CARD, holding)) is holding
    assert card_of(state, (other,)) is other and card_of(state, ()) is None


async def test_without_a_card_the_gauges_say_so(run):
    fake_run.trained(run, 4, device="CPU (8 threads)")
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert seen.text(app).count("n/a") == 4


@pytest.mark.parametrize("answer", ["y", "enter"])
async def test_stop_asks_says_what_is_saved_and_then_writes_the_command(run, answer):
    fake_run.trained(run, 4)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("s")
            await pilot.pause()
            assert isinstance(app.screen, Ask)
            assert "saves the last finished step and stops" in seen.words(app)
            await pilot.press("escape")
            assert commands(run) == []
            await pilot.press("s", answer)
            await pilot.pause()
            assert commands(run) == ["stop.json"]
            assert rundir.take_commands(run, "t0") == ([rundir.Command(command="stop", token="t0")], [])


async def test_keys_leave_commands_and_pause_goes_both_ways(run):
    at = fake_run.trained(run, 4)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("w", "m", "p")
            assert commands(run) == ["save.json", "sample.json", "pause.json"]
            fake_run.add(run, events.Paused(time=at + 1, step=4))
            app.tick()
            await pilot.pause()
            assert "= paused" in seen.text(app)
            await pilot.press("p")
            assert commands(run)[-1] == "resume.json"


async def test_an_ended_run_takes_no_commands_and_offers_to_resume(run):
    at = fake_run.trained(run, 4)
    fake_run.add(run, events.Finished(time=at, step=4, reason="stopped", seconds=100))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "r resume" in seen.text(app) and "s stop" not in seen.text(app)
        await pilot.press("s", "w", "m", "p")
        assert isinstance(app.screen, RunScreen) and commands(run) == []
        await pilot.press("r")
        await pilot.pause()
        assert "has no profile.toml" in seen.text(app)


async def test_what_an_ended_run_cannot_do_is_not_offered_and_says_why(run):
    at = fake_run.trained(run, 4, steps=4)
    fake_run.add(run, events.Finished(time=at, step=4, reason="finished", seconds=100))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = seen.text(app)
        assert "esc back" in shown and "detach" not in shown and "r resume" not in shown
        for key in "swmpf":
            await pilot.press(key)
            assert "The run is finished: it has no engine to tell." in seen.text(app)
            await pilot.press("0")
            assert "it has no engine to tell" not in seen.text(app)
        await pilot.press("r")
        assert "has finished: start a new run" in seen.words(app)


async def test_what_was_said_goes_when_it_is_over(run):
    at = fake_run.trained(run, 4)
    app = watching(run)
    with fake_run.engine_alive(run):
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("p")
            await pilot.pause()
            assert "p again lets it go on" in seen.text(app)
            app.tick()
            await pilot.pause()
            assert "p again lets it go on" in seen.text(app)
            fake_run.add(run, events.Paused(time=at + 1, step=4))
            app.tick()
            await pilot.pause()
            assert "p again lets it go on" not in seen.text(app)
            await pilot.press("s", "y")
            await pilot.pause()
            assert "Stopping:" in seen.text(app)
            await pilot.press("0")
            await pilot.pause()
            assert "Stopping:" not in seen.text(app)


async def test_a_long_path_of_the_export_has_one_line_and_is_whole_among_the_numbers(run):
    at = fake_run.trained(run, 4, steps=4)
    export = f"exports/{'a-long-name-' * 8}end.safetensors"
    fake_run.add(run, events.Finished(time=at, step=4, reason="finished", seconds=100, export=export))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = str(app.screen.query_one("#outcome").content)
        assert "\n" not in shown and "\u2026" in shown and shown.endswith("long-name-end.safetensors")
        await pilot.press("n", "G", "pagedown", "pagedown")
        await pilot.pause()
        assert export in "".join(seen.text(app).split())


async def test_a_run_that_turns_unreadable_is_said_and_closes_nothing(run):
    fake_run.trained(run, 4)
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        run.events.unlink()
        os.mkfifo(run.events)
        app.tick()
        await pilot.pause()
        assert "cannot be read: events.jsonl is a pipe or device, not a file" in seen.words(app)


async def test_a_failure_is_shown_with_its_remedy(run):
    at = fake_run.trained(run, 4)
    text, remedy = "The card ran out of memory", "Lower train.batch_size."
    fake_run.add(run, events.Failed(time=at, code="cuda-memory", text=text, remedy=remedy))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "! failed" in seen.text(app)
        assert f"!! {text}. {remedy}" in seen.text(app)


async def test_a_crash_is_told_from_silence(run):
    fake_run.trained(run, 4)
    app = watching(run, clock=lambda: fake_run.START + 4000)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "! crashed" in seen.text(app)
        assert "It had saved no checkpoint: r begins it again" in seen.words(app)
        fake_run.add(run, fake_run.saved(3))
        app.tick()
        await pilot.pause()
        assert "r goes on from the last checkpoint" in seen.words(app)
        with fake_run.engine_alive(run):
            app.tick()
            await pilot.pause()
            assert "● running" in seen.text(app) and "silent for 1 h" in seen.text(app)
            assert "! No word from the engine for 1 h; a step took 2" in seen.text(app)


async def test_leaving_never_touches_the_engine(run, capsys):
    fake_run.trained(run, 4)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("escape")
            assert isinstance(app.screen, HomeScreen)
            await pilot.press("q")
        assert app.return_code == 0 and commands(run) == []
        assert "goes on" not in capsys.readouterr().err  # whoever opened the app on a run says what became of it
        assert rundir.state(run) == "running"


async def test_closing_the_app_says_what_goes_on(run, capsys):
    fake_run.trained(run, 4)
    with fake_run.engine_alive(run):
        app = watching(None)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("q")
    assert f"{run.name}: training goes on without the app" in " ".join(capsys.readouterr().err.split())


async def test_the_log_follows_until_it_is_scrolled(run):
    fake_run.trained(run, 4)
    run.log.write_text("Loading: 1%\rLoading: 100%\n" + "".join(f"\x1b[31mline {n}\x1b[0m\n" for n in range(100)))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("l")
        await pilot.pause()
        assert "line 99" in seen.text(app) and "following" in seen.text(app) and "31m" not in seen.text(app)
        await pilot.press("g")
        await pilot.pause()
        assert "Loading: 100%\n" in seen.text(app) and "1%\r" not in seen.text(app)
        with run.log.open("a") as file:
            file.write("line 100\n")
        app.tick()
        await pilot.pause()
        assert "line 100" not in seen.text(app)
        await pilot.press("G")
        await pilot.pause()
        assert "line 100" in seen.text(app)


async def counted(app, pilot):
    """Bytes of one tick, after everything else has been painted."""
    for _ in range(3):
        await pilot.pause()
    app._driver.sent = 0
    app.tick()
    for _ in range(3):
        await pilot.pause()
    return app._driver.sent


async def test_an_ended_run_costs_no_byte(run):
    at = fake_run.trained(run, 40, steps=40)
    fake_run.add(run, events.Finished(time=at, step=40, reason="finished", seconds=100))
    app = watching(run, driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        assert await counted(app, pilot) == 0


async def test_a_live_tick_costs_at_most_two_kilobytes(run):
    at = fake_run.trained(run, 400)
    with fake_run.engine_alive(run):
        app = watching(run, driver_class=seen.CountingDriver)
        async with app.run_test(headless=False, size=(120, 40)) as pilot:
            costs = [await counted(app, pilot)]
            for number in range(401, 411):
                at += 26
                fake_run.add(run, fake_run.step(number, at=at))
                costs.append(await counted(app, pilot))
        assert costs[0] == 0, "nothing happened, so nothing is sent"
        assert 0 < sum(costs[1:]) / 10 <= 2048
        assert max(costs) <= 4096


async def test_nothing_is_sent_behind_a_panel(run):
    at = fake_run.trained(run, 40)
    with fake_run.engine_alive(run):
        app = watching(run, driver_class=seen.CountingDriver)
        async with app.run_test(headless=False, size=(120, 40)) as pilot:
            await pilot.press("s")
            fake_run.add(run, fake_run.step(41, at=at + 26))
            assert await counted(app, pilot) == 0
            await pilot.press("escape")
            await pilot.pause()
            assert "step 41/1,000" in seen.text(app)


async def test_home_costs_no_byte_while_nothing_happens(run):
    fake_run.trained(run, 40)
    with fake_run.engine_alive(run):
        app = watching(None, driver_class=seen.CountingDriver)
        async with app.run_test(headless=False, size=(120, 40)) as pilot:
            await seen.work_done(app)  # what the selected run takes of the disk
            await pilot.pause()
            assert await counted(app, pilot) == 0


async def test_the_rate_key_asks_for_a_factor_and_sends_it(run):
    at = fake_run.trained(run, 4)
    fake_run.add(run, events.Steered(time=at, step=4, factor=0.5))
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("f")
            await pilot.pause()
            box = app.screen.query_one("#rate", Input)
            assert box.value == "0.5"  # the one in force
            await pilot.press("escape")
            assert commands(run) == []
            await pilot.press("f")
            await pilot.pause()
            await pilot.press(*"1001", "enter")
            await pilot.pause()
            assert '"1001" is not a number from 0 to 1,000' in seen.words(app) and commands(run) == []
            await pilot.press("backspace", "backspace", "backspace", "backspace", *".25", "enter")
            await pilot.pause()
            assert isinstance(app.screen, RunScreen) and "learning rate x 0.25" in seen.words(app)
            (sent,), _ = rundir.take_commands(run, "t0")
            assert (sent.command, sent.value) == ("lr", 0.25)


async def test_the_rate_dialog_says_what_comes_of_it(run):
    at = fake_run.trained(run, 40, steps=400)
    fake_run.add(run, events.Steered(time=at, step=40, factor=0.5))
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("f", *"2")
            await pilot.pause()
            assert "x 9.76e-6 as scheduled = 1.95e-5" in seen.words(app)  # 1e-5 x (1 + cos(0.1 pi)) / 2


async def test_a_commanded_factor_stands_beside_the_scheduled_rate(run):
    at = fake_run.trained(run, 5, steps=100)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert "lr 5.000e-6 " in seen.text(app)
            fake_run.add(run, events.Steered(time=at + 1, step=5, factor=0.25))
            app.tick()
            await pilot.pause()
            assert "lr 5.00e-6 x 0.25 " in seen.text(app) and "samples/s 2.44" in seen.text(app)
            scaled = msgspec.structs.replace(fake_run.step(6, at=at + 26, steps=100), lr=0.25 * 6e-6)
            fake_run.add(run, scaled)
            app.tick()
            await pilot.pause()
            assert "lr 6.00e-6 x 0.25 " in seen.text(app)
            fake_run.add(run, events.Steered(time=at + 30, step=6, factor=1.0))
            app.tick()
            await pilot.pause()
            assert "x 0.25" not in seen.text(app).split("VRAM")[0]
            assert "learning rate as scheduled again from step 7 on" in seen.text(app)


@pytest.mark.parametrize(
    ("size", "updates", "said"),
    [
        ((120, 40), {"unet": 1.23e-5, "text_encoder": 3.1e-6}, "UNet 1.2e-5, text encoder 1 3.1e-6"),
        ((80, 24), {"unet": 1.23e-5, "text_encoder": 3.1e-6}, "UNet 1.2e-5, text 1 3.1e-6"),
        ((120, 40), {"unet": 1.23e-5}, "UNet 1.2e-5"),
        ((80, 24), {"unet": 1.23e-5}, ""),
        ((60, 15), {"unet": 1.23e-5, "text_encoder": 3.1e-6}, ""),
    ],
)
async def test_the_size_of_the_updates_is_shown_where_there_is_room_or_several_differ(run, size, updates, said):
    fake_run.trained(run, 5)
    fake_run.add(run, msgspec.structs.replace(fake_run.step(6, at=fake_run.START + 300), updates=updates))
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            line = next((line.strip() for line in seen.text(app).splitlines() if "update / weight" in line), "")
            assert line == (f"update / weight  {said}" if said else "")


async def test_every_group_fits_into_eighty_columns(run):
    names = ("unet", "text_encoder", "text_encoder_2", "token_embedding")
    fake_run.trained(run, 5)
    last = fake_run.step(6, at=fake_run.START + 300)
    fake_run.add(run, msgspec.structs.replace(last, updates=dict.fromkeys(names, 1.23e-5)))
    app = watching(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "text 2 1.2e-5, tokens 1.2e-5" in seen.text(app)


async def test_every_export_of_a_finished_run_is_named(run):
    at = fake_run.trained(run, 4, steps=4)
    for path in ("exports/a.safetensors", "exports/a-ema.safetensors"):
        fake_run.add(run, events.Saved(time=at, kind="export", step=4, path=path, bytes=1000, seconds=0.1))
    export = str(run.exports / "a-ema.safetensors")  # the engine's last word has the whole path
    fake_run.add(run, events.Finished(time=at, step=4, reason="finished", seconds=9, export=export))
    app = watching(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        shown = str(app.screen.query_one("#outcome").content).split("\n")
        assert [line.rpartition("/")[2] for line in shown] == ["a.safetensors", "a-ema.safetensors"]


async def test_a_rate_of_nothing_is_said_and_a_comma_is_named(run):
    fake_run.trained(run, 5)
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("f", *"0,5")
            await pilot.pause()
            assert '"0,5" has a comma: write a point, as 0.5' in seen.text(app)
            await pilot.press(*["backspace"] * 3, "0", "enter")
            await pilot.pause()
            assert "Nothing is learnt from the next step on, until the rate is raised (f)." in seen.text(app)


async def test_where_previews_are_is_said_at_the_end_and_their_names_among_the_numbers(run):
    at = fake_run.trained(run, 4, steps=4)
    for name in ("a", "b"):
        path = f"samples/step-000004-{name}.png"
        fake_run.add(run, events.Sampled(time=at, step=4, path=path, prompt="a lighthouse", settings={}))
    fake_run.add(run, events.Finished(time=at, step=4, reason="finished", seconds=9))
    app = watching(run)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        shown = str(app.screen.query_one("#outcome").content)
        assert shown.startswith("previews  ") and shown.endswith("/samples  (2)")
        await pilot.press("n")
        await pilot.pause()
        assert str(run.samples / "step-000004-b.png") in "".join(seen.text(app).split())


async def test_a_run_that_is_started_again_is_starting_until_it_says_a_word(run):
    at = fake_run.trained(run, 40)
    fake_run.add(run, events.Finished(time=at, step=40, reason="stopped", seconds=9))
    info = rundir.read_info(run)
    run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, started=at + 60)))
    app = watching(run)
    with fake_run.engine_alive(run):
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            first, second = seen.text(app).splitlines()[:2]
            assert "starting" in first and "running" not in first
            assert second.split()[0] == "starting" and "%" not in second and "waiting for the engine" in second
            fake_run.add(run, events.Phase(time=at + 70, name="load"))
            app.tick()
            await pilot.pause()
            first, second = seen.text(app).splitlines()[:2]
            assert "running" in first and second.split()[0] == "load" and "%" not in second


async def test_every_warning_is_read_whole_with_its_step_and_what_to_do(run):
    at = fake_run.trained(run, 5)
    for number in range(9):
        text = f"picture {number} cannot be used, because {'it is damaged and ' * 6}that is all"
        fake_run.add(run, events.Warned(time=at + number, code="x", text=text, remedy=f"Mend {number}."))
    app = watching(run)
    for size in ((80, 24), (60, 15)):
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.press("H")
            await pilot.pause()
            assert "nothing unusual" in seen.text(app) and "at step 5, 2023-11-14" in seen.text(app)
            found = ""
            for _ in range(12):
                found += seen.words(app) + " "
                assert all(len(line) <= size[0] for line in seen.text(app).splitlines())
                await pilot.press("pagedown")
                await pilot.pause()
            for number in range(9):
                assert f"Mend {number}." in found
            assert "picture 0 cannot be used, because " + "it is damaged and " * 6 + "that is all." in found
            await pilot.press("escape")
            await pilot.pause()
            assert app.screen.run_dir == run
        app = watching(run)


async def test_a_checkpoint_is_not_offered_before_there_is_anything_to_save(run):
    fake_run.add(run, fake_run.started(run), events.Phase(time=fake_run.START, name="train", step=0))
    app = watching(run)
    with fake_run.engine_alive(run):
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert "w save" not in seen.text(app) and "p pause" in seen.text(app)
            fake_run.add(run, fake_run.step(1, at=fake_run.START + 30))
            app.tick()
            await pilot.pause()
            app.screen.update_keys()
            await pilot.pause()
            assert "w save" in seen.text(app)


async def test_the_worst_finding_comes_first_however_narrow_the_screen(run, monkeypatch):
    fake_run.trained(run, 4)
    found = (
        Finding("divergence", "the loss diverges", "Lower the rate.", since_step=2, time=5.0, level="danger"),
        Finding("overdue", "the last checkpoint is long ago", "Save one.", since_step=3, time=9.0, level="caution"),
    )
    monkeypatch.setattr(RunState, "findings", property(lambda self: found))
    with fake_run.engine_alive(run):
        app = watching(run)
        async with app.run_test(size=(80, 24)):
            assert "! 2 findings (H): the loss diverges. Lower the rate." in seen.text(app)


async def test_a_step_that_takes_much_longer_than_others_is_silence(run):
    fake_run.trained(run, 4)
    pace = RunState()
    pace.apply(events.decode_block(run.events.read_bytes())[0])
    limit = max(run_state.SILENT_LEAST, run_state.SILENT_STEPS * pace.pace)
    assert pace.silent(pace.last_time + limit - 1) is None and pace.silent(pace.last_time + limit + 1) == limit + 1
    with fake_run.engine_alive(run):
        now = [pace.last_time + limit - 1]
        app = watching(run, clock=lambda: now[0])
        async with app.run_test(size=(80, 24)) as pilot:
            assert "No word" not in seen.text(app)
            now[0] += 2
            app.tick()
            await pilot.pause()
            assert "! No word from the engine for 2 min" in seen.text(app) and "silent for 2 min" in seen.text(app)


def test_notes_that_say_the_same_one_after_another_are_one():
    notes = [Note(float(at), "plain", text) for at, text in enumerate("abbbcb")]
    assert [(note.time, note.text) for note in newest(notes, 3)] == [(3.0, "3 times: b"), (4.0, "c"), (5.0, "b")]
    assert [note.text for note in newest(notes, 9)] == ["a", "3 times: b", "c", "b"] and newest([], 3) == []
