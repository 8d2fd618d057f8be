"""The form: what is typed reaches the file, what is wrong is said where it is."""

import asyncio
import re
import tomllib

import fake_run
import pytest
import seen
from forms import app, checked, in_view, opened, row, settle, write_profile
from textual.events import Key
from textual.keys import _character_to_key
from textual.widgets import Input, TextArea

from aozora_tui.app import AozoraApp
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.choice import Choice
from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.layers import LayersScreen
from engine.contract import places
from engine.contract.fields import sections
from engine.contract.nvml_reading import Reading


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


async def burst(pilot, *keys, turns=0):
    """Keys without waiting for what they do; `turns` of the event loop pass between two of them."""
    for key in keys:
        character = key if len(key) == 1 else None
        pilot.app.post_message(Key(_character_to_key(key) if character else key, character))
        for _ in range(turns):
            await asyncio.sleep(0)
    await pilot.pause()


async def test_every_field_of_the_contract_has_a_row(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        for section in sections():
            screen.go_to(section.fields[0].path)
            await settle(pilot)
        shown = {row.field.path for row in screen.query(FieldRow)}
        assert shown == {field.path for section in sections() for field in section.fields}
        editors = {row.field.kind: type(row.editor) for row in screen.query(FieldRow)}
        assert editors["switch"] is editors["choice"] is Choice
        assert issubclass(editors["integer"], Input) and issubclass(editors["folders"], TextArea)


async def test_typing_changes_the_key_and_nothing_else(path):
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("backspace", "backspace", "backspace", "7", "5", "0")
        await settle(pilot)
        assert "unsaved changes" in seen.text(pilot.app)
        await pilot.press("f2")
        await settle(pilot)
        assert path.read_text() == before.replace("500", "750")
        assert not screen.file.modified


async def test_an_invalid_value_is_said_at_the_field_while_typing(path):
    small = '[layers]\ntrain = ["conv_in"]\n[save]\nexport = false\n'  # however full this machine's disk is
    path.write_text(path.read_text() + small)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await checked(pilot, screen)
        assert "no problem" in seen.text(pilot.app)
        await pilot.press("x")
        await settle(pilot)
        assert row(screen, "train.steps").problem_text.startswith('! "500x" is not a whole number from 1 to 10,000,000')
        assert "! 1 problem" in seen.text(pilot.app)
        assert row(screen, "train.steps").editor.value == "500x"
        await pilot.press("backspace")
        await settle(pilot)
        assert row(screen, "train.steps").problem_text == ""


async def test_what_only_the_machine_knows_is_said_at_the_field_too(path, tmp_path):
    path.write_text(path.read_text().replace("pictures", "nowhere"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        await pilot.press("f10")
        await settle(pilot)
        assert "does not exist" in row(screen, "data.folders").problem_text
        assert row(screen, "data.folders").editor.has_focus


async def test_the_forecast_of_the_whole_unet_is_shown(path):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        assert "trains 2.57 B of 2.57 B, 100.0 %" in seen.text(pilot.app)
        assert "card" in seen.text(pilot.app) and "host" in seen.text(pilot.app)


def card(index, total, free):
    return Reading(index, "NVIDIA GeForce RTX 4070", f"u{index}", "580", 1, total << 30, free << 30, *[None] * 5)


def said_below(screen):
    return str(screen.query_one("#forecast").render())


@pytest.mark.parametrize("plan", ["auto", "fast"])
async def test_a_limit_that_is_too_low_is_said_at_the_plan_counted_and_divided_by(path, plan):
    path.write_text(path.read_text() + f'[save]\nkeep = 1\nexport = false\n[memory]\nplan = "{plan}"\n')
    mine = AozoraApp(ticking=False, read_gpu=lambda pid: (card(0, 12, 12),))
    async with mine.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "memory.limit")
        await pilot.press(*["backspace"] * 4, "3")
        await checked(pilot, screen)
        assert screen.file.get("memory.limit") == 3
        told = "no plan fits the 3.0 GiB" if plan == "auto" else "the run may use 3.0"
        assert told in row(screen, "memory.plan").problem_text and in_view(row(screen, "memory.plan"))
        needs = min(
            float(need) for need in re.findall(r"needs (?:about )?([0-9.]+)", row(screen, "memory.plan").problem_text)
        )
        line = said_below(screen)
        assert f"card {needs}/3.0 GiB !" in line and line in seen.text(pilot.app) and len(line) <= 78
        assert ("no plan fits" if plan == "auto" else "plan fast") in line
        notes = [problem for problem in screen.problems if problem.severity == "warning"]
        assert [problem.path for problem in notes].count("memory.plan") == 1
        assert f"{len(notes)} note" in seen.text(pilot.app)
        await pilot.press("backspace", "1", "2")
        await settle(pilot)
        assert row(screen, "memory.plan").problem_text == ""  # it was said of another limit


async def test_the_card_is_the_one_that_the_profile_names(path):
    path.write_text(f'{path.read_text()}[memory]\ndevice = "cuda:1"\n')
    mine = AozoraApp(ticking=False, read_gpu=lambda pid: (card(0, 12, 1), card(1, 24, 23)))
    async with mine.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        assert "/24.0 GiB " in said_below(screen) and "plan " in said_below(screen)


async def test_a_full_card_is_a_problem_unless_a_run_of_ours_fills_it(path):
    mine = AozoraApp(ticking=False, read_gpu=lambda pid: (card(0, 24, 1),))
    async with mine.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        assert "memory.plan" in [problem.path for problem in screen.problems]
        assert "no plan fits" in said_below(screen)
        with fake_run.engine_alive(fake_run.make(places.runs_folder(), "mine-20231114-221320")):
            await checked(pilot, screen)
            assert "memory.plan" not in [problem.path for problem in screen.problems]
            assert "no plan fits" not in said_below(screen) and "plan " in said_below(screen)


async def test_an_emptied_field_means_the_default(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("backspace", "backspace", "backspace")
        await settle(pilot)
        assert screen.file.get("train.steps") is None
        assert row(screen, "train.steps").editor.value == ""
        await pilot.press("9")
        await settle(pilot)
        assert screen.file.get("train.steps") == 9


async def test_defaults_are_not_written_and_changes_from_them_are_marked(path):
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.precision")
        assert " Precision" in seen.text(pilot.app)
        await pilot.press("right")
        await settle(pilot)
        assert screen.file.get("model.precision") == "fp32"
        assert "*Precision" in seen.text(pilot.app) and "[fp32]" in seen.text(pilot.app)
        await pilot.press("left")
        await settle(pilot)
        assert screen.file.text == before


async def test_undo_goes_to_the_field_it_changes(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("1", "escape")
        screen.go_to("model.precision")
        await settle(pilot)
        await pilot.press("space", "f7")
        await settle(pilot)
        assert screen.file.get("model.precision") is None
        await pilot.press("f7")
        await settle(pilot)
        assert screen.file.get("train.steps") == 500
        assert row(screen, "train.steps").editor.has_focus
        assert row(screen, "train.steps").editor.value == "500"


async def test_lists_are_edited_one_entry_a_line(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "preview.prompts")
        await pilot.press(*"a cat", "enter", *"a dog")
        screen.go_to("data.folders")
        await settle(pilot)
        await pilot.press("delete", "3", "end", "enter", *"/more")
        await settle(pilot)
        saved = tomllib.loads(screen.file.text)
        assert saved["preview"]["prompts"] == ["a cat", "a dog"]
        assert [entry.get("repeats", 1) for entry in saved["data"]["folders"]] == [3, 1]
        assert saved["data"]["folders"][1]["path"] == "/more"
        await pilot.press("escape")
        await settle(pilot)
        assert screen.query_one("#sections").has_focus


async def test_a_curve_is_edited_one_point_a_line(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.weight_curve")
        await pilot.press(*"0 0.5", "enter", *"999 2", "enter", *"half")
        await settle(pilot)
        assert any("weight_curve" in problem.path for problem in screen.problems)
        await pilot.press(*["backspace"] * 4)
        await settle(pilot)
        assert tomllib.loads(screen.file.text)["objective"]["weight_curve"] == [[0, 0.5], [999, 2]]
        assert not any("weight_curve" in problem.path for problem in screen.problems)
        assert row(screen, "objective.weight_curve").editor.text.rstrip("\n") == "0 0.5\n999 2"


async def test_leaving_with_unsaved_changes_asks(path):
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("1", "escape", "escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press("escape", "q")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        assert " d discard" in seen.text(pilot.app) and "d d discard" not in seen.text(pilot.app)
        await pilot.press("d")
        await settle(pilot)
    assert path.read_text() == before


async def test_saving_over_another_programs_change_asks(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("1")
        path.write_text(path.read_text() + "# theirs\n")
        await pilot.press("f2")
        await settle(pilot)
        assert "changed by another program" in seen.words(pilot.app)
        await pilot.press("r")
        await settle(pilot)
        assert pilot.app.screen.file.text.endswith("# theirs\n")
        assert pilot.app.screen.file.get("train.steps") == 500


async def test_a_recipe_is_saved_as_a_copy_and_never_written(path):
    recipe = places.shipped_profiles_folder() / "demo.toml"
    before = recipe.read_bytes()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, recipe, "train.steps", recipe=True)
        await pilot.press("1", "f2")
        await settle(pilot)
        assert screen.file.path == places.profiles_folder() / "demo.toml"
        assert screen.file.path.is_file() and not screen.recipe
    assert recipe.read_bytes() == before


async def test_letters_are_text_in_a_field_and_keys_outside(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.base")
        await pilot.press("q", "s", "w")
        await settle(pilot)
        assert screen.file.get("model.base").endswith("qsw")
        assert "F2 save" in seen.text(pilot.app) and "F1 help" in seen.text(pilot.app)
        await pilot.press("escape", "u", "escape")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_layers_are_chosen_in_the_tree_and_written_as_patterns(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("f4")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert isinstance(pilot.app.screen, LayersScreen)
        assert "2.57 B of 2.57 B, 100 %" in seen.text(pilot.app)
        await pilot.press("x")
        await settle(pilot)
        await pilot.press("enter")
        assert "Nothing is left to train" in seen.text(pilot.app)
        while pilot.app.screen.layer_tree.cursor_node.label != "Middle block":
            await pilot.press("down")
        await pilot.press("space")
        await settle(pilot)
        assert "[x] Middle block" in seen.text(pilot.app) and "[-] UNet" in seen.text(pilot.app)
        assert "layers.train  mid_block.*" in seen.text(pilot.app)
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is screen
        assert tomllib.loads(screen.file.text)["layers"] == {"train": ["mid_block.*"]}
        await pilot.press("f7")
        assert "layers" not in tomllib.loads(screen.file.text)


async def test_inverting_twice_changes_nothing_and_escape_neither(path):
    path.write_text(path.read_text() + '\n[layers]\ntrain = ["attn2"]\nfreeze = ["mid_block.*"]\n')
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("f4")
        await seen.work_done(pilot.app)
        await settle(pilot)
        chosen = set(pilot.app.screen.layer_tree.trained)
        assert all("attn2" in name and not name.startswith("mid_block") for name in chosen)
        await pilot.press("i", "i")
        assert pilot.app.screen.layer_tree.trained == chosen
        await pilot.press("escape")
        await settle(pilot)
        assert screen.file.text == before


@pytest.mark.parametrize("turns", [0, 3, 6, 9, 12, 15])
async def test_fast_typing_reaches_the_file_letter_by_letter(path, turns):
    typed = "a lighthouse at dawn, 25%"
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "preview.negative")
        await burst(pilot, *typed, turns=turns)
        await settle(pilot)
        assert row(screen, "preview.negative").editor.value == typed
        assert screen.file.get("preview.negative") == typed
        await pilot.press("f2")
        await settle(pilot)
    assert tomllib.loads(path.read_text())["preview"]["negative"] == typed


async def test_saving_in_the_same_breath_as_typing_saves_all_of_it(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "preview.prompts")
        await burst(pilot, *"two cats", "enter", *"a dog on the beach", "f2")
        await settle(pilot)
        assert not screen.file.modified
    assert tomllib.loads(path.read_text())["preview"]["prompts"] == ["two cats", "a dog on the beach"]


async def test_undo_in_the_same_breath_as_typing_leaves_form_and_file_alike(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await burst(pilot, *"1234", "f7")
        await settle(pilot)
        assert screen.file.get("train.steps") == 500
        assert row(screen, "train.steps").editor.value == "500"
        await burst(pilot, *"12", "f8")
        await settle(pilot)
        assert screen.file.get("train.steps") is None
        assert row(screen, "train.steps").editor.value == "1000"


async def test_two_fields_filled_in_one_breath_are_two_changes(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await burst(pilot, *"12")
        await pilot.press("enter")
        await burst(pilot, *"34")
        await settle(pilot)
        assert (screen.file.get("train.steps"), screen.file.get("train.batch_size")) == (50012, 134)
        await pilot.press("f7")
        await settle(pilot)
        assert (screen.file.get("train.steps"), screen.file.get("train.batch_size")) == (50012, None)


async def test_repeats_that_are_written_stay_written(path):
    path.write_text(path.read_text().replace("\n[train]", "repeats = 1  # once\n\n[train]"))
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        await pilot.press("end", "enter")
        await settle(pilot)
        assert screen.file.text == before
        await pilot.press(*"/more")
        await settle(pilot)
        assert "repeats = 1  # once" in screen.file.text
        assert tomllib.loads(screen.file.text)["data"]["folders"][1] == {"path": "/more"}
        assert "{'path" not in seen.text(pilot.app) and "in the file 1 x /" in seen.words(pilot.app)


async def test_a_longer_path_keeps_its_repeats(path):
    path.write_text(path.read_text().replace("\n[train]", "repeats = 1  # once\n\n[train]"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        await pilot.press("end", *"/sub")
        await settle(pilot)
        assert 'pictures/sub"\nrepeats = 1  # once' in screen.file.text


async def test_a_required_text_says_so_in_few_words(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "model.base")
        assert "model.base · text, required" in seen.text(pilot.app)


async def test_a_small_forecast_of_the_disk_is_no_zero(path):
    small = '[layers]\ntrain = ["conv_in"]\n[save]\nexport = false\n'
    path.write_text(path.read_text() + small)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        assert " kB" in seen.text(pilot.app) and "0.0 GiB" not in seen.text(pilot.app)
