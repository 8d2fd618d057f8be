"""The words of a choice: the chosen one is always to be seen, however narrow the line."""

import pytest

from aozora_tui.screens.choice import laid_out
from engine.contract.fields import form_fields

CHOICES = [field for field in form_fields().values() if field.kind == "choice"]


def line(words, chosen, width):
    return "".join(text for text, _ in laid_out(words, chosen, width))


@pytest.mark.parametrize("field", CHOICES, ids=lambda field: field.path)
@pytest.mark.parametrize("width", [24, 31, 33, 70, 200])
def test_the_chosen_word_is_whole_on_a_line_of_any_width(field, width):
    for chosen in field.choices:
        shown = line(field.choices, chosen, width)
        assert f"[{chosen}]" in shown and len(shown) <= width
        assert shown.startswith("\u2039") == (field.choices[0] not in shown)
        assert shown.endswith("\u203a") == (field.choices[-1] not in shown)


def test_all_words_stand_where_they_fit_and_never_move():
    words = ("one", "two", "three")
    assert line(words, "two", 17) == " one [two] three "
    assert line(words, "three", 17) == " one  two [three]"


def test_cut_ends_have_a_sign_that_leads_to_the_next_word(monkeypatch):
    words = ("first", "second", "third", "fourth")
    assert laid_out(words, "third", 17) == [
        ("\u2039", "first"),
        (" second ", "second"),
        ("[third]", "third"),
        ("\u203a", "fourth"),
    ]
    assert line(words, "first", 17) == "[first] second \u203a"
    assert line(words, "fourth", 17) == "\u2039 third [fourth]"
    monkeypatch.setenv("AOZORA_ASCII", "1")
    assert line(words, "third", 17) == "< second [third]>"


def test_a_word_wider_than_the_line_shows_its_beginning_between_both_signs():
    assert line(("a", "debiased_onetrainer", "b"), "debiased_onetrainer", 13) == "\u2039[debiased_o\u203a"


def test_a_word_that_is_no_choice_shows_the_first_ones():
    assert line(("first", "second", "third"), "else", 16) == " first  second \u203a"
