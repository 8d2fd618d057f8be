"""What the form says of a field: its chosen word, its help, its lines, what it does beside the others."""

import tomllib

import fake_checkpoint
import pytest
import seen
from forms import app, checked, in_view, opened, paste, row, settle, write_profile

from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.lines import entry_lines, row_of
from aozora_tui.screens.profile_text import Known, help_text
from engine.contract import places
from engine.contract.fields import form_fields, sections

CHOICES = [field for field in form_fields().values() if field.kind == "choice"]
CURVE = "objective.weight_curve"
RATES = "optimizer.rates"


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def colour_of(pilot, label):
    """Of a field's label on the screen."""
    for strip in pilot.app.screen._compositor.render_strips():
        found = next((segment for segment in strip if segment.text.strip() == label), None)
        if found:
            return found.style.color.triplet
    raise AssertionError(f"{label} is not on the screen")


async def test_the_chosen_word_is_on_the_screen_whatever_is_chosen(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("a")  # those without effect too
        for field in CHOICES:
            screen.go_to(field.path)
            await settle(pilot)
            for _ in field.choices:
                await pilot.press("right")
                await settle(pilot)
                chosen = row(pilot.app.screen, field.path).editor.chosen
                assert f"[{chosen}]" in seen.text(pilot.app), field.path


async def test_words_beyond_the_edge_have_a_sign_in_ascii_too(path, monkeypatch):
    path.write_text(f'{path.read_text()}[objective]\nloss_weight = "debiased_sd_scripts"\n')
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, path, "objective.loss_weight")
        assert (
            "[debiased_sd_scripts]" in seen.text(pilot.app) and "\u203a" in seen.text(pilot.app).split("Loss weight")[1]
        )
        await pilot.press("right", "right")
        await settle(pilot)
        assert "[debiased_aozora]" in seen.text(pilot.app) and "\u2039" in seen.text(pilot.app)
        monkeypatch.setenv("AOZORA_ASCII", "1")
        screen.refresh()
        row(screen, "objective.loss_weight").editor.refresh()
        await settle(pilot)
        assert " < " in seen.words(pilot.app) or "<" in seen.text(pilot.app)
        assert "\u2039" not in seen.text(pilot.app)


def shown_in(editor):
    return editor.render_line(0).text.rstrip()


async def test_a_click_on_a_word_after_a_cut_chooses_that_word(path):
    path.write_text(f'{path.read_text()}[objective]\nloss_weight = "debiased_aozora"\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.loss_weight")
        editor = row(screen, "objective.loss_weight").editor
        assert shown_in(editor)[0] == "\u2039"
        await pilot.click(editor, offset=(0, 0))
        await settle(pilot)
        assert screen.file.get("objective.loss_weight") == "debiased_onetrainer"
        await pilot.click(editor, offset=(len(shown_in(editor)) - 1, 0))
        await settle(pilot)
        assert screen.file.get("objective.loss_weight") == "debiased_aozora"


@pytest.mark.parametrize("field", form_fields().values(), ids=lambda field: field.path)
def test_the_whole_help_of_a_field_fits_into_six_lines_of_eighty_columns(field):
    lines = help_text(field, Known(), width=78, height=6).plain.split("\n")
    said = " ".join(lines)
    assert len(lines) <= 6 and max(map(len, lines)) <= 78
    assert " ".join(field.help.split()) in said and f"{field.path} · " in said
    assert not field.choices or field.expected in said or f"one of {len(field.choices)} words" in said
    assert field.required or field.default in ((), "", {}) or "· default" in said


async def test_the_help_has_the_room_that_it_takes(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        for name in ("objective.loss_weight", "train.seed", "objective.weight_curve"):
            screen.go_to(name)
            await settle(pilot)
            said = seen.words(pilot.app)
            assert " ".join(form_fields()[name].help.split()) in said and f"{name} · " in said
            assert screen.query_one("#field-help").size.height == (6 if name == "objective.loss_weight" else 3)


async def test_the_smallest_screen_keeps_the_facts_and_cuts_the_help_with_a_sign(path):
    async with app().run_test(size=(60, 15)) as pilot:
        await opened(pilot, path, "objective.loss_weight")
        assert "objective.loss_weight · one of 6 words" in seen.text(pilot.app)
        assert "By signal-to-noise ratio" in seen.text(pilot.app) and "…" in seen.text(pilot.app)
        assert "[min_snr]" in seen.text(pilot.app)


async def test_a_point_may_be_written_with_commas_and_brackets(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, CURVE)
        editor = row(screen, CURVE).editor
        for line in ("500, 1", "[500, 1]", "[500, 1],", "500 1", " 500,1 "):
            editor.clear()
            await settle(pilot)
            assert not tomllib.loads(screen.file.text).get("objective", {}).get("weight_curve")
            await paste(pilot, line)
            await settle(pilot)
            assert tomllib.loads(screen.file.text)["objective"]["weight_curve"] == [[500, 1]]
            assert row(screen, CURVE).problem_text == ""
            assert editor.text == line  # what was typed is not put right under the cursor


async def test_a_line_that_is_no_point_is_named_and_said_once(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, CURVE)
        await paste(pilot, "0 0.5\n\nhalf, 2\n-5 1")
        await settle(pilot)
        said = row(screen, CURVE).problem_text.split("\n")
        assert said == [
            '! line 3: "half, 2" is not two numbers. Write where, and how much: 500 0.4.',
            "! line 4: timesteps go from 0 to 999. Put the point there.",
        ]


async def test_a_folder_that_is_not_there_is_named_by_its_line(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        await pilot.press("end", "enter")
        await paste(pilot, "/nowhere")
        await settle(pilot)
        await checked(pilot, screen)
        assert row(screen, "data.folders").problem_text.startswith("! line 2: /nowhere does not exist. ")


async def test_half_a_point_hides_no_other_problem(path):
    path.write_text(path.read_text().replace("pictures", "nowhere"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        before = {problem.path for problem in screen.problems}
        assert "data.folders[0].path" in before
        screen.go_to(CURVE)
        await settle(pilot)
        await pilot.press("9")
        await settle(pilot)
        assert {problem.path for problem in screen.problems} == {*before, f"{CURVE}[0]"}
        await checked(pilot, screen)
        assert {problem.path for problem in screen.problems} == {*before, f"{CURVE}[0]"}
        marks = {line.key: line.cells[1][0] for line in screen.query_one("#sections").lines}
        assert (marks["data"], marks["objective"]) == ("!1", "!1")


async def test_names_that_no_form_has_are_problems_and_nothing_worse(path):
    path.write_text(f'{path.read_text()}"x.y" = 1\n[data.more]\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.seed")
        await checked(pilot, screen)
        await pilot.press("1")
        await settle(pilot)
        assert {"train.x.y", "data.more"} <= {problem.path for problem in screen.problems}


def shown_fields(screen, section):
    return [row.field.name for row in screen.query(FieldRow) if row.field.section == section and row.display]


BELONGS = {
    "schedule.shape": {
        "cosine": [],
        "polynomial": ["power"],
        "restarts": ["cycles"],
        "wsd": ["decay"],
        "curve": ["curve"],
    },
    "optimizer.kind": {
        "adafactor": ["decay_exponent", "clip_threshold", "momentum"],
        "adamw": ["beta1", "beta2", "epsilon", "moments"],
        "imported": ["import_path", "arguments"],
    },
}


# Each word once; beside a field that is wrong the first of each choice.
IDLE = [(choice, words, False) for choice, words in BELONGS.items()]
IDLE += [(choice, {next(iter(words)): next(iter(words.values()))}, True) for choice, words in BELONGS.items()]


@pytest.mark.parametrize(("choice", "words", "wrong"), IDLE)
async def test_fields_of_other_choices_are_not_shown_until_asked_for_and_then_faint(path, choice, words, wrong):
    """Before anything is edited, and beside a field that is wrong."""
    section, name = choice.split(".")
    text = path.read_text().replace("500", "0") if wrong else path.read_text()
    every = {field for fields in BELONGS[choice].values() for field in fields}
    async with app().run_test(size=(80, 24)) as pilot:
        for word, its in words.items():
            path.write_text(f'{text}[{section}]\n{name} = "{word}"\n')
            screen = await opened(pilot, path, choice)
            assert every & set(shown_fields(screen, section)) == set(its), word
            hidden = len(form_fields_of(section)) - len(shown_fields(screen, section))
            assert f"{hidden} setting" in seen.text(pilot.app), word
            await pilot.press("a")
            await settle(pilot)
            assert every <= set(shown_fields(screen, section)), word
            idle = {row.field.name for row in screen.query(FieldRow) if row._marks.idle}
            assert idle & every == every - set(its), word
            await pilot.press("a")
            await settle(pilot)
            assert every & set(shown_fields(screen, section)) == set(its), word
            pilot.app.pop_screen()
            await settle(pilot)


def form_fields_of(section):
    return next(each.fields for each in sections() if each.name == section)


async def test_the_fields_of_another_choice_come_with_it(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "optimizer.kind")
        assert "import_path" not in shown_fields(screen, "optimizer")
        await pilot.press("right", "right")
        await settle(pilot)
        assert screen.file.get("optimizer.kind") == "imported"
        assert "Import path" in seen.text(pilot.app) and "Its arguments" in seen.text(pilot.app)
        assert "Beta 1" not in seen.text(pilot.app)
        await pilot.press("f10")
        await settle(pilot)
        assert row(screen, "optimizer.import_path").editor.has_focus
        assert "esc, then a shows them" in seen.text(pilot.app)


async def test_a_field_that_is_written_is_shown_though_it_does_nothing(path):
    path.write_text(path.read_text().replace("500", "0") + "[schedule]\npower = 3.0\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "schedule.shape")
        assert "power" in shown_fields(screen, "schedule")
        assert colour_of(pilot, "Power") != colour_of(pilot, "Warm-up")


async def test_half_a_curve_brings_back_no_field_of_another_shape(path):
    path.write_text(path.read_text() + '[schedule]\nshape = "curve"\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "schedule.curve")
        before = shown_fields(screen, "schedule")
        await pilot.press("0")
        await settle(pilot)
        assert shown_fields(screen, "schedule") == before == ["shape", "curve"]


async def test_what_is_wrong_with_a_curve_is_said_as_it_is_typed(path):
    path.write_text(path.read_text() + '[schedule]\nshape = "curve"\n')
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "schedule.curve")
        said = row(screen, "schedule.curve").problem_text
        assert "[" not in said and "Write 0 1.0 and 1 0.1, each on a line, or other points from 0 to 1" in said
        await pilot.press(*"1 1", "enter", *"0 1")
        await settle(pilot)
        assert "[" not in row(screen, "schedule.curve").problem_text
        assert "points go from left to right" in row(screen, "schedule.curve").problem_text


async def test_what_is_wrong_with_a_line_of_a_table_names_fields_not_toml(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, RATES)
        await paste(pilot, "text_encoder.* = 0.5")
        await settle(pilot)
        said = row(screen, RATES).problem_text
        assert "Remove it, or choose first for Trained under Text encoders." in said


async def test_a_field_without_effect_is_faint_and_says_why(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.laplace_scale")
        screen.action_all_rows()
        await pilot.press("up", "up", "up")
        await settle(pilot)
        assert colour_of(pilot, "Logit mean") != colour_of(pilot, "Noise offset")
        await pilot.press("right", "right")
        await settle(pilot)
        assert screen.file.get("objective.timesteps") == "logit_normal"
        assert colour_of(pilot, "Logit mean") == colour_of(pilot, "Noise offset")
        screen.go_to("objective.beta_a")
        await settle(pilot)
        assert 'Has no effect without timesteps = "beta". ' in seen.words(pilot.app)
        await pilot.press("end", "5")
        await settle(pilot)
        assert screen.file.get("objective.beta_a") == 1.05


async def test_what_the_base_is_stands_under_it(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.base")
        await checked(pilot, screen)
        said = "SDXL base, v_prediction, zero terminal SNR (the v_pred and ztsnr markers)"
        assert row(screen, "model.base").problem_text == said and in_view(row(screen, "model.base"))
        assert "SDXL base, v_prediction, zero terminal SNR" in seen.text(pilot.app)
        await pilot.press("x")
        await settle(pilot)
        assert "SDXL base, v_prediction" not in seen.words(pilot.app)
        await checked(pilot, screen)
        assert "SDXL base" not in seen.words(pilot.app)
        assert "does not exist" in row(screen, "model.base").problem_text


async def test_what_the_base_is_is_said_whatever_else_is_wrong(path):
    fake_checkpoint.write(path.parent / "plain.safetensors", markers=())
    text = path.read_text().replace("500", "0")
    base = tomllib.loads(text)["model"]["base"]
    path.write_text(text.replace(base, "plain.safetensors"))  # beside the profile
    assert places.profiles_folder() == path.parent
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.base")
        await checked(pilot, screen)
        said = "SDXL base, epsilon (no marker: epsilon is assumed, as ComfyUI does)"
        assert row(screen, "model.base").problem_text == said


async def test_a_table_is_edited_as_lines_and_written_as_a_table(path):
    path.write_text(f"{path.read_text()}\n[optimizer.rates]\n'mid_block.*' = 0.5 # half\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, RATES)
        assert row(screen, RATES).editor.text == "mid_block.* = 0.5"
        await pilot.press("end", "enter")
        await paste(pilot, "attn2 = 1e-1")
        await settle(pilot)
        assert screen.file.text.endswith("[optimizer.rates]\n'mid_block.*' = 0.5 # half\nattn2 = 0.1\n")
        assert row(screen, RATES).problem_text == ""
        await pilot.press(*["backspace"] * 30)
        await settle(pilot)
        assert row(screen, RATES).editor.text == "" and "[optimizer" not in screen.file.text
        await pilot.press("f7")
        await settle(pilot)
        assert screen.file.text == path.read_text() and row(screen, RATES).editor.text == "mid_block.* = 0.5"


async def test_the_values_of_a_table_are_those_of_toml(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "optimizer.arguments")
        lines = ("betas = [0.9, 0.99]", "safeguard_warmup = true", 'mode = "a = b"', "d0 = 1e-6", "k = 3")
        for line in lines:
            await paste(pilot, line)
            await pilot.press("enter")
        await settle(pilot)
        found = tomllib.loads(screen.file.text)["optimizer"]["arguments"]
        assert found == {"betas": [0.9, 0.99], "safeguard_warmup": True, "mode": "a = b", "d0": 1e-6, "k": 3}
        assert type(found["k"]) is int
        again = await opened(pilot, path, "optimizer.arguments")
        again.file.set("optimizer.arguments", found)
        again.refill()
        assert row(again, "optimizer.arguments").editor.text == "\n".join(lines)


async def test_a_wrong_line_of_a_table_is_named_and_kept_as_it_was_typed(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, RATES)
        typed = ["attn1 = 0.5", "attn1 = 1", "attn2", "x = half", "to_q = 2000", "= 3"]
        for line in typed:
            await paste(pilot, line)
            await pilot.press("enter")
        await settle(pilot)
        said = row(screen, RATES).problem_text.split("\n")
        remedy = " Write mid_block.* = 0.5."
        assert said == [
            '! line 2: "attn1" stands here twice. Remove one of them.',
            f'! line 3: "attn2" is not a name and its value.{remedy}',
            f'! line 4: "x = half" is not a name and its value.{remedy}',
            "! line 5: 2000 is not a number from 0 to 1,000. The most allowed is 1,000.",
            f'! line 6: "= 3" is not a name and its value.{remedy}',
        ]
        marks = {line.key: line.cells[1][0] for line in screen.query_one("#sections").lines}
        assert marks["optimizer"] == "!5"
        assert entry_lines(screen.file.get(RATES)) == typed
        screen.query_one("#sections").focus()
        await pilot.press("f10")
        await settle(pilot)
        assert row(screen, RATES).editor.has_focus


def test_the_line_of_an_entry_is_found_among_empty_ones():
    assert row_of("b", "a = 1\n\nb = 2\n") == 2
    assert row_of("c", "a = 1") is None


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
async def test_every_section_can_be_seen_and_its_problems_counted(path, size):
    path.write_text(f"{path.read_text()}[save]\nevery = -1\n")
    async with app().run_test(size=size) as pilot:
        screen = await opened(pilot, path)
        listed = screen.query_one("#sections")
        for section in sections():
            listed.select(section.name)
            await settle(pilot)
            assert f" {section.label} " in seen.words(pilot.app)
        assert "Saving         !1" in seen.text(pilot.app)
